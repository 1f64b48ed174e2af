//! A twin folded again from its journal, as an event that replaces its state.
//!
//! Promises: carries the whole state, so that a replay needs neither the plant model of then nor the events before;
//! revision and position go on. A state that cannot be read changes nothing, the same on every node. Does not know how
//! it was folded again.

use prost::Message;

use crate::{
    time::Timestamp,
    twin::{Outcome, Twin},
};

/// A state to take over.
#[derive(Debug, Clone, PartialEq)]
pub struct Refolded {
    /// The twin's bytes, as a snapshot has them.
    pub state: Box<[u8]>,
    /// The plant model that it was folded by.
    pub model_version: u64,
    /// From when on that model was in force; `None` is from the beginning.
    pub from: Option<Timestamp>,
    /// Who took it over.
    pub by: Box<str>,
}

impl Twin {
    pub(crate) fn take_over(&mut self, refolded: &Refolded) -> Outcome {
        let Ok(twin) = Self::decode(self.id.clone(), &refolded.state) else {
            return Outcome::Ignored;
        };
        *self = Self {
            rev: self.rev,
            position: self.position,
            updated_at: self.updated_at.max(twin.updated_at),
            ..twin
        };
        Outcome::Applied
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RefoldedWire {
    #[prost(bytes = "vec", tag = "1")]
    state: Vec<u8>,
    #[prost(uint64, tag = "2")]
    model_version: u64,
    #[prost(sint64, optional, tag = "3")]
    from_ms: Option<i64>,
    #[prost(string, tag = "4")]
    by: String,
}

impl RefoldedWire {
    pub(crate) fn of(refolded: &Refolded) -> Self {
        Self {
            state: refolded.state.to_vec(),
            model_version: refolded.model_version,
            from_ms: refolded.from.map(Timestamp::ms),
            by: refolded.by.to_string(),
        }
    }

    pub(crate) fn refolded(self) -> Refolded {
        Refolded {
            state: self.state.into(),
            model_version: self.model_version,
            from: self.from_ms.map(Timestamp::from_ms),
            by: self.by.into(),
        }
    }
}
