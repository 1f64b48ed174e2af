//! Files that come in parts over HTTP: tables that are loaded, and attachments of twins.
//!
//! Promises: a part is on disk before its offset is told, so that an upload goes on after `kill -9` where it was; a
//! table is loaded behind the same admission gate as everything else, from where it was noted last, and its messages
//! have ids by which a repetition is known; what is kept is bounded in bytes, number and age; a tenant sees its own
//! uploads only. Knows nothing of HTTP.

mod disk;
mod load;
mod upload;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gemba_twins::id::{Kind, TenantId};
use thiserror::Error;
use tokio::sync::Notify;
use tracing::warn;

use self::disk::Disk;
pub(crate) use self::load::run;
pub use self::upload::{Counts, Meta, Phase, Purpose, RejectedRow, Upload, UploadState};
use crate::{
    clock,
    import::{Format, Mapping},
    metric_definitions as names,
};

/// What uploads may take.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// Bytes of one table.
    pub bytes_each: u64,
    /// Bytes of all that are kept: those that come in, wait, or are attached.
    pub bytes_together: u64,
    /// Bytes of one tenant's.
    pub tenant_bytes: u64,
    /// Bytes of one attachment: it is answered from memory.
    pub attachment_bytes: u64,
    /// Uploads that a tenant may have at a time, without attachments.
    pub count_max: usize,
    /// Time without a part after which an unfinished upload goes.
    pub unfinished: Duration,
    /// Time after which what is known of a loaded one goes.
    pub kept: Duration,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            bytes_each: 50 << 30,
            bytes_together: 200 << 30,
            tenant_bytes: 100 << 30,
            attachment_bytes: 64 << 20,
            count_max: 1_000,
            unfinished: Duration::from_secs(7 * 86_400),
            kept: Duration::from_secs(30 * 86_400),
        }
    }
}

/// Why something is not done with an upload.
#[derive(Debug, Error)]
pub enum UploadError {
    /// There is none of that id.
    #[error("there is no upload {0:?} (see GET /v1/uploads)")]
    NotFound(String),
    /// What was asked for cannot be.
    #[error("{detail}")]
    Invalid {
        /// For programs.
        code: &'static str,
        /// What is wrong, with the mend.
        detail: String,
    },
    /// It would take more than may be kept.
    #[error("{0}")]
    TooLarge(String),
    /// The part does not begin where the last one ended.
    #[error("the upload is at {at} (send the part that begins there)")]
    Offset {
        /// Bytes that are there.
        at: u64,
    },
    /// The disk does not take it.
    #[error("failed to keep the upload: {0} (disk full? nothing was acknowledged; send it again)")]
    Storage(#[from] std::io::Error),
}

impl UploadError {
    fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid {
            code,
            detail: detail.into(),
        }
    }
}

/// An upload that is asked for.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// The file's name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its media type, where it was said.
    pub media_type: Option<String>,
    /// The mapping of a table.
    pub map: Option<String>,
    /// The twin that an attachment belongs to.
    pub twin: Option<(Kind, Box<str>)>,
    /// Who asks.
    pub by: String,
}

type Key = (TenantId, String);

/// The uploads of one node. Cheap to clone.
#[derive(Clone)]
pub struct Uploads {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Disk,
    limits: UploadLimits,
    table: Mutex<BTreeMap<Key, Arc<Upload>>>,
    /// Tenants of whom something is being loaded.
    loading: Mutex<BTreeSet<TenantId>>,
    wake: Notify,
}

