//! A shard's state on this node, as its group sees it: frames go to the shard's actor, snapshots to and from the store.
//!
//! Promises: a frame is answered when its actor has folded it; a cut is what the store holds, written just before; a cut
//! of another node takes the place of all that was here, in one transaction, before anything is folded onto it.

use std::{io, sync::Arc};

use bytes::Bytes;
use gemba_cluster::{Apply, Boxed, Cut, CutBytes, Epoch, Frame, Seq};
use gemba_twins::id::TenantId;
use tokio::{runtime::Handle, sync::oneshot};

use super::keeping::Keeping;
use crate::{
    shard::{ShardMsg, router::control_number},
    store::{Export, StoreError},
    table::Recovery,
};

/// Most bytes of a piece.
const PIECE: usize = 1 << 20;

/// The state of one shard on this node.
pub(super) struct Replica {
    pub(super) keeping: Arc<Keeping>,
    pub(super) number: u16,
    /// What a restart has brought back.
    pub(super) holds: u64,
}

impl Replica {
    /// Tells the actor something and waits for its answer.
    async fn ask(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<(), String>>) -> ShardMsg + Send,
    ) -> io::Result<()> {
        let gone = || io::Error::other(format!("shard {} has no actor", self.number));
        let (answer, answered) = oneshot::channel();
        let actor = self.keeping.router.actor(self.number).ok_or_else(gone)?;
        actor.cast(message(answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(io::Error::other)
    }
}

impl Apply for Replica {
    fn holds(&mut self) -> Seq {
        Seq::new(self.holds)
    }

    fn applied(&mut self, frame: Frame) -> Boxed<'_, io::Result<()>> {
        Box::pin(self.ask(|done| ShardMsg::Committed(frame, done)))
    }

    fn began(&mut self, _: Epoch, _: bool) -> Boxed<'_, io::Result<()>> {
        // The actor hears of its epoch by the group's role, which waits for this.
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&mut self) -> Boxed<'_, io::Result<Cut>> {
        Box::pin(async {
            self.ask(ShardMsg::Cut).await?;
            let (keeping, number) = (self.keeping.clone(), self.number);
            let export = blocking(move || {
                let router = keeping.router.clone();
                let keeps = move |tenant: &TenantId| router.rejected_shard(tenant) == number;
                keeping
                    .shared
                    .store
                    .export(number, number == control_number(), keeps)
            })
            .await?;
            Ok(Cut {
                seq: Seq::new(export.seq),
                bytes: Box::new(Rows {
                    export: Some(export),
                    left: Bytes::new(),
                }),
            })
        })
    }

    fn install(&mut self, cut: Cut) -> Boxed<'_, io::Result<()>> {
        let (keeping, number) = (self.keeping.clone(), self.number);
        Box::pin(async move {
            let _working = keeping.working.lock().await;
            if let Some(table) = keeping.table(number) {
                table.set_recovery(Recovery::UnderWay);
            }
            keeping.end(number).await;
            let Cut { seq, mut bytes } = cut;
            let (importing, handle) = (keeping.clone(), Handle::current());
            blocking(move || {
                let keeps = |tenant: &TenantId| importing.router.rejected_shard(tenant) == number;
                let store = &importing.shared.store;
                let mut import = store.import(number, number == control_number(), &keeps)?;
                loop {
                    let piece = handle.block_on(bytes.next());
                    match piece.map_err(|error| StoreError::Io(error.to_string()))? {
                        Some(piece) => import.take(&piece)?,
                        None => return import.finish(),
                    }
                }
            })
            .await?;
            keeping
                .shared
                .notifier
                .taken_over(number, &keeping.shared.store)
                .map_err(io::Error::other)?;
            let mut core = keeping.bring_back(number).await?;
            if core.seq != seq.get() {
                let (number, has) = (core.number, core.seq);
                let detail =
                    format!("the snapshot of shard {number} is said to be at seq {seq} and is at {has}");
                return Err(io::Error::other(detail));
            }
            core.publish_all().map_err(io::Error::other)?;
            let table = core.table.clone();
            keeping.begin(core).await?;
            table.set_recovery(Recovery::Done);
            Ok(())
        })
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?.map_err(io::Error::other)
}

/// The rows of a shard, read as they are sent.
struct Rows {
    export: Option<Export>,
    left: Bytes,
}

impl CutBytes for Rows {
    fn next(&mut self) -> Boxed<'_, io::Result<Option<Bytes>>> {
        Box::pin(async {
            if self.left.is_empty()
                && let Some(mut export) = self.export.take()
            {
                let next = move || export.next().map(|piece| (export, piece));
                let (export, piece) = blocking(next).await?;
                if let Some(piece) = piece {
                    self.export = Some(export);
                    self.left = piece.into();
                }
            }
            // A plant model may be longer than a piece.
            let piece = self.left.split_to(self.left.len().min(PIECE));
            Ok((!piece.is_empty()).then_some(piece))
        })
    }
}
