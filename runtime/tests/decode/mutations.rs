//! Damaged messages by the hundred thousand: no decoder panics, and none gives more than it got.
//!
//! The mutations are drawn from a fixed seed, so that a failure comes again. Fuzzing proper would need a nightly
//! compiler; this runs wherever the tests run.

use gemba_runtime::decode::{
    Content, DecodedReading, METRICS_MAX, Rejection, RfidFormat, chirpstack, epcis_event, native_reading,
    native_scan, rfid_format, rfid_reads, split_batch, split_epcis, the_things_stack,
};
use gemba_twins::event::Value;

/// Damaged messages of each decoder: about a second in a debug build.
const MESSAGES: u32 = 200_000;

const READING: &str = r#"{"sensor_id":"cnc-07","sensor_type":"MACHINE","location_id":"cell-2","timestamp":"2026-11-23T07:57:28.560Z","message_id":"01JD\u00e4","metrics":{"execution":"producing","cycle_count":1042,"energy_kwh":5123.4,"ok":true,"x":null},"quality_score":0.98,"device_metadata":{"firmware":[2,1]}}"#;
const SCAN: &str = r#"{"job_id":"J-1042","location":"cell-2","product_id":"P-7","operator_id":"op-3","scan_timestamp":1795420648560,"metadata":{"a":[{}]},"message_id":"01JE"}"#;
const CHIRPSTACK: &str = include_str!("../samples/chirpstack_v4_up.json");
const THINGS_STACK: &str = include_str!("../samples/tts_v3_uplink_value_and_unit.json");

const IMPINJ: &str = include_str!("../samples/impinj_r700_tagInventory.json");
const ZEBRA: &str = include_str!("../samples/zebra_iotc_tagdata.json");
const READS: &str = r#"{"reader_id":"gate-1","reads":[{"epc":"3074257BF7194E4000001A85","rssi":-60.5,"antenna":1,"timestamp":"2026-01-15T10:00:00.123+0000"},"E2801170200014CD9B5A08EC",{"tag":"urn:epc:id:sgtin:0614141.812345.6789","time":1768471200}]}"#;
const EPCIS: &str = r#"{"type":"EPCISDocument","epcisBody":{"eventList":[{"eventID":"urn:uuid:1","type":"AggregationEvent","action":"OBSERVE","parentID":"urn:epc:id:sscc:0614141.1234567890","childEPCs":["urn:epc:id:sgtin:0614141.107346.2017"],"eventTime":"2026-04-03T20:33:31.116-06:00","eventTimeZoneOffset":"-06:00","readPoint":{"id":"urn:epc:id:sgln:0614141.07346.1234"},"bizStep":"shipping","sensorElementList":[{"sensorMetadata":{"time":"2026-04-03T20:05:00Z","deviceID":"d-1"},"sensorReport":[{"type":"Temperature","value":26.0,"uom":"CEL"}]}],"errorDeclaration":{"reason":"x"}}]}}"#;

/// Marsaglia's xorshift: repeatable, and all the chance that is needed here.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit.max(1)
    }

    /// Damages a message in one to four places.
    fn damage(&mut self, message: &mut Vec<u8>) {
        const TOKENS: [&[u8]; 20] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b",",
            b":",
            b"null",
            b"NaN",
            b"1e999",
            b"-",
            b"\\u0000",
            b"\\ud800",
            b"\xff",
            b"\0",
            b"0.",
            b"99999999999999999999",
            b"[[[[[[[[",
            b"{\"\":",
            b"\xf0\x9f\x92\xa9",
        ];
        for _ in 0..=self.below(4) {
            let at = self.below(message.len());
            match self.below(6) {
                0 if !message.is_empty() => message[at] ^= 1 << self.below(8),
                1 => message.truncate(at),
                2 if !message.is_empty() => {
                    let end = (at + self.below(16)).min(message.len());
                    message.drain(at..end);
                }
                3 => {
                    let end = (at + self.below(64)).min(message.len());
                    let part = message[at..end].to_vec();
                    let to = self.below(message.len());
                    message.splice(to..to, part);
                }
                _ => {
                    let token = TOKENS[self.below(TOKENS.len())];
                    message.splice(at..at, token.iter().copied());
                }
            }
        }
    }
}

/// Gives damaged messages to a decoder; answers how many were still read.
fn survive(seed: u64, sample: &str, decode: impl FnMut(&[u8]) -> bool) -> u32 {
    survive_so_many(MESSAGES, seed, sample, decode)
}

fn survive_so_many(messages: u32, seed: u64, sample: &str, mut decode: impl FnMut(&[u8]) -> bool) -> u32 {
    let mut chance = Chance(seed);
    let mut message = Vec::with_capacity(2 * sample.len());
    let mut read = 0;
    for _ in 0..messages {
        message.clear();
        message.extend_from_slice(sample.as_bytes());
        chance.damage(&mut message);
        read += u32::from(decode(&message));
    }
    read
}