impl Uploads {
    /// Reads what is kept in a data folder. Blocks.
    pub(crate) fn open(data_dir: PathBuf, limits: UploadLimits) -> std::io::Result<Self> {
        let disk = Disk::new(data_dir);
        let table = disk.all()?.into_iter().map(|upload| {
            let key = (upload.meta.tenant.clone(), upload.meta.id.clone());
            (key, Arc::new(upload))
        });
        let inner = Inner {
            table: Mutex::new(table.collect()),
            disk,
            limits,
            loading: Mutex::default(),
            wake: Notify::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Arc<Upload>>> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for an upload.
    pub async fn create(&self, tenant: &TenantId, new: NewUpload) -> Result<Arc<Upload>, UploadError> {
        let purpose = purpose(&new)?;
        let meta = Meta {
            id: new_id()?,
            tenant: tenant.clone(),
            name: new.name,
            media_type: new.media_type,
            size: new.size,
            by: new.by,
            created_at: clock::now(),
            purpose,
        };
        let upload = Arc::new(Upload::new(meta, self.inner.disk.clone()));
        let key = (tenant.clone(), upload.meta.id.clone());
        {
            let mut table = self.table();
            self.check_room(&table, &upload.meta)?;
            // Taken before it is written, so that two at a time cannot both have the last room.
            table.insert(key.clone(), upload.clone());
        }
        let written = upload.clone();
        match blocking(move || written.begin()).await {
            Ok(()) => Ok(upload),
            Err(error) => {
                self.table().remove(&key);
                Err(error.into())
            }
        }
    }

    fn check_room(&self, table: &BTreeMap<Key, Arc<Upload>>, meta: &Meta) -> Result<(), UploadError> {
        let limits = &self.inner.limits;
        let refused = |reason: &'static str, detail: String| {
            metrics::counter!(names::UPLOAD_REFUSED, "reason" => reason).increment(1);
            Err(UploadError::TooLarge(detail))
        };
        let most = match meta.purpose {
            Purpose::Load { .. } => limits.bytes_each,
            Purpose::Attach { .. } => limits.attachment_bytes,
        };
        if meta.size > most {
            let detail = format!(
                "{} bytes are more than the {most} that an upload may have (send it in several files)",
                meta.size
            );
            return refused("bytes_each", detail);
        }
        let (mut together, mut own, mut count) = (0, 0, 0);
        for upload in table.values() {
            let is_own = upload.meta.tenant == meta.tenant;
            let kept = upload.bytes_kept();
            together += kept;
            own += if is_own { kept } else { 0 };
            count += usize::from(is_own && upload.state().phase != Phase::Attached);
        }
        if count >= limits.count_max {
            let detail =
                format!("there are {count} uploads, as many as may be (delete some: DELETE /v1/uploads/ID)");
            return refused("count_max", detail);
        }
        if own + meta.size > limits.tenant_bytes {
            let detail = format!(
                "{own} bytes are kept and {} more pass the limit of {} (delete some uploads)",
                meta.size, limits.tenant_bytes
            );
            return refused("tenant_bytes", detail);
        }
        if together + meta.size > limits.bytes_together {
            let detail = "the node keeps as many bytes of uploads as it may (try again later)".to_owned();
            return refused("bytes_together", detail);
        }
        Ok(())
    }

    /// One upload.
    pub fn get(&self, tenant: &TenantId, id: &str) -> Result<Arc<Upload>, UploadError> {
        let key = (tenant.clone(), id.to_owned());
        let found = self.table().get(&key).cloned();
        found.ok_or_else(|| UploadError::NotFound(id.to_owned()))
    }

    /// All of a tenant's, the newest first.
    #[must_use]
    pub fn list(&self, tenant: &TenantId) -> Vec<Arc<Upload>> {
        let table = self.table();
        let own = table.values().filter(|upload| upload.meta.tenant == *tenant);
        let mut own: Vec<_> = own.cloned().collect();
        own.sort_by(|a, b| (b.meta.created_at, &b.meta.id).cmp(&(a.meta.created_at, &a.meta.id)));
        own
    }

    /// What is attached to a twin.
    #[must_use]
    pub fn attachments(&self, tenant: &TenantId, kind: Kind, id: &str) -> Vec<Arc<Upload>> {
        let of_twin = |upload: &Arc<Upload>| {
            let is_its = matches!(&upload.meta.purpose, Purpose::Attach { twin, .. } if twin.0 == kind && *twin.1 == *id);
            is_its && upload.state().phase == Phase::Attached
        };
        self.list(tenant).into_iter().filter(of_twin).collect()
    }

    /// Takes a part that begins at `offset`; answers where the next one begins.
    pub async fn append(
        &self,
        tenant: &TenantId,
        id: &str,
        offset: u64,
        part: bytes::Bytes,
    ) -> Result<u64, UploadError> {
        let upload = self.get(tenant, id)?;
        let taken = upload.append(offset, part).await?;
        metrics::counter!(names::UPLOAD_BYTES).increment(taken.1);
        if taken.0 == upload.meta.size {
            self.inner.wake.notify_waiters();
        }
        Ok(taken.0)
    }

    /// Forgets an upload and everything that is kept of it. What was loaded stays.
    pub async fn remove(&self, tenant: &TenantId, id: &str) -> Result<(), UploadError> {
        let upload = self.get(tenant, id)?;
        self.table().remove(&(tenant.clone(), id.to_owned()));
        blocking(move || upload.remove()).await?;
        Ok(())
    }

    /// The next upload to load, of a tenant of whom nothing else is being loaded; those of this tenant wait until it is
    /// given back.
    fn next_to_load(&self) -> Option<Arc<Upload>> {
        let mut loading = self.inner.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.table();
        let waiting = table.values().filter(|upload| {
            let phase = upload.state().phase;
            matches!(phase, Phase::Received | Phase::Loading) && !loading.contains(&upload.meta.tenant)
        });
        let next = waiting.min_by_key(|upload| upload.meta.created_at)?.clone();
        loading.insert(next.meta.tenant.clone());
        Some(next)
    }

    fn loaded(&self, tenant: &TenantId) {
        let mut loading = self.inner.loading.lock().unwrap_or_else(PoisonError::into_inner);
        loading.remove(tenant);
        drop(loading);
        self.inner.wake.notify_waiters();
    }

    /// An upload of the same content and mapping that was loaded before.
    fn same_as(&self, upload: &Upload, identity: &str) -> Option<Arc<Upload>> {
        let mut own = self.list(&upload.meta.tenant).into_iter();
        own.find(|other| {
            let state = other.state();
            other.meta.id != upload.meta.id
                && state.phase == Phase::Loaded
                && state.identity.as_deref() == Some(identity)
        })
    }

    /// Forgets what is too old.
    async fn expire(&self) {
        let now = clock::now();
        let is_old = |upload: &Arc<Upload>| {
            let state = upload.state();
            let age = now.ms_since(state.changed_at);
            let limit = match state.phase {
                Phase::Receiving => self.inner.limits.unfinished,
                Phase::Loaded | Phase::Failed => self.inner.limits.kept,
                Phase::Received | Phase::Loading | Phase::Attached => return false,
            };
            age > i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
        };
        let old: Vec<_> = self
            .table()
            .values()
            .filter(|upload| is_old(upload))
            .cloned()
            .collect();
        for upload in old {
            metrics::counter!(names::UPLOAD_EXPIRED).increment(1);
            if let Err(error) = self.remove(&upload.meta.tenant, &upload.meta.id).await {
                warn!(upload = upload.meta.id, %error, "an upload that is too old cannot be removed");
            }
        }
        let kept: u64 = self.table().values().map(|upload| upload.bytes_kept()).sum();
        metrics::gauge!(names::UPLOAD_KEPT_BYTES).set(kept as f64);
    }
}

/// What becomes of a file, by what was said of it.
fn purpose(new: &NewUpload) -> Result<Purpose, UploadError> {
    let length = new.name.chars().count();
    if !(1..=255).contains(&length) || new.name.chars().any(char::is_control) {
        return Err(UploadError::invalid(
            "upload.name_invalid",
            format!("name has {length} characters (1 to 255 without control characters are allowed)"),
        ));
    }
    if new.size == 0 {
        return Err(UploadError::invalid(
            "upload.empty",
            "size is 0 (the file holds nothing)",
        ));
    }
    let media_type = new.media_type.as_deref().unwrap_or_default();
    let kind = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match (&new.map, &new.twin) {
        (Some(map), None) => {
            let format = match &*kind {
                "text/csv" | "text/tab-separated-values" | "text/plain" => Some(Format::Csv),
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => Some(Format::Xlsx),
                "application/json" => Some(Format::Json),
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Format::NdJson),
                _ => Format::of_name(&new.name),
            };
            let format = format.ok_or_else(|| {
                UploadError::invalid(
                    "upload.type_unsupported",
                    format!(
                        "{:?} is no table that is read (CSV, XLSX, JSON, NDJSON; say media_type)",
                        new.name
                    ),
                )
            })?;
            Mapping::parse(map)
                .map_err(|error| UploadError::invalid(error.code, format!("map: {}", error.detail)))?;
            Ok(Purpose::Load {
                format,
                map: map.clone(),
            })
        }
        (None, Some(twin)) => {
            let by_name = |end: &str| new.name.to_ascii_lowercase().ends_with(end);
            let media_type = match &*kind {
                "application/pdf" => "application/pdf",
                "image/png" => "image/png",
                "" if by_name(".pdf") => "application/pdf",
                "" if by_name(".png") => "image/png",
                _ => {
                    return Err(UploadError::invalid(
                        "upload.type_unsupported",
                        "attachments are PDF or PNG (media_type application/pdf or image/png)",
                    ));
                }
            };
            Ok(Purpose::Attach {
                twin: twin.clone(),
                media_type,
            })
        }
        _ => Err(UploadError::invalid(
            "upload.purpose",
            "a table needs map, an attachment needs twin (one of the two)",
        )),
    }
}

fn new_id() -> Result<String, UploadError> {
    let mut bytes = [0; 12];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| std::io::Error::other("no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs what waits for the disk where nothing else waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|panicked| std::io::Error::other(panicked.to_string()))?
}
