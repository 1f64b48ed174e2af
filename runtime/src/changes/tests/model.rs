//! Whatever happens in whatever order, a client that applies what it is told ends with exactly the twins' JSON.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Deed {
    Happens(u8, Happening),
    Look,
    Walk(usize),
    Take(usize, usize),
    TimePasses(u64),
    Reconnect(usize),
    Overflow,
    Sweep,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..3_u8).prop_map(Happening::Measures),
        1 => Just(Happening::Produces),
        1 => Just(Happening::Idles),
        3 => (0..3_u8).prop_map(Happening::Moves),
        1 => (0..2_u8).prop_map(Happening::IsNamed),
        1 => Just(Happening::LosesItsName),
    ]
}

fn deed(clients: usize) -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (0..6_u8, happening()).prop_map(|(machine, what)| Deed::Happens(machine, what)),
        4 => Just(Deed::Look),
        4 => (0..clients).prop_map(Deed::Walk),
        4 => (0..clients, 1..6_usize).prop_map(|(client, frames)| Deed::Take(client, frames)),
        2 => (1..20_u64).prop_map(Deed::TimePasses),
        1 => (0..clients).prop_map(Deed::Reconnect),
        1 => Just(Deed::Overflow),
        1 => Just(Deed::Sweep),
    ]
}

fn specs() -> Vec<Spec> {
    let mut specs = Vec::new();
    for mode in [Mode::Latest, Mode::Every] {
        specs.push(spec("", &[], mode));
        specs.push(spec("attributes.location == 'cell-1'", &[], mode));
        specs.push(spec(
            "attributes.location in ['cell-0', 'cell-2'] && kind == 'machine'",
            &["state.execution"],
            mode,
        ));
        specs.push(spec(
            "state.metrics.spindle_rpm.value > 0.5",
            &["attributes", "state.metrics"],
            mode,
        ));
        specs.push(spec("id == 'm3' || size(id) == 1", &["rev", "kpis"], mode));
    }
    // Two of a kind share a group.
    specs.push(specs[0].clone());
    specs.push(specs[6].clone());
    specs
}

fn run(deeds: Vec<Deed>, settings: HubSettings) {
    let mut plant = Plant::new(settings);
    let mut clients: Vec<Client> = specs()
        .into_iter()
        .map(|spec| Client::subscribe(&mut plant, spec))
        .collect();
    for deed in deeds {
        match deed {
            Deed::Happens(machine, what) => plant.happens(machine, what),
            Deed::Look => plant.look(),
            Deed::Walk(client) => clients[client].walk(&mut plant),
            Deed::Take(client, frames) => {
                clients[client].take(&mut plant, frames);
            }
            Deed::TimePasses(ms) => plant.now += Duration::from_millis(ms),
            Deed::Reconnect(client) => {
                let broken = clients.remove(client);
                clients.insert(client, broken.resumed(&mut plant));
            }
            Deed::Overflow => {
                for group in plant.overflow() {
                    plant.walk(group, 0..3);
                    plant.walk(group, 3..6);
                }
            }
            Deed::Sweep => plant.state.sweep(plant.now),
        }
    }
    plant.look();
    for mut client in clients
        .into_iter()
        .map(|client| client.started(&mut plant))
        .collect::<Vec<_>>()
    {
        client.catch_up(&mut plant);
        assert!(client.live);
        client.must_have(&plant);
        assert_eq!(plant.state.waits(client.subscriber), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_client_ends_with_what_is(deeds in prop::collection::vec(deed(12), 0..120)) {
        run(deeds, HubSettings::default());
    }

    #[test]
    fn also_where_hardly_anything_is_kept(deeds in prop::collection::vec(deed(12), 0..120)) {
        let tight = HubSettings {
            revisions_kept: 3,
            kept_bytes: 700,
            frames_at_a_time: 2,
            token_every: Duration::from_millis(15),
            linger: Duration::from_millis(8),
            ..HubSettings::default()
        };
        run(deeds, tight);
    }
}

/// A client comes back with a token that is older than what it was told: it is told that again, and nothing else.
#[test]
fn what_was_told_after_the_token_is_told_again() {
    let deeds = vec![
        Deed::Happens(0, Happening::Measures(0)),
        Deed::Overflow,
        Deed::Walk(9),
        Deed::Take(9, 2),
        Deed::Happens(3, Happening::IsNamed(0)),
        Deed::Look,
        Deed::Take(9, 2),
        Deed::Reconnect(9),
    ];
    run(deeds, HubSettings::default());
}
