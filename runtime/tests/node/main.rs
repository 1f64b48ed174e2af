//! A node over its data folder: what it folded it folds again, from whichever state it starts.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod damage;
mod fork;
mod history;
mod refold;
mod rejected;
mod replay;
mod tags;

use std::{fmt::Write as _, path::Path, sync::Arc};

use gemba_runtime::{
    clock,
    ingest::{Message, Outcome},
    node::Node,
    settings::NodeSettings,
};
use gemba_twins::id::{TenantId, TwinId};
use serde_json::Value;

fn acme() -> TenantId {
    TenantId::parse("acme").expect("a tenant")
}

/// A node that has recovered.
async fn node(folder: &Path, change: impl FnOnce(&mut NodeSettings)) -> Node {
    let mut settings = NodeSettings::new(folder.to_owned());
    settings.shards = 4;
    change(&mut settings);
    let node = Node::start(settings).await.expect("a node");
    node.all_recovered().await.expect("recovered");
    node
}

/// A twin as JSON, `Null` when it is not known.
fn twin(node: &Node, path: &str) -> Value {
    let id = TwinId::parse(acme(), path).expect("an address");
    let now = clock::now();
    node.twins()
        .with(&id, |twin| serde_json::to_value(twin.view(now)).expect("JSON"))
        .expect("the store")
        .unwrap_or_default()
}

/// Submits messages as one batch; answers how each ended.
async fn submit<'a>(node: &Node, messages: impl IntoIterator<Item = Message<'a>>) -> Vec<Outcome> {
    let source: Arc<str> = "test".into();
    let mut batch = node.ingest().batch(&acme(), &source);
    for message in messages {
        batch.push(message);
    }
    let permit = node.ingest().admit(&acme(), batch.len(), batch.len() * 500).await;
    batch.submit(permit).await.expect("durable")
}

/// Readings and scans of a plant, `number` onwards: machines that run, air that changes, jobs that walk.
fn plant_day(number: u64, count: u64, start_ms: i64) -> Vec<(bool, String)> {
    (number..number + count)
        .map(|number| {
            let mut json = String::new();
            let at = start_ms + number as i64 * 20;
            let scan = number % 10 == 9;
            if scan {
                let (job, step) = (number / 10 % 97, number / 970);
                write!(
                    json,
                    r#"{{"job_id":"job-{job}","location":"cell-{}","scan_timestamp":{at},"message_id":"s-{number}","operator_id":"op-{}"}}"#,
                    (job + step) % 7,
                    number % 5
                )
            } else if number % 10 == 8 {
                write!(
                    json,
                    r#"{{"sensor_id":"air-{0}","sensor_type":"AIR_QUALITY","location_id":"cell-{0}","timestamp":{at},"message_id":"a-{number}","metrics":{{"co2_ppm":{1},"pm25_ugm3":{2}}}}}"#,
                    number / 10 % 7,
                    400 + number * 7919 % 1_600,
                    number * 31 % 90
                )
            } else {
                let execution = ["producing", "producing", "producing", "idle", "down"][(number / 500 % 5) as usize];
                write!(
                    json,
                    r#"{{"sensor_id":"cnc-{}","sensor_type":"MACHINE","location_id":"cell-{}","timestamp":{at},"message_id":"m-{number}","metrics":{{"execution":"{execution}","cycle_count":{},"good_count":{},"power_kw":{}.5}}}}"#,
                    number % 40,
                    number % 7,
                    number / 400,
                    number / 420,
                    number * 13 % 17
                )
            }
            .expect("written");
            (scan, json)
        })
        .collect()
}

fn message(scan: bool, json: &str) -> Message<'_> {
    if scan {
        Message::Scan {
            reader: None,
            json: json.as_bytes(),
        }
    } else {
        Message::Reading {
            sensor: None,
            json: json.as_bytes(),
        }
    }
}
