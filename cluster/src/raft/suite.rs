//! openraft's own tests of a store, over the journal and the state machine.

use std::{collections::BTreeMap, io, sync::Arc};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tokio::sync::watch;

use super::{
    Kind,
    apply::{Apply, Boxed, Cut},
    ballots::Ballots,
    log::{LogStore, Shared},
    machine::{Machine, find},
};
use crate::{Epoch, Frame, Journal, JournalOptions, Seq, ShardId};

/// Keeps its records.
#[derive(Default)]
struct Kept {
    last: Seq,
    records: BTreeMap<u64, Vec<u8>>,
}

impl Apply for Kept {
    fn holds(&mut self) -> Seq {
        self.last
    }

    fn applied(&mut self, frame: Frame) -> Boxed<'_, io::Result<()>> {
        for (seq, record) in (frame.first().get()..).zip(frame.records()) {
            self.records.insert(seq, record.to_vec());
        }
        self.last = frame.last();
        Box::pin(async { Ok(()) })
    }

    fn began(&mut self, _: Epoch, _: bool) -> Boxed<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn snapshot(&mut self) -> Boxed<'_, io::Result<Cut>> {
        let cut = Cut::in_memory(self.last, vec![7; 3_000_000].into());
        Box::pin(async { Ok(cut) })
    }

    fn install(&mut self, cut: Cut) -> Boxed<'_, io::Result<()>> {
        self.last = cut.seq;
        Box::pin(async { Ok(()) })
    }
}

struct Folders;

impl StoreBuilder<Kind, LogStore, Machine, tempfile::TempDir> for Folders {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Kind>> {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(JournalOptions::new(folder.path().join("journal"))).expect("a journal");
        let ballots = Arc::new(Ballots::open(&folder.path().join("raft.redb")).expect("ballots"));
        let shard = ShardId::new(3);
        let base = find(shard, &journal, &ballots, Seq::new(0)).expect("a place");
        let shared = Shared::open(shard, journal, ballots, base).expect("a log");
        let (began, _) = watch::channel((Epoch::default(), false));
        let machine = Machine {
            shared: shared.clone(),
            apply: Box::new(Kept::default()),
            node: 0,
            began,
        };
        Ok((folder, LogStore(shared), machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_what_openraft_asks_for() {
    Suite::test_all(Folders).await.expect("the suite passes");
}
