//! Uploads on disk: a folder each, with what it is, how far it came, its bytes and its rejected rows.
//!
//! ```text
//! uploads/tenant=acme/5f0c…/meta.json       what it is; written last when it is made
//!                          /state.json      how far it came; written aside, synced, renamed
//!                          /data            its bytes; what is past the offset counts for nothing
//!                          /rejected.ndjson its rejected rows; what is past `rejected_bytes` counts for nothing
//! attachments/tenant=acme/…                 the same, of attachments
//! ```
//! Promises: what `save` and `write` reported as done survives power loss. JSON files name their version.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use gemba_twins::{
    id::{Kind, TenantId},
    time::Timestamp,
};
use serde_json::{Value as Json, json};
use tracing::warn;

use super::upload::{Counts, Meta, Phase, Purpose, RejectedRow, Upload, UploadState};
use crate::import::Format;

const VERSION: u64 = 1;
const FORMATS: [Format; 4] = [Format::Csv, Format::Xlsx, Format::Json, Format::NdJson];
const MEDIA_TYPES: [(&str, &[u8]); 2] = [("application/pdf", b"%PDF-"), ("image/png", b"\x89PNG\r\n\x1a\n")];

/// The folders of uploads and attachments within a data folder.
#[derive(Clone)]
pub(super) struct Disk {
    data_dir: Arc<Path>,
}

