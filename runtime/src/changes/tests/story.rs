//! What a subscriber is told, story by story.

use insta::assert_json_snapshot;

use super::*;

#[test]
fn a_new_subscriber_is_told_what_is_and_then_what_changes() {
    let mut plant = Plant::new(HubSettings::default());
    let spec = spec(
        "attributes.location == 'cell-1'",
        &["attributes.location", "state.execution"],
        Mode::Latest,
    );
    let mut client = Client::subscribe(&mut plant, spec).started(&mut plant);
    client.catch_up(&mut plant);
    assert_eq!(
        client.kinds(),
        ["subscribed", "snapshot", "snapshot", "snapshot", "live"]
    );
    client.heard.clear();

    plant.happens(1, Happening::Produces);
    plant.happens(2, Happening::Moves(1));
    plant.happens(3, Happening::Moves(0));
    // Outside of the fields asked for.
    plant.happens(5, Happening::Measures(7));
    plant.look();
    client.catch_up(&mut plant);
    assert_json_snapshot!(client.heard, @r#"
    [
      {
        "at": "2026-11-18T11:06:47.000Z",
        "id": "s1",
        "patch": {
          "state": {
            "execution": "producing"
          }
        },
        "rev": 2,
        "twin": "machine/m1",
        "type": "change"
      },
      {
        "id": "s1",
        "twin": "machine/m2",
        "type": "enter"
      },
      {
        "id": "s1",
        "rev": 2,
        "twin": "machine/m2",
        "type": "snapshot",
        "value": {
          "attributes": {
            "location": "cell-1"
          }
        }
      },
      {
        "id": "s1",
        "twin": "machine/m3",
        "type": "leave"
      }
    ]
    "#);
    client.must_have(&plant);
}

#[test]
fn a_slow_subscriber_sees_the_newest_state_only() {
    let mut plant = Plant::new(HubSettings::default());
    let mut client = Client::subscribe(&mut plant, spec("", &[], Mode::Latest)).started(&mut plant);
    client.catch_up(&mut plant);
    client.heard.clear();
    for value in 0..50 {
        plant.happens(4, Happening::Measures(value));
        plant.look();
    }
    assert_eq!(plant.state.waits(client.subscriber), 1);
    assert_eq!(plant.conflated, 49);
    client.catch_up(&mut plant);
    assert_eq!(client.kinds(), ["change"]);
    assert_eq!(client.heard[0]["rev"], 51);
    client.must_have(&plant);
}

#[test]
fn what_changes_faster_than_asked_for_comes_together() {
    let mut plant = Plant::new(HubSettings::default());
    let mut client = Client::subscribe(&mut plant, spec("", &[], Mode::Latest)).started(&mut plant);
    client.catch_up(&mut plant);
    client.heard.clear();
    let mut at_once = 0;
    loop {
        plant.happens(0, Happening::Measures(at_once));
        plant.look();
        if client.take(&mut plant, 10) == 0 {
            break;
        }
        at_once += 1;
    }
    assert_eq!(at_once, 10, "what a tenth of a second allows");
    plant.happens(1, Happening::Measures(2));
    plant.look();
    assert_eq!(client.take(&mut plant, 10), 0, "the next ones wait");
    let wait = plant
        .state
        .tell(client.subscriber, ORIGIN, plant.now, &mut client.ready);
    assert_eq!(wait, Ok(Some(Duration::from_millis(10))));
    plant.now += Duration::from_millis(10);
    assert_eq!(client.take(&mut plant, 10), 2);
}

#[test]
fn every_revision_comes_in_order() {
    let mut plant = Plant::new(HubSettings::default());
    let spec = spec("id == 'm1'", &["state.execution"], Mode::Every);
    let mut client = Client::subscribe(&mut plant, spec).started(&mut plant);
    client.catch_up(&mut plant);
    for value in 0..30 {
        plant.happens(1, Happening::Measures(value));
        plant.happens(2, Happening::Measures(value));
    }
    plant.look();
    client.catch_up(&mut plant);
    let revs: Vec<u64> = client
        .heard
        .iter()
        .filter_map(|frame| frame["rev"].as_u64())
        .collect();
    assert_eq!(revs, (1..=31).collect::<Vec<_>>());
    assert_eq!(client.lost, 0);
}

#[test]
fn revisions_that_are_lost_are_said_to_be() {
    let settings = HubSettings {
        revisions_kept: 5,
        ..HubSettings::default()
    };
    let mut plant = Plant::new(settings);
    let mut client = Client::subscribe(&mut plant, spec("id == 'm1'", &[], Mode::Every)).started(&mut plant);
    client.catch_up(&mut plant);
    client.heard.clear();
    for value in 0..12 {
        plant.happens(1, Happening::Measures(value));
    }
    plant.look();
    client.catch_up(&mut plant);
    assert_eq!(client.kinds(), ["lost", "snapshot", "live"]);
    assert_eq!(
        client.heard[0]["count"], 12,
        "the five that are kept are part of the snapshot"
    );
    client.must_have(&plant);
}

#[test]
fn a_hub_that_is_overrun_says_so_to_those_who_want_every_revision() {
    let mut plant = Plant::new(HubSettings::default());
    let mut client = Client::subscribe(&mut plant, spec("", &[], Mode::Every)).started(&mut plant);
    client.catch_up(&mut plant);
    client.heard.clear();
    plant.happens(1, Happening::Measures(1));
    plant.happens(2, Happening::Measures(1));
    for group in plant.overflow() {
        plant.walk(group, 0..3);
        plant.happens(1, Happening::Measures(2));
        plant.look();
        assert_eq!(
            client.take(&mut plant, 1),
            0,
            "nothing is told before the walk is over"
        );
        plant.walk(group, 3..6);
    }
    client.catch_up(&mut plant);
    assert_eq!(client.kinds()[..2], ["lost", "snapshot"]);
    assert_eq!(client.heard[0]["count"], 2);
    client.must_have(&plant);
}

#[test]
fn who_comes_back_is_told_what_changed_meanwhile() {
    for mode in [Mode::Latest, Mode::Every] {
        let mut plant = Plant::new(HubSettings::default());
        let filter = "attributes.location == 'cell-1'";
        let mut client = Client::subscribe(&mut plant, spec(filter, &[], mode)).started(&mut plant);
        client.catch_up(&mut plant);
        client.disconnect(&mut plant);
        plant.happens(1, Happening::Measures(3));
        plant.happens(3, Happening::Moves(0));
        plant.happens(4, Happening::Moves(1));
        plant.look();
        let mut client = client.resumed(&mut plant).started(&mut plant);
        client.catch_up(&mut plant);
        let mut kinds = client.kinds();
        kinds.retain(|kind| *kind != "live");
        match mode {
            Mode::Latest => {
                kinds.sort_unstable();
                assert_eq!(kinds, ["leave", "snapshot", "snapshot", "subscribed"]);
            }
            Mode::Every => assert_eq!(kinds, ["subscribed", "change", "leave", "enter", "snapshot"]),
        }
        assert_eq!(client.lost, 0);
        client.must_have(&plant);
    }
}

#[test]
fn a_token_outlives_the_node_for_the_newest_state() {
    let mut plant = Plant::new(HubSettings::default());
    let mut client = Client::subscribe(&mut plant, spec("", &[], Mode::Latest)).started(&mut plant);
    client.catch_up(&mut plant);
    plant.happens(1, Happening::Measures(3));
    // The node starts anew: the same twins, no memory of subscriptions.
    plant.state = State::new(plant.settings.clone(), 9_000);
    let mut client = client.resumed(&mut plant).started(&mut plant);
    client.catch_up(&mut plant);
    assert_eq!(client.kinds(), ["subscribed", "snapshot", "live"]);
    client.must_have(&plant);
}

#[test]
fn a_token_for_every_revision_does_not_outlive_the_node_and_that_is_said() {
    let mut plant = Plant::new(HubSettings::default());
    let mut client = Client::subscribe(&mut plant, spec("id == 'm1'", &[], Mode::Every)).started(&mut plant);
    client.catch_up(&mut plant);
    plant.state = State::new(plant.settings.clone(), 9_000);
    let mut client = client.resumed(&mut plant).started(&mut plant);
    client.catch_up(&mut plant);
    assert_eq!(client.kinds(), ["subscribed", "lost", "snapshot", "live"]);
    assert!(client.heard[1]["count"].is_null());
    client.must_have(&plant);
}

#[test]
fn a_token_from_ahead_is_of_another_data_folder() {
    let mut plant = Plant::new(HubSettings::default());
    let mut client = Client::subscribe(&mut plant, spec("", &[], Mode::Latest)).started(&mut plant);
    client.catch_up(&mut plant);
    client.disconnect(&mut plant);
    let mut restored = Plant::new(HubSettings::default());
    restored.seqs[0] -= 1;
    let mut client =
        Client::join(&mut restored, client.spec, client.token.as_deref(), client.has).started(&mut restored);
    client.catch_up(&mut restored);
    assert_eq!(client.kinds()[..2], ["subscribed", "lost"]);
}

#[test]
fn a_subscriber_that_never_reads_takes_no_memory_but_for_the_names() {
    let settings = HubSettings {
        kept_bytes: 0,
        revisions_kept: 4,
        ..HubSettings::default()
    };
    let mut plant = Plant::new(settings);
    let mut stalled: Vec<Client> = [Mode::Latest, Mode::Every]
        .into_iter()
        .map(|mode| Client::subscribe(&mut plant, spec("", &[], mode)).started(&mut plant))
        .collect();
    for client in &mut stalled {
        client.catch_up(&mut plant);
        client.heard.clear();
    }
    for round in 0..1_000_u16 {
        plant.happens(u8::try_from(round % 6).expect("small"), Happening::Measures(1));
        plant.look();
    }
    assert_eq!(plant.state.waits(stalled[0].subscriber), 6);
    for client in &mut stalled {
        client.catch_up(&mut plant);
        client.must_have(&plant);
    }
    assert_eq!(
        stalled[0].kinds(),
        ["snapshot"; 6],
        "patches would need what the subscriber has"
    );
}