fn sane(message: &[u8], decoded: Result<DecodedReading, Rejection>) -> bool {
    match decoded {
        Ok(reading) => {
            let of_value = |value: &Value| match value {
                Value::Number(number) => {
                    assert!(number.is_finite());
                    0
                }
                Value::Text(text) => text.len(),
                Value::Bool(_) => 0,
            };
            // Nested names repeat those above them, so a metric may be longer than what was written for it.
            let metrics: usize = reading
                .metrics
                .iter()
                .map(|(name, value)| name.len().min(16) + of_value(value))
                .sum();
            assert!(
                metrics <= message.len() + 64,
                "{} bytes of {}",
                metrics,
                message.len()
            );
            assert!((1..=METRICS_MAX).contains(&reading.metrics.len()));
            true
        }
        Err(rejection) => {
            assert!(rejection.detail.len() < 600, "{rejection}");
            assert!(!rejection.detail.is_empty() && rejection.code.contains('.'));
            false
        }
    }
}

#[test]
fn damaged_readings_are_read_or_rejected() {
    let read = survive(1, READING, |message| {
        sane(message, native_reading(Some("cnc-07"), message))
    });
    // If nearly all or none were read, the damage would not reach what it is meant to test.
    assert!((MESSAGES / 50..MESSAGES / 2).contains(&read), "{read} were read");
}

#[test]
fn damaged_scans_are_read_or_rejected() {
    let read = survive(2, SCAN, |message| match native_scan(None, message) {
        Ok(scan) => {
            assert!(scan.metadata.is_none_or(|text| text.len() <= message.len()));
            true
        }
        Err(rejection) => {
            assert!(rejection.detail.len() < 600, "{rejection}");
            false
        }
    });
    assert!((MESSAGES / 50..MESSAGES / 2).contains(&read), "{read} were read");
}

#[test]
fn damaged_chirpstack_events_are_read_or_rejected() {
    let topic = "application/a/device/b/event/up";
    let read = survive(3, CHIRPSTACK, |message| sane(message, chirpstack(topic, message)));
    assert!(
        (MESSAGES / 50..MESSAGES * 2 / 3).contains(&read),
        "{read} were read"
    );
}

#[test]
fn damaged_messages_of_the_things_stack_are_read_or_rejected() {
    let topic = "v3/air@tenant1/devices/iam-hall/up";
    let read = survive(4, THINGS_STACK, |message| {
        sane(message, the_things_stack(topic, message))
    });
    assert!(
        (MESSAGES / 50..MESSAGES * 2 / 3).contains(&read),
        "{read} were read"
    );
}

#[test]
fn damaged_batches_are_cut_or_refused() {
    let batch = format!("[{READING},\n{SCAN},\n{READING}]");
    survive(5, &batch, |body| {
        [Content::Json, Content::NdJson]
            .into_iter()
            .all(|content| match split_batch(body, content) {
                Ok(items) => {
                    assert!(items.iter().map(|item| item.len()).sum::<usize>() <= body.len());
                    true
                }
                Err(rejection) => {
                    assert!(rejection.detail.len() < 600, "{rejection}");
                    false
                }
            })
    });
}

#[test]
fn damaged_reads_of_tags_are_read_or_rejected() {
    for (seed, sample, format) in [
        (6, IMPINJ, RfidFormat::Impinj),
        (7, ZEBRA, RfidFormat::Zebra),
        (8, READS, RfidFormat::Generic),
    ] {
        let read = survive_so_many(MESSAGES / 4, seed, sample, |message| {
            let _ = rfid_format(message);
            match rfid_reads(format, message) {
                Ok(reads) => {
                    // The name of a reader is said once for all its reads.
                    let size: usize = reads
                        .iter()
                        .map(|read| read.epc.uri.len().saturating_sub(40))
                        .sum();
                    assert!(size <= message.len(), "{size} bytes of {}", message.len());
                    true
                }
                Err(rejection) => {
                    assert!(rejection.detail.len() < 600, "{rejection}");
                    assert!(!rejection.detail.is_empty() && rejection.code.contains('.'));
                    false
                }
            }
        });
        assert!(
            (MESSAGES / 50..MESSAGES * 2 / 3).contains(&read),
            "{read} were read"
        );
    }
}

#[test]
fn damaged_epcis_events_are_read_or_rejected() {
    let read = survive(9, EPCIS, |message| {
        let events = match split_epcis(message) {
            Ok(events) => events,
            Err(rejection) => {
                assert!(rejection.detail.len() < 600, "{rejection}");
                return false;
            }
        };
        assert!(events.iter().map(|event| event.len()).sum::<usize>() <= message.len());
        events.iter().all(|event| match epcis_event(event) {
            Ok(event) => {
                assert!(event.scans.iter().all(|scan| !scan.places.is_empty()));
                event
                    .readings
                    .into_iter()
                    .all(|reading| sane(message, Ok(reading)))
            }
            Err(rejection) => {
                assert!(rejection.detail.len() < 600, "{rejection}");
                false
            }
        })
    });
    assert!(
        (MESSAGES / 50..MESSAGES * 2 / 3).contains(&read),
        "{read} were read"
    );
}