impl Disk {
    pub(super) fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir: data_dir.into(),
        }
    }

    fn folder(&self, meta: &Meta) -> PathBuf {
        let root = match meta.purpose {
            Purpose::Load { .. } => "uploads",
            Purpose::Attach { .. } => "attachments",
        };
        // A tenant may be called `..`, so it never stands alone.
        self.data_dir
            .join(root)
            .join(format!("tenant={}", meta.tenant))
            .join(&meta.id)
    }

    pub(super) fn data(&self, meta: &Meta) -> PathBuf {
        self.folder(meta).join("data")
    }

    /// All uploads that are kept. What was not made to its end is removed.
    pub(super) fn all(&self) -> io::Result<Vec<Upload>> {
        let mut all = Vec::new();
        for root in ["uploads", "attachments"] {
            for tenant in entries(&self.data_dir.join(root))? {
                for folder in entries(&tenant)? {
                    match self.read(&folder) {
                        Ok(Some(upload)) => all.push(upload),
                        Ok(None) => fs::remove_dir_all(&folder)?,
                        Err(error) => {
                            warn!(folder = %folder.display(), %error, "an upload cannot be read and is left as it is");
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    fn read(&self, folder: &Path) -> io::Result<Option<Upload>> {
        let json =
            |name: &str| -> io::Result<Json> { Ok(serde_json::from_slice(&fs::read(folder.join(name))?)?) };
        let meta = match json("meta.json") {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let wrong = || io::Error::other("it is damaged, or of a later version");
        let meta = meta_of(&meta).ok_or_else(wrong)?;
        let state = state_of(&json("state.json")?).ok_or_else(wrong)?;
        Ok(Some(Upload::with(meta, state, self.clone())))
    }

    pub(super) fn begin(&self, meta: &Meta, state: &UploadState) -> io::Result<()> {
        let folder = self.folder(meta);
        fs::create_dir_all(&folder)?;
        File::create(folder.join("data"))?.sync_all()?;
        self.save(meta, state)?;
        replace(&folder, "meta.json", &meta_json(meta))?;
        let mut above = folder.as_path();
        while let Some(parent) = above.parent() {
            File::open(parent)?.sync_all()?;
            if parent == &*self.data_dir {
                break;
            }
            above = parent;
        }
        Ok(())
    }

    pub(super) fn save(&self, meta: &Meta, state: &UploadState) -> io::Result<()> {
        replace(&self.folder(meta), "state.json", &state_json(state))
    }

    pub(super) fn write(&self, meta: &Meta, offset: u64, part: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.data(meta))?;
        file.write_all_at(part, offset)?;
        file.sync_data()
    }

    /// Whether the file begins as one of its media type does.
    pub(super) fn begins_as(&self, meta: &Meta, media_type: &str) -> io::Result<bool> {
        let mut head = [0; 8];
        let length = File::open(self.data(meta))?.read(&mut head)?;
        let magic = MEDIA_TYPES.iter().find(|(known, _)| *known == media_type);
        Ok(magic.is_some_and(|(_, magic)| head[..length].starts_with(magic)))
    }

    pub(super) fn content(&self, meta: &Meta) -> io::Result<Vec<u8>> {
        fs::read(self.data(meta))
    }

    pub(super) fn drop_data(&self, meta: &Meta) -> io::Result<()> {
        match fs::remove_file(self.data(meta)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn remove(&self, meta: &Meta) -> io::Result<()> {
        let folder = self.folder(meta);
        // Without it, the next start removes the rest.
        match fs::remove_file(folder.join("meta.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_dir_all(folder)
    }

    /// Adds rejected rows behind those that count; answers where they end.
    pub(super) fn keep_rejected(&self, meta: &Meta, at: u64, rows: &[RejectedRow]) -> io::Result<u64> {
        if rows.is_empty() {
            return Ok(at);
        }
        let mut text = String::new();
        for row in rows {
            let line = json!({"line": row.line, "code": row.code, "detail": row.detail, "row": row.row});
            text.push_str(&line.to_string());
            text.push('\n');
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.folder(meta).join("rejected.ndjson"))?;
        file.write_all_at(text.as_bytes(), at)?;
        file.sync_data()?;
        Ok(at + text.len() as u64)
    }

    pub(super) fn rejected(
        &self,
        meta: &Meta,
        bytes: u64,
        skip: usize,
        limit: usize,
    ) -> io::Result<Vec<RejectedRow>> {
        let file = match File::open(self.folder(meta).join("rejected.ndjson")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let lines = BufReader::new(file.take(bytes)).lines();
        lines
            .skip(skip)
            .take(limit)
            .map(|line| {
                let row: Json = serde_json::from_str(&line?)?;
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                Ok(RejectedRow {
                    line: row["line"].as_u64().unwrap_or_default(),
                    code: text("code"),
                    detail: text("detail"),
                    row: text("row"),
                })
            })
            .collect()
    }

    /// Takes over the rejected rows of an upload of the same content.
    pub(super) fn copy_rejected(&self, from: &Meta, to: &Meta) -> io::Result<()> {
        let name = "rejected.ndjson";
        match fs::copy(self.folder(from).join(name), self.folder(to).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Writes a file aside, syncs it and puts it in the place of the old one.
fn replace(folder: &Path, name: &str, json: &Json) -> io::Result<()> {
    let aside = folder.join(format!("{name}.new"));
    let mut file = File::create(&aside)?;
    file.write_all(json.to_string().as_bytes())?;
    file.sync_data()?;
    fs::rename(&aside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn meta_json(meta: &Meta) -> Json {
    let mut json = json!({
        "version": VERSION, "id": meta.id, "tenant": meta.tenant.as_str(), "name": meta.name,
        "media_type": meta.media_type, "size": meta.size, "by": meta.by, "created_at": meta.created_at.ms(),
    });
    match &meta.purpose {
        Purpose::Load { format, map } => json["load"] = json!({"format": format.as_str(), "map": map}),
        Purpose::Attach { twin, media_type } => {
            json["attach"] = json!({"kind": twin.0.as_str(), "id": twin.1, "media_type": media_type});
        }
    }
    json
}

fn meta_of(json: &Json) -> Option<Meta> {
    if json["version"] != VERSION {
        return None;
    }
    let text = |json: &Json| json.as_str().map(str::to_owned);
    let purpose = if json["load"].is_object() {
        let word = json["load"]["format"].as_str()?;
        Purpose::Load {
            format: FORMATS.into_iter().find(|format| format.as_str() == word)?,
            map: text(&json["load"]["map"])?,
        }
    } else {
        let attach = &json["attach"];
        let written = attach["media_type"].as_str()?;
        Purpose::Attach {
            twin: (
                Kind::parse(attach["kind"].as_str()?).ok()?,
                attach["id"].as_str()?.into(),
            ),
            media_type: MEDIA_TYPES.iter().find(|(known, _)| *known == written)?.0,
        }
    };
    Some(Meta {
        id: text(&json["id"])?,
        tenant: TenantId::parse(json["tenant"].as_str()?).ok()?,
        name: text(&json["name"])?,
        media_type: text(&json["media_type"]),
        size: json["size"].as_u64()?,
        by: text(&json["by"])?,
        created_at: Timestamp::from_ms(json["created_at"].as_i64()?),
        purpose,
    })
}

fn state_json(state: &UploadState) -> Json {
    json!({
        "version": VERSION, "phase": state.phase.as_str(), "offset": state.offset, "line": state.line,
        "accepted": state.counts.accepted, "duplicates": state.counts.duplicates, "rejected": state.counts.rejected,
        "empty": state.counts.empty, "identity": state.identity, "same_as": state.same_as, "notes": state.notes,
        "problem": state.problem, "changed_at": state.changed_at.ms(), "rejected_bytes": state.rejected_bytes,
    })
}

fn state_of(json: &Json) -> Option<UploadState> {
    if json["version"] != VERSION {
        return None;
    }
    let text = |json: &Json| json.as_str().map(str::to_owned);
    let word = json["phase"].as_str()?;
    let problem = &json["problem"];
    Some(UploadState {
        phase: Phase::ALL.iter().find(|(known, _)| *known == word)?.1,
        offset: json["offset"].as_u64()?,
        line: json["line"].as_u64()?,
        counts: Counts {
            accepted: json["accepted"].as_u64()?,
            duplicates: json["duplicates"].as_u64()?,
            rejected: json["rejected"].as_u64()?,
            empty: json["empty"].as_u64()?,
        },
        identity: text(&json["identity"]),
        same_as: text(&json["same_as"]),
        notes: json["notes"].as_array()?.iter().filter_map(text).collect(),
        problem: text(&problem[0]).zip(text(&problem[1])),
        changed_at: Timestamp::from_ms(json["changed_at"].as_i64()?),
        rejected_bytes: json["rejected_bytes"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upload_is_and_how_far_it_came_survive_the_way_to_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::new(folder.path().to_owned());
        let meta = |id: &str, purpose: Purpose| Meta {
            id: id.into(),
            tenant: TenantId::parse("..").expect("a tenant"),
            name: "air.csv".into(),
            media_type: None,
            size: 10,
            by: "anyone".into(),
            created_at: Timestamp::from_ms(1_720_000_000_000),
            purpose,
        };
        let table = meta(
            "a1",
            Purpose::Load {
                format: Format::NdJson,
                map: "kind = \"scans\"".into(),
            },
        );
        let picture = meta(
            "b2",
            Purpose::Attach {
                twin: (Kind::Machine, "..".into()),
                media_type: "image/png",
            },
        );
        for meta in [&table, &picture] {
            Upload::new(meta.clone(), disk.clone()).begin().expect("made");
        }
        let upload = Upload::new(table.clone(), disk.clone());
        let counts = Counts {
            accepted: 1,
            duplicates: 2,
            rejected: 1,
            empty: 4,
        };
        let rejected = RejectedRow {
            line: 7,
            code: "import.number_invalid".into(),
            detail: "CO: \"x\" is not a number".into(),
            row: "x; y".into(),
        };
        upload
            .note(9, counts, std::slice::from_ref(&rejected))
            .expect("noted");
        upload.fail("import.empty", "nothing".into()).expect("noted");
        let mut all = disk.all().expect("read");
        all.sort_by(|a, b| a.meta.id.cmp(&b.meta.id));
        assert_eq!(
            all.iter().map(|upload| &upload.meta).collect::<Vec<_>>(),
            [&table, &picture]
        );
        assert_eq!(all[0].state(), upload.state());
        assert_eq!(all[0].rejected(0, 10).expect("read"), [rejected]);
        // All stays within the folder, whatever a tenant or a twin is called.
        let kept: Vec<_> = fs::read_dir(folder.path()).expect("read").collect();
        assert_eq!(kept.len(), 2);
        // A crash while it was made or removed leaves nothing.
        fs::remove_file(disk.folder(&picture).join("meta.json")).expect("removed");
        assert_eq!(disk.all().expect("read").len(), 1);
        assert!(!disk.folder(&picture).exists());
    }
}
