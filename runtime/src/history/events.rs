//! Events of a shard read back from the history's files, in the order of their seqs: for who still needs what the journal
//! has given up.
//!
//! Promises: an event comes back as it was journaled, each once, also while files are compacted; a range that no file
//! was written for is said to be missing. Memory is bounded: of what is asked for, the events with the lowest seqs are
//! kept. Knows nothing of the journal, and of where the events go.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use gemba_twins::{
    event::{Body, Event, Reading, Scan, Value},
    id::{TenantId, TwinId},
    time::Timestamp,
};
use parquet::{
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        metadata::RowGroupMetaData,
        reader::{FileReader, SerializedFileReader},
        statistics::Statistics,
    },
};

use super::{
    columns::{Columns, place_of},
    compaction::files_of,
    file::{FileError, folder_of},
    rows::{READINGS, SCANS},
    sheet::Schema,
};
use crate::decode;

/// The events of one kind of a tenant and shard.
pub(crate) struct FiledEvents<'a> {
    pub(crate) root: &'a Path,
    pub(crate) tenant: &'a TenantId,
    pub(crate) shard: u16,
    /// `readings` or `scans`.
    pub(crate) kind: &'a str,
}

/// Events in memory.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// All that there are of these seqs.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) events: BTreeMap<u64, Event>,
}

/// Events being collected, within a bound.
struct Collecting {
    events: BTreeMap<u64, (Event, usize)>,
    bytes: usize,
    bytes_max: usize,
    first: u64,
    last: u64,
}

