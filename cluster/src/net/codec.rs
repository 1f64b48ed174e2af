//! What gRPC frames: the messages of calls as they are, their content is encoded a level above; those of exchanges with
//! what a call has in its headers.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
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

/// The path of exchanges.
pub(super) const EXCHANGE: &str = "/gemba.cluster.Node/Exchange";

/// A message of an exchange.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AskedWire {
    /// Of this exchange; the answer has it too.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint32, tag = "2")]
    pub(super) errand: u32,
    #[prost(uint32, tag = "3")]
    pub(super) shard: u32,
    /// After it nobody waits for the answer.
    #[prost(uint32, tag = "4")]
    pub(super) within_ms: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) body: Bytes,
}

/// The answer to a message of an exchange.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AnsweredWire {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// 0 answered, 1 refused for good, 2 not now; the body of a refusal is its reason.
    #[prost(uint32, tag = "2")]
    pub(super) refusal: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) body: Bytes,
}

/// Prost messages, `E` out and `D` in.
#[derive(Debug, Clone, Copy)]
pub(super) struct AsMessages<E, D>(PhantomData<(E, D)>);

impl<E, D> AsMessages<E, D> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for AsMessages<E, D>
where
    E: Message + 'static,
    D: Message + Default + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new()
    }

    fn decoder(&mut self) -> Self {
        Self::new()
    }
}

impl<E: Message, D> Encoder for AsMessages<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl<E, D: Message + Default> Decoder for AsMessages<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let message = D::decode(from).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Some(message))
    }
}

/// Their places are their numbers in exchanges: new ones come at the end.
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

/// The number of an errand in an exchange, from 1.
pub(super) fn number_of(errand: Errand) -> u32 {
    let at = ERRANDS.iter().position(|(_, known)| *known == errand);
    at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or_default()
}

/// The errand of a number.
pub(super) fn errand_numbered(number: u32) -> Option<Errand> {
    let at = usize::try_from(number.checked_sub(1)?).ok()?;
    ERRANDS.get(at).map(|(_, errand)| *errand)
}
