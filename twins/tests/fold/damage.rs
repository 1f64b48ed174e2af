//! Bytes that were damaged, or never were an event, a snapshot or a rollup.

use gemba_twins::{
    event::{Event, Value},
    id::Kind,
    rollup::RollupRow,
    twin::Twin,
};
use proptest::{collection::vec, option, prelude::*};

use super::{at, bytes_of, folded, id, reading, restored, streams::any_stream};

/// A machine with something in every field that a snapshot has of one.
fn busy_machine() -> Twin {
    let word = |second: i64| Value::Text(["producing", "idle", "down"][second as usize / 30 % 3].into());
    let events: Vec<_> = (0..400)
        .step_by(30)
        .map(|second| {
            let count = Value::Number(second as f64);
            let metrics = [
                ("execution", word(second)),
                ("good_count", count.clone()),
                ("power_kw", count),
            ];
            reading(second * 1_000, &metrics)
        })
        .collect();
    folded(&events, |_| false).0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_are_refused_or_read_as_something_and_nothing_panics(
        events in any_stream(),
        flips in vec((any::<proptest::sample::Index>(), 0..8_u8), 0..4),
        cut in option::of(any::<proptest::sample::Index>()),
        noise in vec(any::<u8>(), 0..200),
    ) {
        let (twin, effects) = folded(&events[..events.len().min(8)], |_| false);
        let (mut of_event, mut of_row) = (Vec::new(), Vec::new());
        events[0].encode(&mut of_event);
        effects.rollups.iter().take(1).for_each(|row| row.encode(&mut of_row));
        for mut bytes in [noise, of_event, of_row, bytes_of(&twin), bytes_of(&busy_machine())].into_iter().filter(|bytes| !bytes.is_empty()) {
            for (place, bit) in &flips {
                let place = place.index(bytes.len());
                bytes[place] ^= 1 << bit;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let address = Event::peek_twin(&bytes).map(|(tenant, kind, id)| (tenant.to_owned(), kind, id.to_owned()));
            if let (Ok(event), Ok(address)) = (Event::decode(&bytes), address) {
                let found = (event.twin.tenant().as_str(), event.twin.kind(), event.twin.id());
                // A flipped tag can make another field a second address, of which the last one counts.
                prop_assert!(!flips.is_empty() || found == (&address.0, address.1, &address.2));
            }
            let _ = RollupRow::decode(&bytes);
            for kind in Kind::ALL {
                if let Ok(twin) = Twin::decode(id(kind), &bytes) {
                    serde_json::to_value(twin.view(at(0))).expect("JSON");
                    prop_assert_eq!(bytes_of(&restored(&twin)), bytes_of(&twin));
                }
            }
        }
    }
}
