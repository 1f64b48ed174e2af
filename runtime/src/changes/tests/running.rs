//! The running hub: tasks, locks and sockets' ends, over a table of twins as a node has it.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::*;
use crate::{
    changes::{Hub, SubscribeError, Subscription, Wants},
    store::Store,
    table::{Entry, Twins},
};

struct Running {
    hub: Hub,
    twins: Arc<Twins>,
    seq: u64,
    _folder: TempDir,
}

impl Running {
    fn new(settings: HubSettings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("state.redb"), 4, 1 << 20).expect("a store");
        let twins = Arc::new(Twins::new(4, Arc::new(store)));
        let hub = Hub::new(settings);
        hub.attach(twins.clone());
        Self {
            hub,
            twins,
            seq: 0,
            _folder: folder,
        }
    }

    /// What a shard does for one event.
    fn measures(&mut self, tenant: &str, machine: &str, value: f64) {
        let tenant = TenantId::parse(tenant).expect("a tenant");
        let id = TwinId::new(tenant.clone(), Kind::Machine, machine).expect("an id");
        let shard = self.twins.shard_of(&id);
        let slot = match self.twins.tables[shard].entry(&id) {
            Some(Entry::Resident(slot)) => slot,
            _ => TwinSlot::new(Twin::new(id.clone()), 0),
        };
        self.twins.tables[shard].put(id.clone(), Entry::Resident(slot.clone()));
        self.seq += 1;
        let position = Position {
            shard: u16::try_from(shard).expect("small"),
            seq: self.seq,
        };
        let at = Timestamp::from_ms(1_795_000_000_000 + i64::try_from(self.seq).expect("small"));
        let reading = Reading {
            sensor_id: "s".into(),
            metrics: vec![("spindle_rpm".into(), Measured::Number(value))],
            ..Reading::default()
        };
        let event = Event {
            twin: id,
            at,
            received_at: at,
            source: "test".into(),
            message_id: "".into(),
            origin: None,
            body: Body::Reading(reading),
        };
        let mut state = slot.lock();
        state.twin.fold(position, &event, &mut Effects::default());
        if self.hub.wants(&tenant) == Wants::Every {
            self.hub.publish_revision(&state.twin);
        }
        drop(state);
        if self.hub.wants(&tenant) != Wants::None {
            self.hub.publish(&tenant, &[slot]);
        }
        self.twins.tables[shard].set_folded(self.seq);
    }

    fn subscribe(&self, tenant: &str, spec: Spec) -> Subscription {
        self.hub
            .subscribe(&TenantId::parse(tenant).expect("a tenant"), spec)
            .expect("a subscription")
    }
}

async fn hear_until(subscription: &mut Subscription, kind: FrameKind) -> Vec<Value> {
    let mut heard = Vec::new();
    loop {
        let frame = subscription.next().await.expect("a frame");
        heard.push(serde_json::from_str(&frame.text()).expect("json"));
        if frame.kind() == kind {
            return heard;
        }
    }
}

#[tokio::test]
async fn changes_reach_their_own_tenant_only() {
    let mut running = Running::new(HubSettings::default());
    running.measures("acme", "m1", 1.0);
    running.measures("umbrella", "m1", 1.0);
    let fields = &["state.metrics.spindle_rpm.value"];
    let mut acme = running.subscribe("acme", spec("", fields, Mode::Latest));
    let mut umbrella = running.subscribe("umbrella", spec("", fields, Mode::Latest));
    for subscription in [&mut acme, &mut umbrella] {
        assert_eq!(hear_until(subscription, FrameKind::Live).await.len(), 3);
    }
    running.measures("acme", "m1", 2.0);
    running.measures("umbrella", "m1", 3.0);
    for (subscription, wanted) in [(&mut acme, 2.0), (&mut umbrella, 3.0)] {
        let heard = hear_until(subscription, FrameKind::Change).await;
        assert_eq!(
            heard[0]["patch"]["state"]["metrics"]["spindle_rpm"]["value"],
            wanted
        );
        assert!(subscription.try_next().is_none());
    }
}

