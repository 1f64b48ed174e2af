//! Messages as they are: gRPC frames them, and their content is encoded a level above.

use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::Errand;

/// Bytes in, bytes out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AsBytes;

impl Codec for AsBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

const ERRANDS: [(&str, Errand); 8] = [
    ("/gemba.cluster.Node/Append", Errand::Append),
    ("/gemba.cluster.Node/Vote", Errand::Vote),
    ("/gemba.cluster.Node/PreVote", Errand::PreVote),
    ("/gemba.cluster.Node/Piece", Errand::Piece),
    ("/gemba.cluster.Node/Transfer", Errand::Transfer),
    ("/gemba.cluster.Node/Hello", Errand::Hello),
    ("/gemba.cluster.Node/Batch", Errand::Batch),
    ("/gemba.cluster.Node/Ask", Errand::Ask),
];

/// The path of an errand.
pub(super) fn path_of(errand: Errand) -> &'static str {
    ERRANDS
        .iter()
        .find(|(_, known)| *known == errand)
        .map_or("/", |(path, _)| path)
}

/// The errand of a path.
pub(super) fn errand_of(path: &str) -> Option<Errand> {
    ERRANDS
        .iter()
        .find(|(known, _)| *known == path)
        .map(|(_, errand)| *errand)
}
