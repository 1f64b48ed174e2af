//! Resume tokens: where a subscription stood, so that a later one goes on without a gap.
//!
//! Promises: a token of another filter, fields, mode or tenant is refused; one of another data folder is recognised
//! and answered with `lost` and fresh snapshots, never with a silent gap. Opaque to clients.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gemba_twins::id::TenantId;
use xxhash_rust::xxh3::xxh3_64;

use super::{SubscribeError, group::GroupKey};

/// Says how the rest is laid out.
const VERSION: u8 = 1;
/// Shards never number more.
const SHARDS_MAX: usize = u16::MAX as usize;

/// Where a subscription stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `latest`: every change up to these seqs, by shard, was told.
    Seqs(Vec<u64>),
    /// `every`: every revision of the ring before `next` was told.
    Ring {
        /// The ring; a node that starts anew has others.
        ring: u64,
        /// The number of the next revision.
        next: u64,
    },
}

/// What a token must fit: whose it is and what it was a subscription to.
pub(super) fn scope(tenant: &TenantId, key: &GroupKey) -> u64 {
    // A release may show twins differently, so that a patch would not fit what the client has.
    let text = format!("{tenant}\0{}\0{key:?}", env!("CARGO_PKG_VERSION"));
    xxh3_64(text.as_bytes())
}

/// The token of a place in a data folder (`origin`).
pub(super) fn encode(origin: u64, scope: u64, place: &Place) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&origin.to_be_bytes());
    bytes.extend_from_slice(&scope.to_be_bytes());
    match place {
        Place::Seqs(seqs) => {
            bytes.push(0);
            bytes.extend(seqs.iter().flat_map(|seq| seq.to_be_bytes()));
        }
        Place::Ring { ring, next } => {
            bytes.push(1);
            bytes.extend_from_slice(&ring.to_be_bytes());
            bytes.extend_from_slice(&next.to_be_bytes());
        }
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One token of several to the same, each with the shards that it is taken for. Rings of `every` are each node's own: there
/// it is a token that no node can go on from, and says so when it comes.
pub(crate) fn merge(tokens: &[(&str, &BTreeSet<u16>)]) -> Option<String> {
    let mut merged: Option<Vec<u8>> = None;
    for (token, shards) in tokens {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (head, seqs) = bytes.split_first_chunk::<18>()?;
        let into = merged.get_or_insert_with(|| bytes.clone());
        if into.len() != bytes.len() {
            return None;
        }
        if head[17] != 0 {
            into[18..].fill(0);
            continue;
        }
        let (of_shards, _) = seqs.as_chunks::<8>();
        for shard in shards.iter().map(|shard| usize::from(*shard)) {
            let seq = of_shards.get(shard)?;
            into[18 + shard * 8..][..8].copy_from_slice(seq);
        }
    }
    merged.map(|merged| URL_SAFE_NO_PAD.encode(merged))
}

/// The place of a token; `None` where it is of another data folder.
pub(super) fn decode(token: &str, origin: u64, scope: u64) -> Result<Option<Place>, SubscribeError> {
    let invalid = |detail: &str| SubscribeError {
        code: "resume.invalid",
        detail: detail.to_owned(),
    };
    let malformed =
        || invalid("resume is not a token that a live frame carried (leave it out to start anew)");
    if token.len() > 64 + SHARDS_MAX * 11 {
        return Err(malformed());
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
    let (head, rest) = bytes.split_first_chunk::<18>().ok_or_else(malformed)?;
    let (numbers, odd) = rest.as_chunks::<8>();
    let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
    if head[0] != VERSION || !odd.is_empty() {
        return Err(malformed());
    }
    let (mut of_origin, mut of_scope) = ([0; 8], [0; 8]);
    of_origin.copy_from_slice(&head[1..9]);
    of_scope.copy_from_slice(&head[9..17]);
    if u64::from_be_bytes(of_scope) != scope {
        let detail = "the resume token is of a subscription with another filter, fields or mode, or of another release \
                      (leave it out to start anew)";
        return Err(invalid(detail));
    }
    let place = match (head[17], numbers.next(), numbers.next(), numbers.next()) {
        (0, ..) => Place::Seqs(
            rest.as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| u64::from_be_bytes(*bytes))
                .collect(),
        ),
        (1, Some(ring), Some(next), None) => Place::Ring { ring, next },
        _ => return Err(malformed()),
    };
    Ok((u64::from_be_bytes(of_origin) == origin).then_some(place))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_fits_only_what_it_was_made_for() {
        let place = Place::Seqs(vec![3, 0, 900]);
        let token = encode(7, 42, &place);
        assert_eq!(decode(&token, 7, 42), Ok(Some(place)));
        assert_eq!(decode(&token, 8, 42), Ok(None));
        assert_eq!(
            decode(&token, 7, 43).expect_err("another filter").code,
            "resume.invalid"
        );
        let ring = Place::Ring { ring: 5, next: 6 };
        assert_eq!(decode(&encode(7, 42, &ring), 7, 42), Ok(Some(ring)));
    }

    #[test]
    fn tokens_of_several_nodes_become_one() {
        let token = |seqs: &[u64]| encode(7, 42, &Place::Seqs(seqs.to_vec()));
        let (one, other) = (token(&[3, 0, 9]), token(&[0, 5, 1]));
        let (first, second) = (BTreeSet::from([0, 2]), BTreeSet::from([1]));
        let merged = merge(&[(&one, &first), (&other, &second)]).expect("a token");
        assert_eq!(decode(&merged, 7, 42), Ok(Some(Place::Seqs(vec![3, 5, 9]))));
        let ring = |ring| encode(7, 42, &Place::Ring { ring, next: 6 });
        let merged = merge(&[(&ring(1), &first), (&ring(2), &second)]).expect("a token");
        assert_eq!(decode(&merged, 7, 42), Ok(Some(Place::Ring { ring: 0, next: 0 })));
    }

    proptest! {
        #[test]
        fn garbage_is_refused(text in "[A-Za-z0-9_=-]{0,200}") {
            prop_assert!(decode(&text, 7, 42).is_err());
        }
    }
}