impl FiledEvents<'_> {
    /// The events from `first` to `last`, or as many of them as take about `bytes_max` bytes. Blocks.
    pub(crate) fn chunk(&self, first: u64, last: u64, bytes_max: usize) -> Result<Chunk, FileError> {
        let mut collecting = Collecting {
            events: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            first,
            last,
        };
        for (from, to, path) in self.files()? {
            if from <= collecting.last && to >= first {
                self.read(&path, &mut collecting)
                    .map_err(|error| FileError::of(&path, error))?;
            }
        }
        let events = collecting.events.into_iter();
        Ok(Chunk {
            first,
            last: collecting.last,
            events: events.map(|(seq, (event, _))| (seq, event)).collect(),
        })
    }

    /// When the oldest event of the files after `after` was received: at most as late as that, by what the first of
    /// these files says of itself.
    pub(crate) fn oldest_received(&self, after: u64) -> Result<Option<Timestamp>, FileError> {
        let mut files = self.files()?;
        files.retain(|(_, to, _)| *to > after);
        let first = files.iter().map(|(from, ..)| *from).min();
        let mut oldest: Option<i64> = None;
        for (_, _, path) in files.iter().filter(|(from, ..)| Some(*from) == first) {
            let received = File::open(path)
                .map_err(ParquetError::from)
                .and_then(SerializedFileReader::new)
                .map(|reader| oldest_of(reader.metadata().row_groups(), self.schema()));
            let received = received.map_err(|error| FileError::of(path, error))?;
            oldest = received.into_iter().chain(oldest).min();
        }
        Ok(oldest.map(Timestamp::from_ms))
    }

    fn schema(&self) -> &'static Schema {
        if self.kind == SCANS.kind {
            &SCANS
        } else {
            &READINGS
        }
    }

    /// The shard's files of all days, with what they hold.
    fn files(&self) -> Result<Vec<(u64, u64, PathBuf)>, FileError> {
        let day = folder_of(self.root, self.tenant, self.schema(), "");
        let above = day.parent().unwrap_or(self.root);
        let failed = |error: io::Error| FileError::of(above, error);
        let listed = match fs::read_dir(above) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in listed {
            let folder = entry.map_err(failed)?.path();
            let name = folder.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(|name| name.starts_with("date=")) {
                continue;
            }
            let of_day = files_of(&folder).map_err(|error| FileError::of(&folder, error))?;
            let ours = of_day.into_iter().filter(|(shard, ..)| *shard == self.shard);
            files.extend(ours.map(|(_, from, to, path)| (from, to, path)));
        }
        files.sort();
        Ok(files)
    }

    fn read(&self, path: &Path, collecting: &mut Collecting) -> Result<(), ParquetError> {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        let seq = place_of(self.schema(), "seq");
        for index in 0..reader.num_row_groups() {
            let group = reader.get_row_group(index)?;
            let may_hold = match group.metadata().column(seq).statistics() {
                Some(Statistics::Int64(of)) => {
                    let bound = |seq: Option<&i64>, otherwise: u64| {
                        seq.and_then(|seq| u64::try_from(*seq).ok()).unwrap_or(otherwise)
                    };
                    bound(of.min_opt(), 0) <= collecting.last
                        && bound(of.max_opt(), u64::MAX) >= collecting.first
                }
                _ => true,
            };
            if may_hold {
                let columns = Columns::of(&*group, self.schema());
                if self.kind == SCANS.kind {
                    self.scans(&columns, collecting)?;
                } else {
                    self.readings(&columns, collecting)?;
                }
            }
        }
        Ok(())
    }

    fn readings(&self, columns: &Columns<'_>, collecting: &mut Collecting) -> Result<(), ParquetError> {
        let seqs = columns.wholes("seq")?;
        if !seqs.iter().flatten().any(|seq| collecting.wants(*seq)) {
            return Ok(());
        }
        let (twins, metrics) = (columns.texts("twin")?, columns.texts("metric")?);
        let (times, received) = (columns.wholes("time")?, columns.wholes("received_at")?);
        let (values, texts) = (columns.numbers("value")?, columns.texts("text")?);
        let (flags, scores) = (columns.flags("flag")?, columns.numbers("quality_score")?);
        let (sensors, sources) = (columns.texts("sensor_id")?, columns.texts("source")?);
        let (messages, types) = (columns.texts("message_id")?, columns.texts("sensor_type")?);
        let (locations, systems) = (columns.texts("location_id")?, columns.texts("source_system")?);
        let metadata = columns.texts("device_metadata")?;
        for (row, seq) in seqs.iter().enumerate() {
            let Some(seq) = collecting.wanted(*seq) else {
                continue;
            };
            let name = boxed(&metrics[row])?;
            let value = match (values[row], &texts[row], flags[row]) {
                (Some(number), ..) => Value::Number(number),
                (_, Some(_), _) => Value::Text(boxed(&texts[row])?),
                (.., Some(flag)) => Value::Bool(flag),
                // It was a number that is none.
                _ => Value::Number(f64::NAN),
            };
            if !collecting.events.contains_key(&seq) {
                let sensor_type = maybe(&types[row])?;
                let reading = Reading {
                    sensor_id: boxed(&sensors[row])?,
                    sensor_type: sensor_type.and_then(|word| decode::sensor_type(&word)),
                    location_id: maybe(&locations[row])?,
                    metrics: Vec::new(),
                    quality_score: scores[row],
                    source_system: maybe(&systems[row])?,
                    device_metadata: maybe(&metadata[row])?,
                };
                let event = Event {
                    twin: self.twin(&twins[row])?,
                    at: time(times[row]),
                    received_at: time(received[row]),
                    source: boxed(&sources[row])?.into(),
                    message_id: boxed(&messages[row])?,
                    origin: None,
                    body: Body::Reading(reading),
                };
                let bytes = bytes_of(&[&sensors[row], &messages[row], &metadata[row], &locations[row]]);
                collecting.begin(seq, event, bytes);
            }
            collecting.push_metric(seq, name, value);
        }
        Ok(())
    }

    fn scans(&self, columns: &Columns<'_>, collecting: &mut Collecting) -> Result<(), ParquetError> {
        let seqs = columns.wholes("seq")?;
        if !seqs.iter().flatten().any(|seq| collecting.wants(*seq)) {
            return Ok(());
        }
        let (twins, locations) = (columns.texts("twin")?, columns.texts("location")?);
        let (times, received) = (columns.wholes("time")?, columns.wholes("received_at")?);
        let (readers, products) = (columns.texts("reader_id")?, columns.texts("product_id")?);
        let (variants, operators) = (columns.texts("product_variant")?, columns.texts("operator_id")?);
        let (completes, retracts) = (columns.flags("completes")?, columns.flags("retracts")?);
        let (metadata, sources) = (columns.texts("metadata")?, columns.texts("source")?);
        let messages = columns.texts("message_id")?;
        for (row, seq) in seqs.iter().enumerate() {
            let Some(seq) = collecting.wanted(*seq) else {
                continue;
            };
            let scan = Scan {
                location: boxed(&locations[row])?,
                reader_id: maybe(&readers[row])?,
                product_id: maybe(&products[row])?,
                product_variant: maybe(&variants[row])?,
                operator_id: maybe(&operators[row])?,
                completes: completes[row].unwrap_or_default(),
                retracts: retracts[row].unwrap_or_default(),
                metadata: maybe(&metadata[row])?,
            };
            let event = Event {
                twin: self.twin(&twins[row])?,
                at: time(times[row]),
                received_at: time(received[row]),
                source: boxed(&sources[row])?.into(),
                message_id: boxed(&messages[row])?,
                origin: None,
                body: Body::Scan(scan),
            };
            let bytes = bytes_of(&[&locations[row], &messages[row], &metadata[row], &products[row]]);
            collecting.begin(seq, event, bytes);
        }
        Ok(())
    }

    fn twin(&self, text: &Option<ByteArray>) -> Result<TwinId, ParquetError> {
        let text = boxed(text)?;
        TwinId::parse(self.tenant.clone(), &text).map_err(|error| ParquetError::General(error.to_string()))
    }
}

