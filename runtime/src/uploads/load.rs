//! Loading: the rows of a whole upload through the way in, behind the same gate as everything else.
//!
//! Promises: a batch of rows is noted as done only when all its messages are durable and folded; after a crash the
//! batch that was not noted is sent again and its messages are known by their ids. What the storage refuses for a
//! while is tried again; a file that cannot be read fails, with the reason.

use std::{
    ops::ControlFlow,
    sync::{Arc, Weak},
    time::Duration,
};

use gemba_twins::id::TenantId;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{
    Uploads, blocking,
    upload::{Counts, Phase, Purpose, RejectedRow, Upload},
};
use crate::{
    import::{Becomes, Import, ImportError, Kind, Mapped, Mapping, identity},
    ingest::{Ingest, Message, Outcome, SubmitError},
    metric_definitions as names,
};

/// Uploads that are loaded at a time: reading and mapping take a core each.
const LOADS_MAX: usize = 2;
/// Rows of a batch.
const BATCH_ROWS: usize = 2_000;
/// Bytes of a batch.
const BATCH_BYTES: usize = 1 << 20;
/// How often what is too old is looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// Pause after the storage refused a batch.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Loads uploads for as long as the node lives.
pub(crate) async fn run<N: Send + Sync + 'static>(uploads: Uploads, ingest: Ingest, node: Weak<N>) {
    let workers = (0..LOADS_MAX).map(|_| {
        let (uploads, ingest, node) = (uploads.clone(), ingest.clone(), node.clone());
        tokio::spawn(async move {
            while node.strong_count() > 0 {
                let woken = uploads.inner.wake.notified();
                tokio::pin!(woken);
                // Registered before the look, so that an upload that is whole in between wakes us.
                woken.as_mut().enable();
                match uploads.next_to_load() {
                    Some(upload) => {
                        load(&uploads, &ingest, &upload).await;
                        uploads.loaded(&upload.meta.tenant);
                    }
                    // A wait that ends without being woken looks again: the next turn finds what there is.
                    None => drop(tokio::time::timeout(EXPIRE_EVERY, woken).await),
                }
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    while node.strong_count() > 0 {
        uploads.expire().await;
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
    for worker in workers {
        worker.abort();
    }
}

/// Why a load ended before its end.
enum Stopped {
    /// The file cannot be loaded.
    Failed(ImportError),
    /// It was removed, or the node stops.
    Ended,
    /// The disk does not take the notes.
    Storage(std::io::Error),
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::Storage(error)
    }
}

async fn load(uploads: &Uploads, ingest: &Ingest, upload: &Arc<Upload>) {
    let id = &upload.meta.id;
    let ended = match load_rows(uploads, ingest, upload).await {
        Ok(()) => {
            let counts = upload.state().counts;
            info!(
                upload = id,
                rows = counts.rows(),
                rejected = counts.rejected,
                "upload loaded"
            );
            return;
        }
        Err(Stopped::Ended) => return,
        Err(Stopped::Failed(problem)) => {
            let own = upload.clone();
            blocking(move || own.fail(problem.code, problem.detail)).await
        }
        Err(Stopped::Storage(problem)) => Err(problem),
    };
    if let Err(problem) = ended
        && !upload.is_removed()
    {
        error!(upload = id, %problem, "upload does not come along; it is tried again (disk full?)");
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
}

async fn load_rows(uploads: &Uploads, ingest: &Ingest, upload: &Arc<Upload>) -> Result<(), Stopped> {
    let Purpose::Load { format, map } = &upload.meta.purpose else {
        return Ok(());
    };
    let mapping = Mapping::parse(map).map_err(Stopped::Failed)?;
    let kind = mapping.kind();
    let (path, format) = (upload.disk.data(&upload.meta), *format);
    let own = upload.clone();
    let looked = blocking(move || {
        let import = Import::open(&path, format, &mapping);
        let known = import.and_then(|import| {
            let known = identity(&path, &mapping, &mut |_| {
                if own.is_removed() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            Ok((import, known.id))
        });
        if let Ok((import, known)) = &known
            && own.state().phase == Phase::Received
        {
            own.change(|state| {
                state.phase = Phase::Loading;
                state.notes = import.dialect().notes.clone();
                state.identity = Some(known.clone());
            })?;
        }
        Ok(known)
    });
    let (import, known) = looked.await?.map_err(|problem| {
        if upload.is_removed() {
            Stopped::Ended
        } else {
            Stopped::Failed(problem)
        }
    })?;
    if upload.state().counts.rows() == 0
        && let Some(same) = uploads.same_as(upload, &known)
    {
        return Ok(take_over(upload, same).await?);
    }
    let (send, mut batches) = mpsc::channel::<Vec<Mapped>>(2);
    let after = upload.state().line;
    let reading = tokio::task::spawn_blocking(move || read(&import, &known, after, &send));
    while let Some(rows) = batches.recv().await {
        take(ingest, upload, kind, rows).await?;
    }
    let read = reading
        .await
        .map_err(|panicked| std::io::Error::other(panicked.to_string()))?;
    read.map_err(Stopped::Failed)?;
    let own = upload.clone();
    blocking(move || {
        own.change(|state| state.phase = Phase::Loaded)?;
        own.disk.drop_data(&own.meta)
    })
    .await?;
    Ok(())
}

/// Reads a file into batches, as fast as they are taken.
fn read(
    import: &Import,
    known: &str,
    after: u64,
    send: &mpsc::Sender<Vec<Mapped>>,
) -> Result<(), ImportError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    import.each(known, after, &mut |row| {
        bytes += row.cells.len() + 64;
        if let Becomes::Message(message) = &row.becomes {
            bytes += message.len();
        }
        batch.push(row);
        if batch.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            return ControlFlow::Continue(());
        }
        bytes = 0;
        // Nobody takes it any more: the load has ended.
        match send.blocking_send(std::mem::take(&mut batch)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    if !batch.is_empty() {
        // As above.
        let _ = send.blocking_send(batch);
    }
    Ok(())
}

/// Brings a batch of rows to its end, however often the storage refuses it.
async fn take(ingest: &Ingest, upload: &Arc<Upload>, kind: Kind, rows: Vec<Mapped>) -> Result<(), Stopped> {
    let Some(line) = rows.last().map(|row| row.line) else {
        return Ok(());
    };
    let messages: Vec<(u64, &str)> = rows
        .iter()
        .filter_map(|row| match &row.becomes {
            Becomes::Message(message) => Some((row.line, message.as_str())),
            _ => None,
        })
        .collect();
    let outcomes = loop {
        if upload.is_removed() {
            return Err(Stopped::Ended);
        }
        match submit(ingest, &upload.meta.tenant, kind, &messages).await {
            Ok(outcomes) => break outcomes,
            Err(SubmitError::Stopping) => return Err(Stopped::Ended),
            Err(problem) => {
                warn!(upload = upload.meta.id, %problem, "a batch of an upload is sent again");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    };
    let (mut counts, mut rejected) = (Counts::default(), Vec::new());
    for ((line, message), outcome) in messages.iter().zip(outcomes) {
        match outcome {
            Outcome::Applied | Outcome::Late => counts.accepted += 1,
            Outcome::Duplicate => counts.duplicates += 1,
            Outcome::Rejected(rejection) => rejected.push(RejectedRow {
                line: *line,
                code: rejection.code.to_owned(),
                detail: rejection.detail,
                row: (*message).to_owned(),
            }),
        }
    }
    for row in &rows {
        match &row.becomes {
            Becomes::Message(_) => {}
            Becomes::Nothing => counts.empty += 1,
            Becomes::Bad { code, detail } => rejected.push(RejectedRow {
                line: row.line,
                code: (*code).to_owned(),
                detail: detail.clone(),
                row: row.cells.clone(),
            }),
        }
    }
    rejected.sort_by_key(|row| row.line);
    counts.rejected = rejected.len() as u64;
    for (end, count) in [
        ("accepted", counts.accepted),
        ("duplicate", counts.duplicates),
        ("rejected", counts.rejected),
        ("empty", counts.empty),
    ] {
        metrics::counter!(names::UPLOAD_ROWS, "end" => end).increment(count);
    }
    let own = upload.clone();
    let noted = blocking(move || own.note(line, counts, &rejected)).await;
    if upload.is_removed() {
        return Err(Stopped::Ended);
    }
    Ok(noted?)
}

async fn submit(
    ingest: &Ingest,
    tenant: &TenantId,
    kind: Kind,
    messages: &[(u64, &str)],
) -> Result<Vec<Outcome>, SubmitError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = messages.iter().map(|(_, message)| message.len()).sum();
    // Waits where too much is under way: an upload is never in a hurry.
    let permit = ingest.admit(tenant, messages.len(), bytes).await;
    let mut batch = ingest.batch(tenant, &Arc::from("upload"));
    for (_, message) in messages {
        let json = message.as_bytes();
        batch.push(match kind {
            Kind::Readings => Message::Reading { sensor: None, json },
            Kind::Scans => Message::Scan { reader: None, json },
        });
    }
    batch.submit(permit).await
}

/// What was loaded before with the same mapping counts as repeated, without being read again.
async fn take_over(upload: &Arc<Upload>, same: Arc<Upload>) -> std::io::Result<()> {
    let own = upload.clone();
    blocking(move || {
        let theirs = same.state();
        own.disk.copy_rejected(&same.meta, &own.meta)?;
        own.change(|state| {
            state.phase = Phase::Loaded;
            state.line = theirs.line;
            state.rejected_bytes = theirs.rejected_bytes;
            state.counts = Counts {
                accepted: 0,
                duplicates: theirs.counts.accepted + theirs.counts.duplicates,
                ..theirs.counts
            };
            state.same_as = Some(same.meta.id.clone());
        })?;
        own.disk.drop_data(&own.meta)
    })
    .await
}
