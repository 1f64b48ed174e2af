//! What a node asks of those that keep shards which it does not keep: twins, whole calls, subscriptions.

use bytes::Bytes;
use prost::Message;

/// A tenant's twins of a shard; answered by [`TwinsReply`].
#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct TwinsWire {
    #[prost(string, tag = "1")]
    pub(in crate::cluster) tenant: String,
    /// Only of this kind; its word, empty for all.
    #[prost(string, tag = "2")]
    pub(in crate::cluster) kind: String,
    /// Only those that match; empty for all.
    #[prost(string, tag = "3")]
    pub(in crate::cluster) filter: String,
    /// Only those after this one, in the order of their ids; empty for all.
    #[prost(string, tag = "4")]
    pub(in crate::cluster) after: String,
    /// At most so many; 0 for as many as fit.
    #[prost(uint64, tag = "5")]
    pub(in crate::cluster) limit: u64,
    /// The time it is, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub(in crate::cluster) now_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct TwinsReply {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::cluster) twins: Vec<TwinWire>,
    /// The twin to go on after; absent at the end.
    #[prost(string, optional, tag = "2")]
    pub(in crate::cluster) next: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct TwinWire {
    #[prost(string, tag = "1")]
    pub(in crate::cluster) id: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::cluster) state: Bytes,
}

/// Readings and scans of a shard within seqs that the asking node's journal lacks; answered by [`PastReply`].
#[derive(Clone, Copy, PartialEq, Message)]
pub(in crate::cluster) struct PastWire {
    #[prost(uint64, tag = "1")]
    pub(in crate::cluster) from: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::cluster) to: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct PastReply {
    /// The first seq from which on the answer holds all; 0 where the node has nothing of it.
    #[prost(uint64, tag = "1")]
    pub(in crate::cluster) begins: u64,
    /// The last seq up to which the answer holds all.
    #[prost(uint64, tag = "2")]
    pub(in crate::cluster) last: u64,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::cluster) events: Vec<PastEvent>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct PastEvent {
    #[prost(uint64, tag = "1")]
    pub(in crate::cluster) seq: u64,
    /// As the journal has it.
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::cluster) record: Bytes,
}

/// A call of a client, whose rights the asking node has settled; answered by [`CallReply`].
#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct CallWire {
    #[prost(string, tag = "1")]
    pub(in crate::cluster) method: String,
    #[prost(string, tag = "2")]
    pub(in crate::cluster) path: String,
    #[prost(string, tag = "3")]
    pub(in crate::cluster) query: String,
    #[prost(message, repeated, tag = "4")]
    pub(in crate::cluster) headers: Vec<HeaderWire>,
    #[prost(bytes = "bytes", tag = "5")]
    pub(in crate::cluster) body: Bytes,
    #[prost(string, tag = "6")]
    pub(in crate::cluster) tenant: String,
    #[prost(string, tag = "7")]
    pub(in crate::cluster) name: String,
    /// The role's word.
    #[prost(string, tag = "8")]
    pub(in crate::cluster) role: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct HeaderWire {
    #[prost(string, tag = "1")]
    pub(in crate::cluster) name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::cluster) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct CallReply {
    #[prost(uint32, tag = "1")]
    pub(in crate::cluster) status: u32,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::cluster) headers: Vec<HeaderWire>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(in crate::cluster) body: Bytes,
}

/// Opens a subscription to the twins of some shards; answered by [`FollowReply`].
#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct FollowWire {
    #[prost(string, tag = "1")]
    pub(in crate::cluster) tenant: String,
    #[prost(uint32, repeated, tag = "2")]
    pub(in crate::cluster) shards: Vec<u32>,
    /// Empty for all.
    #[prost(string, tag = "3")]
    pub(in crate::cluster) filter: String,
    #[prost(string, repeated, tag = "4")]
    pub(in crate::cluster) fields: Vec<String>,
    /// Each revision, not only the newest.
    #[prost(bool, tag = "5")]
    pub(in crate::cluster) every: bool,
    #[prost(double, optional, tag = "6")]
    pub(in crate::cluster) max_rate_hz: Option<f64>,
    #[prost(string, optional, tag = "7")]
    pub(in crate::cluster) resume: Option<String>,
}

/// A subscription's name, or why there is none.
#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct FollowReply {
    #[prost(uint64, tag = "1")]
    pub(in crate::cluster) handle: u64,
    #[prost(string, tag = "2")]
    pub(in crate::cluster) code: String,
    #[prost(string, tag = "3")]
    pub(in crate::cluster) detail: String,
}

/// Asks for the next frames of a subscription; answered by [`FramesReply`], at once where there are some.
#[derive(Clone, Copy, PartialEq, Message)]
pub(in crate::cluster) struct NextWire {
    #[prost(uint64, tag = "1")]
    pub(in crate::cluster) handle: u64,
    /// It is over.
    #[prost(bool, tag = "2")]
    pub(in crate::cluster) ends: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct FramesReply {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::cluster) frames: Vec<FrameWire>,
    /// There will be no more.
    #[prost(bool, tag = "2")]
    pub(in crate::cluster) ended: bool,
}

/// A frame of a subscription, without the subscription's id.
#[derive(Clone, PartialEq, Message)]
pub(in crate::cluster) struct FrameWire {
    /// The word of its kind.
    #[prost(string, tag = "1")]
    pub(in crate::cluster) kind: String,
    /// What follows the id.
    #[prost(string, tag = "2")]
    pub(in crate::cluster) body: String,
    #[prost(string, optional, tag = "3")]
    pub(in crate::cluster) resume: Option<String>,
    #[prost(uint64, optional, tag = "4")]
    pub(in crate::cluster) lost: Option<u64>,
    /// Twins that match, where it says that the subscription stands.
    #[prost(uint64, tag = "5")]
    pub(in crate::cluster) twins: u64,
}
