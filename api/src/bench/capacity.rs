//! `capacity`: what a twin takes in memory, also with a plant model, alarms and hours of history, and a million of them
//! with passivation.

use std::sync::Arc;

use gemba_runtime::{clock, ingest::Message, plant::PlantModel};
use gemba_twins::{
    id::{Kind, TenantId, TwinId},
    twin::Twin,
};

use super::{BenchArgs, Case, Stand, query, resident_bytes};

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let twins = args.scaled(args.twins);
    let stand = Stand::start(args, |settings| settings.resident_twins = 10 * twins).await?;
    let before = resident_bytes();
    query::fill(&stand, twins, 1).await?;
    let after = resident_bytes();
    let id = TwinId::new(TenantId::parse("default")?, Kind::Machine, "m-0000001")?;
    let own = stand
        .node
        .twins()
        .with(&id, Twin::heap_bytes)?
        .unwrap_or_default();
    stand.stop().await;
    let machine = Case::new("machine_8_metrics")
        .with("bytes_per_twin", after.saturating_sub(before) / twins as u64)
        .with("bytes_of_its_state", own)
        .with("limit", "the aim")
        .with("limit_bytes", 4_096)
        .with("twins", twins);
    let modelled = modelled(args, twins.min(MODELLED_MAX)).await?;
    let million = args.scaled(1_000_000);
    let stand = Stand::start(args, |settings| settings.resident_twins = million / 10).await?;
    query::fill(&stand, million, 1).await?;
    let known = stand.node.twins().known();
    let case = Case::new("million")
        .with("twins", known)
        .with("resident_at_most", million / 10)
        .with("rss_bytes", resident_bytes());
    stand.stop().await;
    Ok(vec![machine, modelled, case])
}

/// A plant model has to fit into a message of a cluster: so many machines do.
const MODELLED_MAX: usize = 20_000;
/// When the readings come, in minutes before now: each bucket of a rollup is open.
const MINUTES_AGO: [i64; 5] = [75, 12, 4, 1, 0];

/// Machines of a plant model with a shift calendar and alarms, which have sent for more than an hour.
async fn modelled(args: &BenchArgs, machines: usize) -> anyhow::Result<Case> {
    let stand = Stand::start(args, |settings| settings.resident_twins = 10 * machines).await?;
    let tenant = TenantId::parse("default")?;
    let before = resident_bytes();
    stand
        .node
        .apply_plant(&tenant, PlantModel::parse(&model(machines))?, "bench")
        .await?;
    let source: Arc<str> = "bench".into();
    for (round, minutes) in MINUTES_AGO.into_iter().enumerate() {
        let at = clock::now().plus_ms(-60_000 * minutes);
        for from in (0..machines).step_by(1_000) {
            let permit = stand.node.ingest().admit(&tenant, 1_000, 300_000).await;
            let mut batch = stand.node.ingest().batch(&tenant, &source);
            for number in from..(from + 1_000).min(machines) {
                let reading = query::machine(number, round as u64);
                let timed = reading.replacen('{', &format!("{{\"timestamp\":\"{at}\","), 1);
                batch.push(Message::Reading {
                    sensor: None,
                    json: timed.as_bytes(),
                });
            }
            batch.submit(permit).await?;
        }
    }
    let after = resident_bytes();
    let id = TwinId::new(tenant, Kind::Machine, "m-0000001")?;
    let own = stand.node.twins().with(&id, Twin::heap_bytes)?;
    stand.stop().await;
    Ok(Case::new("machine_8_metrics_alarms_rollups")
        .with("bytes_per_twin", after.saturating_sub(before) / machines as u64)
        .with("bytes_of_its_state", own.unwrap_or_default())
        .with("limit", "the aim")
        .with("limit_bytes", 6_144)
        .with("twins", machines))
}

fn model(machines: usize) -> String {
    let mut text = String::from(
        "version: 1\nsite: {id: bench, timezone: Europe/Berlin}\nshifts:\n  - {name: day, start: 06:00, end: 22:00}\nmachines:\n",
    );
    for number in 0..machines {
        text.push_str(&format!("  - {{id: m-{number:07}, ideal_cycle: 2s}}\n"));
    }
    text.push_str(
        "alarms:
  - {id: hot, applies_to: machine, condition: metrics.temperature_c > 80, priority: high, deadband: 5, on_delay: 5s}
  - {id: overload, applies_to: machine, condition: metrics.power_kw > 50, priority: medium}
  - {id: down, applies_to: machine, condition: state.execution == \"down\", priority: medium, on_delay: 20s}
  - {id: silent, applies_to: machine, stale: 5m, priority: low}
",
    );
    text
}
