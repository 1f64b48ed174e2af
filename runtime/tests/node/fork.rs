//! What if: a twin is tried out from now or from then, with what never happened, and stays as it is.

use gemba_runtime::{
    node::{
        Node,
        fork::{Fork, ForkError, Forked},
    },
    plant::PlantModel,
};
use gemba_twins::{id::TwinId, time::Timestamp};
use serde_json::{Value, json};

use super::{acme, clock, message, node, submit, twin};

const PLANT: &str =
    "machines: [{id: cnc-1, ideal_cycle: 30s, computed: [{name: kw_each, value: power_kw / 2}]}]";

fn reading(at: Timestamp, metrics: &Value) -> String {
    json!({"sensor_id": "cnc-1", "timestamp": at, "metrics": metrics}).to_string()
}

async fn fork(node: &Node, path: &str, fork: Fork) -> Option<Forked> {
    let id = TwinId::parse(acme(), path).expect("an address");
    node.fork(&id, fork).await.expect("tried")
}

fn shown(twin: &gemba_twins::twin::Twin, at: Timestamp) -> Value {
    serde_json::to_value(twin.view(at)).expect("JSON")
}

#[tokio::test]
async fn what_never_happened_is_answered_and_nothing_live_is_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node(folder.path(), |_| {}).await;
    let model = |text: &str| PlantModel::parse(text).expect("a model");
    node.apply_plant(&acme(), model(PLANT), "kim")
        .await
        .expect("applied");
    let now = clock::now();
    let at = |s: i64| now.plus_ms(s * 1_000);
    for (s, parts) in [(-60, 0), (-30, 1), (0, 2)] {
        let json = reading(
            at(s),
            &json!({"execution": "producing", "part_count": parts, "power_kw": 6}),
        );
        submit(&node, [message(false, &json)]).await;
    }
    let live = twin(&node, "machine/cnc-1");

    // Two parts in a minute at 30 s each: effectiveness 1. Were 15 s enough for one, it would be a half.
    let events = [
        reading(
            at(30),
            &json!({"execution": "producing", "part_count": 4, "power_kw": 8}),
        ),
        reading(at(30), &json!({"execution": 5})),
        reading(at(20), &json!({"vibration_mm_s": 1})).replace("cnc-1", "cnc-2"),
        "{".to_owned(),
    ];
    let forked = fork(
        &node,
        "machine/cnc-1",
        Fork {
            at: None,
            events: events.iter().map(|json| json.as_str().into()).collect(),
            model: Some(model(&PLANT.replace("30s", "15s").replace("/ 2", "/ 4"))),
        },
    )
    .await
    .expect("a twin");
    let (before, after) = (
        shown(&forked.before, forked.before_at),
        shown(&forked.after, forked.after_at),
    );
    assert_eq!(
        (&before["kpis"]["effectiveness"], &after["kpis"]["effectiveness"]),
        (&json!(1.0), &json!(15.0 * 4.0 / 90.0))
    );
    assert_eq!(
        (
            &before["state"]["metrics"]["kw_each"]["value"],
            &after["state"]["metrics"]["kw_each"]["value"]
        ),
        (&json!(3.0), &json!(2.0))
    );
    assert_eq!(forked.after_at, at(30));
    let codes: Vec<_> = forked
        .rejected
        .iter()
        .map(|(index, rejection)| (*index, rejection.code))
        .collect();
    assert_eq!(codes[..], [(2, "fork.other_twin"), (3, "json.malformed")]);
    assert_eq!((forked.applied, forked.late), (2, 0));
    assert_eq!(twin(&node, "machine/cnc-1"), live, "the live twin");
    let id = TwinId::parse(acme(), "machine/cnc-1").expect("an address");
    assert_eq!(node.events(&id, 0, 100).await.expect("events").items.len(), 4);

    // From then: before the last reading, and before there was a twin at all.
    let first = node
        .events(&id, 0, 3)
        .await
        .expect("events")
        .items
        .pop()
        .expect("an event")
        .1;
    let then = Fork {
        at: Some(first.received_at),
        ..Fork::default()
    };
    let was = fork(&node, "machine/cnc-1", then).await.expect("a twin");
    assert_eq!(
        shown(&was.before, at(0))["state"]["metrics"]["part_count"]["value"],
        json!(1.0)
    );
    assert_eq!(was.before, was.after);
    let too_early = Fork {
        at: Some(at(-86_400)),
        ..Fork::default()
    };
    assert!(fork(&node, "machine/cnc-1", too_early).await.is_none());
    assert!(fork(&node, "machine/cnc-9", Fork::default()).await.is_none());
    let too_many = Fork {
        events: vec!["{}".into(); 10_001],
        ..Fork::default()
    };
    assert!(matches!(
        node.fork(&id, too_many).await,
        Err(ForkError::TooManyEvents(10_001))
    ));
    node.stop().await;
}
