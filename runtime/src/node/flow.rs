//! The flow of jobs through a plant: what each location counted by the hour, put together.
//!
//! Promises: reads the location twins as they are now and no journal, so it is as cheap as a search over locations;
//! goes by whole clock hours up to now, and says from when on something is kept. The bottleneck is the location with
//! the longest mean dwell; Little's law (jobs there = rate · dwell) stands beside it as a check: the two differ while
//! the flow is not steady.

use gemba_twins::{
    LocationFlow,
    id::{Kind, TenantId},
    time::Timestamp,
};

use super::{Node, ReadError, Wanted};
use crate::clock;

const HOUR_MS: i64 = 3_600_000;
/// Locations read before giving way.
const SLICE: usize = 256;

/// The flow within a time.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantFlow {
    /// The first hour that was asked for.
    pub from: Timestamp,
    /// The end of the last one, or now.
    pub to: Timestamp,
    /// When the first of what is kept happened; `None` where no job was seen yet.
    pub kept_from: Option<Timestamp>,
    /// The locations that had jobs, in the order of their ids.
    pub locations: Vec<Place>,
    /// Jobs that went from one location to another.
    pub edges: Vec<Edge>,
}

/// One location's share.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its id.
    pub location: Box<str>,
    /// What it counted.
    pub flow: LocationFlow,
    /// Milliseconds that were counted over.
    pub span_ms: i64,
}

/// Jobs that went the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where they came from; `None` for jobs that began at `to`.
    pub from: Option<Box<str>>,
    /// Where they went.
    pub to: Box<str>,
    /// How many.
    pub count: u64,
}

impl Place {
    /// Jobs that left in an hour.
    #[must_use]
    pub fn throughput_per_h(&self) -> Option<f64> {
        (self.span_ms > 0).then(|| self.flow.left as f64 * HOUR_MS as f64 / self.span_ms as f64)
    }

    /// Mean dwell of the jobs that left, in seconds.
    #[must_use]
    pub fn dwell_s_mean(&self) -> Option<f64> {
        (self.flow.left > 0).then(|| self.flow.dwell_ms as f64 / 1_000.0 / self.flow.left as f64)
    }

    /// Jobs there on average.
    #[must_use]
    pub fn wip_mean(&self) -> Option<f64> {
        (self.span_ms > 0).then(|| self.flow.present_ms as f64 / self.span_ms as f64)
    }

    /// Jobs there on average by Little's law: rate times dwell.
    #[must_use]
    pub fn wip_by_littles_law(&self) -> Option<f64> {
        Some(self.throughput_per_h()? * self.dwell_s_mean()? / 3_600.0)
    }
}

impl PlantFlow {
    /// The location with the longest mean dwell; the first of equals.
    #[must_use]
    pub fn bottleneck(&self) -> Option<&Place> {
        let dwell = |place: &Place| place.dwell_s_mean().unwrap_or_default();
        self.locations
            .iter()
            .filter(|place| dwell(place) > 0.0)
            .reduce(|longest, place| {
                if dwell(place) > dwell(longest) {
                    place
                } else {
                    longest
                }
            })
    }
}

impl Node {
    /// The flow of a tenant's jobs from the hour of `from` to the end of the hour of `to`, at most until now.
    pub async fn flow(
        &self,
        tenant: &TenantId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<PlantFlow, ReadError> {
        let twins = self
            .twins_together(&Wanted {
                kind: Some(Kind::Location),
                ..Wanted::all(tenant.clone())
            })
            .await?;
        let now = clock::now();
        let from = from.floor_to(HOUR_MS).min(now);
        let to = to.plus_ms(HOUR_MS - 1).floor_to(HOUR_MS).min(now).max(from);
        let mut found: Vec<(Box<str>, LocationFlow)> = Vec::new();
        for shard in 0..twins.shards() {
            let mut after = None;
            loop {
                let mut visit = |twin: &gemba_twins::twin::Twin| {
                    if let Some(flow) = twin.flow(from, to).filter(|flow| flow.kept_from.is_some()) {
                        found.push((twin.id().id().into(), flow));
                    }
                };
                after = twins.slice(
                    shard,
                    tenant,
                    Some(Kind::Location),
                    after.as_ref(),
                    SLICE,
                    &mut visit,
                )?;
                if after.is_none() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(put_together(from, to, found))
    }
}

fn put_together(from: Timestamp, to: Timestamp, mut found: Vec<(Box<str>, LocationFlow)>) -> PlantFlow {
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let kept_from = found.iter().filter_map(|(_, flow)| flow.kept_from).min();
    // A rate is over the time in which anything was known.
    let span_ms = to.ms_since(kept_from.map_or(from, |kept| kept.max(from))).max(0);
    let mut edges = Vec::new();
    for (to, flow) in &found {
        for (from, count) in flow.sources.iter().filter(|(_, count)| *count > 0) {
            edges.push(Edge {
                from: (!from.is_empty()).then(|| from.clone()),
                to: to.clone(),
                count: *count,
            });
        }
    }
    edges.sort_by(|one, other| (&one.from, &one.to).cmp(&(&other.from, &other.to)));
    let locations = found
        .into_iter()
        .map(|(location, flow)| Place {
            location,
            flow,
            span_ms,
        })
        .collect();
    PlantFlow {
        from,
        to,
        kept_from,
        locations,
        edges,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-02-02T06:00:00Z.
    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(1_770_012_000_000 + minute * 60_000)
    }

    fn counted(left: u64, dwell_min: i64, sources: &[(&str, u64)]) -> LocationFlow {
        LocationFlow {
            wip: 1,
            entered: left + 1,
            left,
            dwell_ms: left as i64 * dwell_min * 60_000,
            present_ms: left as i64 * dwell_min * 60_000,
            sources: sources
                .iter()
                .map(|(name, count)| ((*name).into(), *count))
                .collect(),
            kept_from: Some(at(0)),
        }
    }

    #[test]
    fn the_slowest_location_is_the_bottleneck_and_littles_law_agrees_in_a_steady_flow() {
        let found = vec![
            ("saw".into(), counted(12, 4, &[("", 13)])),
            ("mill".into(), counted(12, 15, &[("saw", 12), ("wash", 1)])),
            ("wash".into(), counted(11, 2, &[("mill", 12)])),
        ];
        let flow = put_together(at(0), at(120), found);
        let bottleneck = flow.bottleneck().expect("a bottleneck");
        assert_eq!(&*bottleneck.location, "mill");
        assert_eq!(bottleneck.dwell_s_mean(), Some(900.0));
        assert_eq!(bottleneck.throughput_per_h(), Some(6.0));
        assert_eq!(bottleneck.wip_by_littles_law(), Some(1.5));
        assert_eq!(bottleneck.wip_mean(), Some(1.5));
        let edges: Vec<_> = flow
            .edges
            .iter()
            .map(|edge| (edge.from.as_deref(), &*edge.to, edge.count))
            .collect();
        assert_eq!(
            edges,
            [
                (None, "saw", 13),
                (Some("mill"), "wash", 12),
                (Some("saw"), "mill", 12),
                (Some("wash"), "mill", 1)
            ]
        );
    }

    #[test]
    fn a_plant_in_which_nothing_moved_has_no_bottleneck() {
        let flow = put_together(at(0), at(60), Vec::new());
        assert_eq!((flow.bottleneck(), flow.kept_from), (None, None));
        let idle = put_together(at(0), at(60), vec![("saw".into(), counted(0, 0, &[]))]);
        assert_eq!(idle.bottleneck(), None);
        assert_eq!(idle.locations[0].throughput_per_h(), Some(0.0));
    }
}
