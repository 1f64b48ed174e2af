//! The KPIs of twins as flat topics: `gemba/v1/{tenant}/kpis/{kind}/{id}`, for those who read MQTT and nothing else.
//!
//! Promises: whoever subscribes is told each twin that fits at once, as a retained message, then again when a KPI
//! changes, at most once a second. A message is one JSON object of numbers; a KPI that has no data is left out, so no
//! field ever changes its type. QoS 0: what is told is the newest, not each. Ends with its connection.

use std::sync::Arc;

use gemba_twins::{
    id::{Kind, TenantId, TwinId},
    twin::Twin,
};
use serde::Deserialize;
use tokio::{sync::mpsc, task::JoinSet};

use super::{answer, packet::Version, writing::Out};
use crate::{
    changes::{FrameKind, Hub, Spec, SubscribeError},
    filter::Filter,
    table::Twins,
};

/// Flushes per second: Grafana's MQTT source draws no faster.
const RATE_HZ: f64 = 1.0;
/// Filters of one connection: each is a subscription.
const FILTERS_MAX: usize = 16;

/// Where KPIs come from.
#[derive(Clone)]
pub struct KpiSource {
    /// Tells what changes.
    pub hub: Hub,
    /// What there is.
    pub twins: Arc<Twins>,
}

/// The subscriptions of one connection to KPIs.
pub(super) struct KpiTopics {
    source: KpiSource,
    tenant: TenantId,
    version: Version,
    tasks: JoinSet<()>,
    filters: Vec<(String, tokio::task::AbortHandle)>,
}

/// What a topic filter asks for: below `gemba/v1/{tenant}/kpis/`, of which kind, and which twin.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    kind: Option<Kind>,
    id: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn parse(filter: &'a str, tenant: &TenantId) -> Option<Self> {
        let rest = filter
            .strip_prefix("gemba/v1/")?
            .strip_prefix(tenant.as_str())?
            .strip_prefix("/kpis/")?;
        let mut levels = rest.split('/');
        let (kind, id, more) = (levels.next()?, levels.next(), levels.next());
        let kind = match kind {
            "#" if id.is_none() => return Some(Self { kind: None, id: None }),
            "+" => None,
            word => Some(Kind::parse(word).ok()?),
        };
        match (id?, more) {
            ("+", None) | ("#", None) | ("+", Some("#")) => Some(Self { kind, id: None }),
            (id, None) if !id.is_empty() && !id.contains(['+', '#', '"', '\\']) => {
                Some(Self { kind, id: Some(id) })
            }
            _ => None,
        }
    }

    /// The same as a filter of subscriptions.
    fn filter(&self) -> Option<String> {
        let kind = self.kind.map(|kind| format!("kind == \"{kind}\""));
        let id = self.id.map(|id| format!("id == \"{id}\""));
        let all: Vec<String> = kind.into_iter().chain(id).collect();
        (!all.is_empty()).then(|| all.join(" && "))
    }
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    twin: &'a str,
}

impl KpiTopics {
    pub(super) fn new(source: KpiSource, tenant: TenantId, version: Version) -> Self {
        Self {
            source,
            tenant,
            version,
            tasks: JoinSet::new(),
            filters: Vec::new(),
        }
    }

    /// Whether a filter asks for KPIs of this tenant.
    pub(super) fn fits(&self, filter: &str) -> bool {
        Asked::parse(filter, &self.tenant).is_some()
    }

    /// Begins to tell what a filter asks for; false where it cannot be had. The same filter again is told anew.
    pub(super) fn subscribe(&mut self, filter: &str, out: &mpsc::Sender<Out>) -> bool {
        self.unsubscribe(filter);
        let Some(asked) = Asked::parse(filter, &self.tenant) else {
            return false;
        };
        if self.filters.len() >= FILTERS_MAX {
            return false;
        }
        let Ok(subscription) = self.open(&asked) else {
            return false;
        };
        let tell = tell(
            subscription,
            self.source.twins.clone(),
            self.tenant.clone(),
            self.version,
            out.clone(),
        );
        let task = self.tasks.spawn(tell);
        self.filters.push((filter.to_owned(), task));
        true
    }

