//! A day of 45 machines through a node: in order, in any order within the lateness window, and with every message up
//! to three times. The KPIs are those that the simulation expects by its own calculation.

use std::{sync::Arc, time::Duration};

use gemba_runtime::{clock, ingest::Message, node::Node, plant::PlantModel, settings::NodeSettings};
use gemba_twins::{
    id::{TenantId, TwinId},
    time::Timestamp,
};
use serde_json::Value as Json;

use super::{Plant, Publication, Random};

const MACHINES: usize = 45;
/// The day is played in steps of five minutes, so the window is that much wider.
const STEP_MS: i64 = 300_000;
const STEPS: i64 = 288;
const LATENESS_MS: i64 = 3_000_000;

fn tenant() -> TenantId {
    TenantId::parse("acme").expect("a tenant")
}

struct Day {
    model: String,
    messages: Vec<(Timestamp, Publication)>,
    expected: Json,
}

fn day() -> Day {
    let mut plant = Plant::new(MACHINES, 23);
    plant.lateness_ms = LATENESS_MS;
    let mut plant = plant.recorded();
    let model = plant.model_text().replace("stale_after: 30s", "stale_after: 6d");
    // A machine that is silent for six days is stale, so the day is one of this week. It begins within a shift.
    let start = clock::now()
        .floor_to(86_400_000)
        .plus_ms(-2 * 86_400_000 - 140 * 60_000);
    let mut messages = Vec::new();
    for step in 0..STEPS {
        let now = start.plus_ms(step * STEP_MS);
        messages.extend(plant.step(now).into_iter().map(|publication| (now, publication)));
    }
    Day {
        model,
        messages,
        expected: plant.expected().expect("a recorded plant"),
    }
}

/// Feeds a node with messages in this order, and compares what it shows with what is expected.
async fn assert_as_expected(day: &Day, order: &[&Publication]) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = NodeSettings::new(folder.path().to_owned());
    settings.shards = 4;
    let node = Node::start(settings).await.expect("a node");
    node.all_recovered().await.expect("recovered");
    let model = PlantModel::parse(&day.model).expect("a plant model");
    node.apply_plant(&tenant(), model, "test").await.expect("applied");
    let source: Arc<str> = "test".into();
    for part in order.chunks(500) {
        let mut batch = node.ingest().batch(&tenant(), &source);
        for publication in part {
            let json = publication.payload.as_bytes();
            batch.push(match publication.topic.split_once('/') {
                Some(("scans", _)) => Message::Scan { reader: None, json },
                _ => Message::Reading { sensor: None, json },
            });
        }
        let permit = node
            .ingest()
            .admit(&tenant(), batch.len(), 300 * batch.len())
            .await;
        batch.submit(permit).await.expect("durable");
    }
    let mut compared = 0;
    for (twin, kpis) in day.expected["twins"].as_object().expect("twins") {
        // Jobs tell of scans in the order of their arrival, and their time at a place is not this test's matter.
        if twin.starts_with("job/") {
            continue;
        }
        let id = TwinId::parse(tenant(), twin).expect("an address");
        let wrong = |shown: &Json| {
            let kpis = kpis.as_object().into_iter().flatten();
            // Nor is how jobs went through a place: within a step of this day a job is scanned twice at one moment.
            let of_jobs = |name: &str| {
                let rates = matches!(name, "throughput_per_h" | "cycle_time_s" | "takt_s");
                matches!(name, "wip" | "visits")
                    || name.starts_with("dwell")
                    || (rates && twin.starts_with("location/"))
            };
            let ours = kpis.filter(|(name, _)| !of_jobs(name));
            ours.map(|(name, wanted)| (name.clone(), wanted.clone(), shown["kpis"][name].clone()))
                .find(|(_, wanted, got)| match (wanted.as_f64(), got.as_f64()) {
                    (Some(wanted), Some(got)) => (wanted - got).abs() > 1e-9 * wanted.abs().max(1.0),
                    _ => !(wanted.is_null() && got.is_null()),
                })
        };
        // What a machine tells its line is on its way for a moment.
        let mut turns = 0;
        loop {
            let view =
                |twin: &gemba_twins::twin::Twin| serde_json::to_value(twin.view(clock::now())).expect("JSON");
            let shown = node
                .twins()
                .with(&id, view)
                .expect("the store")
                .unwrap_or_default();
            let Some((name, wanted, got)) = wrong(&shown) else {
                break;
            };
            turns += 1;
            assert!(turns < 1_000, "{twin} {name}: expected {wanted}, shown {got}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        compared += kpis.as_object().map_or(0, |kpis| kpis.len());
    }
    assert!(compared > 1_000, "only {compared} KPIs were compared");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_in_any_order_and_repeated_leads_to_the_expected_figures() {
    let day = day();
    let in_order: Vec<&Publication> = day.messages.iter().map(|(_, publication)| publication).collect();
    assert_as_expected(&day, &in_order).await;

    let mut random = Random::new(5);
    let mut arrivals: Vec<(i64, &Publication)> = Vec::new();
    for (at, publication) in &day.messages {
        for _ in 0..1 + random.below(3) {
            let delay = random.between(0.0, LATENESS_MS as f64) as i64;
            arrivals.push((at.ms() + delay, publication));
        }
    }
    arrivals.sort_by_key(|(at, _)| *at);
    let shuffled: Vec<&Publication> = arrivals.into_iter().map(|(_, publication)| publication).collect();
    assert!(shuffled.len() > in_order.len() * 3 / 2);
    assert_as_expected(&day, &shuffled).await;
}
