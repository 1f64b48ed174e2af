//! The native topics below `gemba/v1/{tenant}/`: `readings/{sensor}`, `scans/{reader}`, `rfid/{reader}` and
//! `epcis/{source}`.

use gemba_twins::id::TenantId;

use crate::{decode::rfid_format, ingest::Message};

/// What a topic says of its message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Topic<'a> {
    Reading(&'a str),
    Scan(&'a str),
    /// Reads of a reader, in whichever format.
    Rfid(&'a str),
    Epcis,
    /// It names another tenant.
    Foreign,
    Unknown,
}

impl<'a> Topic<'a> {
    pub(super) fn parse(topic: &'a str, tenant: &TenantId) -> Self {
        let Some(rest) = topic.strip_prefix("gemba/v1/") else {
            return Self::Unknown;
        };
        let mut parts = rest.split('/');
        let (owner, kind, id, more) = (parts.next(), parts.next(), parts.next(), parts.next());
        match (owner, kind, id, more) {
            (Some(owner), ..) if owner != tenant.as_str() => Self::Foreign,
            (_, Some("readings"), Some(sensor), None) => Self::Reading(sensor),
            (_, Some("scans"), Some(reader), None) => Self::Scan(reader),
            (_, Some("rfid"), Some(reader), None) => Self::Rfid(reader),
            (_, Some("epcis"), Some(_), None) => Self::Epcis,
            _ => Self::Unknown,
        }
    }

    /// The message for the ingest; what cannot be used says why.
    pub(super) fn message(self, topic: &'a str, payload: &'a [u8]) -> Message<'a> {
        let refused = |code, detail: &str| Message::Refused {
            topic,
            payload,
            code,
            detail: detail.to_owned(),
        };
        match self {
            Self::Reading(sensor) => Message::Reading {
                sensor: Some(sensor),
                json: payload,
            },
            Self::Scan(reader) => Message::Scan {
                reader: Some(reader),
                json: payload,
            },
            Self::Rfid(reader) => Message::Rfid {
                format: rfid_format(payload),
                reader: Some(reader),
                payload,
            },
            Self::Epcis => Message::Epcis { payload },
            Self::Foreign => refused(
                "mqtt.tenant_mismatch",
                "the topic names another tenant (use the tenant of the credential)",
            ),
            Self::Unknown => refused(
                "mqtt.topic_unknown",
                "nothing reads this topic (publish to gemba/v1/{tenant}/readings/{sensor_id} or …/scans/{reader_id})",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_says_what_its_message_is() {
        let tenant = TenantId::parse("acme").expect("a tenant");
        for (topic, wanted) in [
            ("gemba/v1/acme/readings/cnc-07", Topic::Reading("cnc-07")),
            ("gemba/v1/acme/scans/gate-1", Topic::Scan("gate-1")),
            ("gemba/v1/acme/rfid/gate-1", Topic::Rfid("gate-1")),
            ("gemba/v1/acme/epcis/wms", Topic::Epcis),
            ("gemba/v1/globex/readings/cnc-07", Topic::Foreign),
            ("gemba/v1/acme/readings", Topic::Unknown),
            ("gemba/v1/acme/readings/a/b", Topic::Unknown),
            ("plant/acme", Topic::Unknown),
        ] {
            assert_eq!(Topic::parse(topic, &tenant), wanted, "{topic}");
        }
    }
}