    fn open(&self, asked: &Asked<'_>) -> Result<crate::changes::Subscription, SubscribeError> {
        let unavailable = |detail: String| SubscribeError {
            code: "filter.invalid",
            detail,
        };
        let filter = asked
            .filter()
            .map(|text| Filter::compile(&text))
            .transpose()
            .map_err(|error| unavailable(error.to_string()))?;
        let spec = Spec {
            id: "kpis".into(),
            filter,
            fields: Some(vec!["kpis".into()]),
            max_rate_hz: Some(RATE_HZ),
            ..Spec::default()
        };
        self.source.hub.subscribe(&self.tenant, spec)
    }

    /// Ends what a filter began.
    pub(super) fn unsubscribe(&mut self, filter: &str) {
        self.filters.retain(|(known, task)| {
            let goes = known == filter;
            if goes {
                task.abort();
            }
            !goes
        });
        // Tasks that have ended leave nothing behind.
        while self.tasks.try_join_next().is_some() {}
    }
}

async fn tell(
    mut subscription: crate::changes::Subscription,
    twins: Arc<Twins>,
    tenant: TenantId,
    version: Version,
    out: mpsc::Sender<Out>,
) {
    while let Some(frame) = subscription.next().await {
        let first = match frame.kind() {
            FrameKind::Snapshot => true,
            FrameKind::Change => false,
            _ => continue,
        };
        let text = frame.text();
        let Some(id) = serde_json::from_str::<Told<'_>>(&text)
            .ok()
            .and_then(|told| TwinId::parse(tenant.clone(), told.twin).ok())
        else {
            continue;
        };
        // A twin that cannot be read now is told with its next change.
        let Ok(Some(payload)) = twins.with(&id, payload) else {
            continue;
        };
        let topic = format!("gemba/v1/{tenant}/kpis/{}/{}", id.kind(), id.id());
        let packet = answer::publish(version, &topic, payload.as_bytes(), first);
        if out.send(Out::Bytes(packet)).await.is_err() {
            return;
        }
    }
}

/// All KPIs that there are, one level, numbers only.
fn payload(twin: &Twin) -> String {
    let values: serde_json::Map<String, serde_json::Value> = twin
        .kpi_values()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    serde_json::Value::Object(values).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_filter_asks_for_twins_of_its_own_tenant() {
        let tenant = TenantId::parse("acme").expect("a tenant");
        for (filter, wanted) in [
            ("gemba/v1/acme/kpis/#", Some(None)),
            ("gemba/v1/acme/kpis/+/+", Some(None)),
            ("gemba/v1/acme/kpis/machine/+", Some(Some("kind == \"machine\""))),
            ("gemba/v1/acme/kpis/machine/#", Some(Some("kind == \"machine\""))),
            (
                "gemba/v1/acme/kpis/machine/cnc-07",
                Some(Some("kind == \"machine\" && id == \"cnc-07\"")),
            ),
            ("gemba/v1/acme/kpis/+/cnc-07", Some(Some("id == \"cnc-07\""))),
            ("gemba/v1/globex/kpis/#", None),
            ("gemba/v1/+/kpis/#", None),
            ("gemba/v1/acme2/kpis/#", None),
            ("gemba/v1/acme/kpis/robot/+", None),
            ("gemba/v1/acme/kpis/machine", None),
            ("gemba/v1/acme/kpis/machine/a/b", None),
            ("gemba/v1/acme/kpis/machine/\" || true", None),
            ("gemba/v1/acme/readings/#", None),
            ("#", None),
        ] {
            let asked = Asked::parse(filter, &tenant).map(|asked| asked.filter());
            assert_eq!(asked.as_ref().map(Option::as_deref), wanted, "{filter}");
        }
    }
}