/// Whose files a folder holds.
pub(crate) fn tenants_in(root: &Path) -> Result<Vec<TenantId>, FileError> {
    let failed = |error: io::Error| FileError::of(root, error);
    let mut tenants = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let tenant = name.to_str().and_then(|name| name.strip_prefix("tenant="));
        tenants.extend(tenant.and_then(|tenant| TenantId::parse(tenant).ok()));
    }
    Ok(tenants)
}

impl Collecting {
    fn wants(&self, seq: i64) -> bool {
        u64::try_from(seq).is_ok_and(|seq| (self.first..=self.last).contains(&seq))
    }

    fn wanted(&self, seq: Option<i64>) -> Option<u64> {
        let seq = u64::try_from(seq?).ok()?;
        (self.first..=self.last).contains(&seq).then_some(seq)
    }

    fn begin(&mut self, seq: u64, event: Event, bytes: usize) {
        let bytes = bytes + size_of::<Event>();
        self.bytes += bytes;
        self.events.insert(seq, (event, bytes));
        self.keep_within();
    }

    fn push_metric(&mut self, seq: u64, name: Box<str>, value: Value) {
        let more = size_of::<(Box<str>, Value)>() + name.len();
        // What was too much has just gone.
        let Some((event, bytes)) = self.events.get_mut(&seq) else {
            return;
        };
        if let Body::Reading(reading) = &mut event.body {
            reading.metrics.push((name, value));
        }
        *bytes += more;
        self.bytes += more;
        self.keep_within();
    }

    /// Gives up the newest events while there are too many.
    fn keep_within(&mut self) {
        while self.bytes > self.bytes_max && self.events.len() > 1 {
            if let Some((seq, (_, bytes))) = self.events.pop_last() {
                self.bytes -= bytes;
                self.last = seq - 1;
            }
        }
    }
}

fn oldest_of(groups: &[RowGroupMetaData], schema: &Schema) -> Option<i64> {
    let at = place_of(schema, "received_at");
    let of_group = |group: &RowGroupMetaData| match group.column(at).statistics() {
        Some(Statistics::Int64(of)) => of.min_opt().copied(),
        _ => None,
    };
    groups.iter().filter_map(of_group).min()
}

fn text_of(cell: &ByteArray) -> Result<Box<str>, ParquetError> {
    cell.as_utf8().map(Box::from)
}

fn maybe(cell: &Option<ByteArray>) -> Result<Option<Box<str>>, ParquetError> {
    cell.as_ref().map(text_of).transpose()
}

/// A text; empty where there is none.
fn boxed(cell: &Option<ByteArray>) -> Result<Box<str>, ParquetError> {
    maybe(cell).map(Option::unwrap_or_default)
}

fn time(ms: Option<i64>) -> Timestamp {
    Timestamp::from_ms(ms.unwrap_or_default())
}

fn bytes_of(cells: &[&Option<ByteArray>]) -> usize {
    cells
        .iter()
        .map(|cell| cell.as_ref().map_or(0, ByteArray::len))
        .sum()
}

#[cfg(test)]
mod tests {
    use gemba_twins::{event::SensorType, id::Kind};

    use super::{
        super::{file, rows::push_event, sheet::Sheet},
        *,
    };

    fn tenant() -> TenantId {
        TenantId::parse("acme").expect("a tenant")
    }

