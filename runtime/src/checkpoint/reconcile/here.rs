//! The side of the files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use gemba_twins::{id::TenantId, time::Timestamp};
use serde_json::Value as Json;

use super::{ReconcileError, Rows, digest};
use crate::{
    checkpoint::rows::Table,
    history::{FileError, FiledRow, FiledRows},
};

const DAY_MS: i64 = 86_400_000;

/// What stands after `before` in the names of a folder's entries.
fn names(folder: &Path, before: &str) -> Result<Vec<String>, FileError> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::of(folder, error)),
    };
    let mut found: Vec<String> = listed
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix(before).map(str::to_owned)
        })
        .collect();
    found.sort();
    Ok(found)
}

/// The tenants that have files.
pub(super) fn tenants(history: &Path) -> Result<Vec<TenantId>, FileError> {
    let found = names(history, "tenant=")?;
    Ok(found
        .iter()
        .filter_map(|name| TenantId::parse(name).ok())
        .collect())
}

/// The shards that have written files.
pub(super) fn shards(history: &Path) -> Result<Vec<u16>, FileError> {
    let found = names(&history.join("_state"), "")?;
    let number = |name: &String| name.strip_suffix(".json")?.parse().ok();
    Ok(found.iter().filter_map(number).collect())
}

/// The days of which a tenant has files.
pub(super) fn days(history: &Path, tenant: &TenantId, table: Table) -> Result<BTreeSet<String>, FileError> {
    let folder = history
        .join(format!("tenant={tenant}"))
        .join(format!("kind={}", table.word()));
    Ok(names(&folder, "date=")?.into_iter().collect())
}

/// A tenant's rows of one day.
pub(super) fn rows(
    history: &Path,
    tenant: &TenantId,
    table: Table,
    day: &str,
) -> Result<Rows, ReconcileError> {
    let from: Timestamp = format!("{day}T00:00:00Z")
        .parse()
        .map_err(|_| ReconcileError::Odd(format!("date={day} is no day")))?;
    let files = FiledRows {
        root: history,
        tenant,
        kind: table.word(),
        twin: None,
        from,
        to: from.plus_ms(DAY_MS),
    };
    // A reading is a row for each of its metrics.
    let mut texts: BTreeMap<(u16, u64), (String, u32)> = BTreeMap::new();
    let mut odd = None;
    files.each(&mut |row| {
        match text_of(&row, table) {
            Some((at, text)) => texts.entry(at).or_insert((text, 0)).1 += 1,
            None => odd = Some(row),
        }
        odd.is_none()
    })?;
    if let Some(row) = odd {
        return Err(ReconcileError::Odd(format!(
            "a row of {day} cannot be read: {row:?}"
        )));
    }
    let digests = texts.into_iter().map(|(at, (text, metrics))| {
        let text = match table {
            Table::Readings => format!("{text}|{metrics}"),
            Table::Scans | Table::Twins => text,
        };
        (at, vec![digest(&text)])
    });
    Ok(digests.collect())
}

/// Shard, seq and what else holds a row; the warehouse makes the same text.
fn text_of(row: &FiledRow, table: Table) -> Option<((u16, u64), String)> {
    let of = |name: &str| {
        row.iter()
            .find(|(column, _)| *column == name)
            .map(|(_, value)| value)
    };
    let text = |name: &str| match of(name) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Bool(flag)) => flag.to_string(),
        _ => String::new(),
    };
    let ms = |name: &str| Some(of(name)?.as_str()?.parse::<Timestamp>().ok()?.ms());
    let (shard, seq) = (u16::try_from(of("shard")?.as_u64()?).ok()?, of("seq")?.as_u64()?);
    let (at, received, message) = (ms("time")?, ms("received_at")?, text("message_id"));
    let twin = text("twin");
    let rest = match table {
        Table::Readings => format!("{twin}|{}", text("sensor_id")),
        Table::Scans | Table::Twins => {
            let job = twin.strip_prefix("job/")?;
            let (reader, product) = (text("reader_id"), text("product_id"));
            format!(
                "{job}|{}|{reader}|{product}|{}",
                text("location"),
                text("completes")
            )
        }
    };
    Some(((shard, seq), format!("{seq}|{at}|{received}|{rest}|{message}")))
}