#[tokio::test]
async fn nobody_is_asked_for_changes_when_nobody_listens() {
    let mut running = Running::new(HubSettings {
        linger: Duration::ZERO,
        ..HubSettings::default()
    });
    let tenant = tenant();
    running.measures("acme", "m1", 1.0);
    assert_eq!(running.hub.wants(&tenant), Wants::None);
    let latest = running.subscribe("acme", spec("", &[], Mode::Latest));
    assert_eq!(running.hub.wants(&tenant), Wants::Latest);
    let every = running.subscribe("acme", spec("", &[], Mode::Every));
    assert_eq!(running.hub.wants(&tenant), Wants::Every);
    drop(every);
    drop(latest);
    assert_eq!(running.hub.wants(&tenant), Wants::None);
    // It begins anew for who comes next.
    let mut again = running.subscribe("acme", spec("", &[], Mode::Latest));
    hear_until(&mut again, FrameKind::Live).await;
    running.measures("acme", "m1", 2.0);
    hear_until(&mut again, FrameKind::Change).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_come_while_the_plant_runs_miss_nothing() {
    let mut running = Running::new(HubSettings::default());
    for machine in 0..300 {
        running.measures("acme", &format!("m{machine}"), 0.0);
    }
    let (hub, twins) = (running.hub.clone(), running.twins.clone());
    let folding = tokio::task::spawn_blocking(move || {
        for round in 1..=40 {
            for machine in 0..300 {
                running.measures("acme", &format!("m{machine}"), f64::from(round));
            }
        }
        running
    });
    let mut watching = Vec::new();
    for (number, mode) in [Mode::Latest, Mode::Every, Mode::Latest, Mode::Every]
        .into_iter()
        .enumerate()
    {
        let filter = if number < 2 {
            "state.metrics.spindle_rpm.value > 10"
        } else {
            "id in ['m7', 'm8']"
        };
        let wanted = spec(filter, &["state.metrics"], mode);
        let mut subscription = hub.subscribe(&tenant(), wanted).expect("a subscription");
        watching.push(tokio::spawn(async move {
            let mut at_the_end = BTreeSet::new();
            let mut revs: BTreeMap<String, u64> = BTreeMap::new();
            while at_the_end.len() < if number < 2 { 300 } else { 2 } {
                let frame = subscription.next().await.expect("a frame");
                let json: Value = serde_json::from_str(&frame.text()).expect("json");
                let twin = json["twin"].as_str().unwrap_or_default().to_owned();
                match frame.kind() {
                    FrameKind::Lost => revs.clear(),
                    FrameKind::Snapshot | FrameKind::Change => {
                        let rev = json["rev"].as_u64().expect("a rev");
                        let before = revs.insert(twin.clone(), rev);
                        if let (FrameKind::Change, Mode::Every) = (frame.kind(), mode) {
                            assert_eq!(before, Some(rev - 1), "{twin}");
                        }
                        assert!(before <= Some(rev), "{twin} went back from {before:?} to {rev}");
                        if rev == 41 {
                            at_the_end.insert(twin);
                        }
                    }
                    FrameKind::Leave | FrameKind::Error => panic!("{json}"),
                    FrameKind::Subscribed | FrameKind::Live | FrameKind::Enter => {}
                }
            }
        }));
    }
    for watcher in watching {
        watcher
            .await
            .expect("a watcher that saw all machines at their end");
    }
    drop(folding.await.expect("the plant"));
    drop(twins);
}

#[tokio::test]
async fn a_token_carries_over_to_the_next_connection() {
    let mut running = Running::new(HubSettings::default());
    for machine in ["m1", "m2", "m3"] {
        running.measures("acme", machine, 1.0);
    }
    let wanted = spec("kind == 'machine'", &[], Mode::Latest);
    let mut first = running.subscribe("acme", wanted.clone());
    let heard = hear_until(&mut first, FrameKind::Live).await;
    let token = heard
        .last()
        .and_then(|live| live["resume"].as_str())
        .expect("a token")
        .to_owned();
    drop(first);
    running.measures("acme", "m2", 2.0);
    let mut second = running.subscribe(
        "acme",
        Spec {
            resume: Some(token.clone()),
            ..wanted.clone()
        },
    );
    let heard = hear_until(&mut second, FrameKind::Live).await;
    let kinds: Vec<_> = heard
        .iter()
        .map(|frame| frame["type"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(kinds, ["subscribed", "snapshot", "live"]);
    assert_eq!(
        (&heard[0]["twins"], &heard[1]["twin"]),
        (&3.into(), &"machine/m2".into())
    );

    running.hub.set_origin(5);
    let other = Spec {
        resume: Some(token),
        ..spec("", &[], Mode::Latest)
    };
    let refused = running
        .hub
        .subscribe(&tenant(), other)
        .expect_err("another filter");
    assert_eq!(refused.code, "resume.invalid");
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_by_name() {
    let running = Running::new(HubSettings {
        subscriptions_max: 1,
        ..HubSettings::default()
    });
    let refused =
        |spec: Spec| -> SubscribeError { running.hub.subscribe(&tenant(), spec).expect_err("refused") };
    let plain = spec("", &[], Mode::Latest);
    assert_eq!(
        refused(Spec {
            id: String::new(),
            ..plain.clone()
        })
        .code,
        "subscription.invalid"
    );
    assert_eq!(
        refused(Spec {
            max_rate_hz: Some(0.0),
            ..plain.clone()
        })
        .code,
        "rate.invalid"
    );
    assert_eq!(
        refused(Spec {
            max_rate_hz: Some(f64::NAN),
            ..plain.clone()
        })
        .code,
        "rate.invalid"
    );
    assert_eq!(
        refused(Spec {
            fields: Some(vec!["a..b".into()]),
            ..plain.clone()
        })
        .code,
        "fields.invalid"
    );
    assert_eq!(
        refused(Spec {
            resume: Some("x".into()),
            ..plain.clone()
        })
        .code,
        "resume.invalid"
    );
    let open = running.subscribe("acme", plain.clone());
    assert_eq!(refused(plain.clone()).code, "stream.too_many");
    drop(open);
    running.subscribe("acme", plain);
}

#[tokio::test]
async fn a_subscription_ends_with_its_hub() {
    let running = Running::new(HubSettings::default());
    let mut subscription = running.subscribe("acme", spec("", &[], Mode::Latest));
    hear_until(&mut subscription, FrameKind::Live).await;
    let waiting = tokio::spawn(async move { subscription.next().await.is_none() });
    drop(running);
    assert!(waiting.await.expect("it ends"));
}