    /// An event of a machine or job; every seventh is a scan.
    fn event(seq: u64) -> Event {
        let at = Timestamp::from_ms(1_790_000_000_000 + i64::try_from(seq).expect("small") * 20_000_000);
        let (kind, body) = if seq.is_multiple_of(7) {
            let scan = Scan {
                location: "cell-1".into(),
                operator_id: seq.is_multiple_of(2).then(|| "anna".into()),
                retracts: seq.is_multiple_of(3),
                metadata: Some("{\"a\":1}".into()),
                ..Scan::default()
            };
            (Kind::Job, Body::Scan(scan))
        } else {
            let reading = Reading {
                sensor_id: format!("s-{}", seq % 3).into(),
                sensor_type: seq.is_multiple_of(2).then_some(SensorType::AirQuality),
                location_id: seq.is_multiple_of(5).then(|| "cell-2".into()),
                metrics: vec![
                    ("door".into(), Value::Bool(seq.is_multiple_of(2))),
                    ("execution".into(), Value::Text("producing".into())),
                    ("rpm".into(), Value::Number(seq as f64 + 0.5)),
                ],
                quality_score: (seq % 2 == 1).then_some(0.5),
                source_system: Some("edge".into()),
                device_metadata: Some(format!("{{\"seq\":{seq}}}").into()),
            };
            (Kind::Machine, Body::Reading(reading))
        };
        Event {
            twin: TwinId::new(tenant(), kind, &format!("t-{}", seq % 4)).expect("an id"),
            at,
            received_at: at.plus_ms(5),
            source: "http".into(),
            message_id: if seq.is_multiple_of(4) {
                "".into()
            } else {
                format!("m-{seq}").into()
            },
            origin: None,
            body,
        }
    }

    /// Files of these ranges, by the day of their events.
    fn write(root: &Path, ranges: &[(u64, u64)]) {
        for (first, last) in ranges {
            let mut sheets: BTreeMap<(&str, String), Sheet> = BTreeMap::new();
            for seq in *first..=*last {
                let event = event(seq);
                let schema = if seq.is_multiple_of(7) { &SCANS } else { &READINGS };
                let place = (schema.kind, super::super::rows::day_of(event.at));
                push_event(
                    sheets.entry(place).or_insert_with(|| Sheet::new(schema)),
                    3,
                    seq,
                    &event,
                );
            }
            for ((_, day), sheet) in &sheets {
                let folder = folder_of(root, &tenant(), sheet.schema(), day);
                file::write(&folder, &file::name_of(3, *first, *last), sheet, &[]).expect("written");
            }
        }
    }

    fn all(root: &Path, kind: &str, bytes_max: usize) -> (Vec<(u64, Event)>, usize) {
        let tenant = tenant();
        let filed = FiledEvents {
            root,
            tenant: &tenant,
            shard: 3,
            kind,
        };
        let (mut events, mut next, mut chunks) = (Vec::new(), 5, 0);
        while next <= 95 {
            let chunk = filed.chunk(next, 95, bytes_max).expect("readable");
            assert_eq!(chunk.first, next);
            events.extend(chunk.events);
            (next, chunks) = (chunk.last + 1, chunks + 1);
        }
        (events, chunks)
    }

    #[test]
    fn events_come_back_as_they_were_in_order_and_each_once() {
        let folder = tempfile::tempdir().expect("a folder");
        // As a compaction leaves it that was cut off: a range covers others that are still there.
        write(folder.path(), &[(1, 40), (41, 60), (61, 100), (41, 100)]);
        for bytes_max in [usize::MAX, 2_000, 1] {
            for (kind, is_scan) in [("readings", false), ("scans", true)] {
                let (events, chunks) = all(folder.path(), kind, bytes_max);
                let expected: Vec<(u64, Event)> = (5..=95_u64)
                    .filter(|seq| u64::is_multiple_of(*seq, 7) == is_scan)
                    .map(|seq| (seq, event(seq)))
                    .collect();
                assert_eq!(events, expected, "{kind} {bytes_max}");
                assert_eq!(chunks > 1, bytes_max < usize::MAX, "{kind} {bytes_max}: {chunks}");
            }
        }
    }

    #[test]
    fn files_say_when_their_oldest_event_was_received() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[(1, 40), (41, 60)]);
        let tenant = tenant();
        let filed = FiledEvents {
            root: folder.path(),
            tenant: &tenant,
            shard: 3,
            kind: "readings",
        };
        assert_eq!(
            filed.oldest_received(0).expect("readable"),
            Some(event(1).received_at)
        );
        assert_eq!(
            filed.oldest_received(40).expect("readable"),
            Some(event(41).received_at)
        );
        assert_eq!(filed.oldest_received(60).expect("readable"), None);
    }
}
