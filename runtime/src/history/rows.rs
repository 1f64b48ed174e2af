//! What the history's files hold: a schema for each kind, and the rows that a journaled event leads to.
//!
//! Promises: an event always leads to the same rows; a reading gives one row for each of its metrics. The schemas are
//! drawn in FORMAT.md and only ever grow. Knows nothing of files.

use gemba_twins::{
    event::{Body, Event, Value},
    id::TwinId,
    rollup::{Level, RollupRow},
    time::Timestamp,
};

use super::sheet::{Cell, Column, ColumnType, Schema, Sheet};
use crate::{decode, notify::Notice};

const fn column(name: &'static str, holds: ColumnType) -> Column {
    Column {
        name,
        holds,
        optional: false,
    }
}

const fn optional(name: &'static str, holds: ColumnType) -> Column {
    Column {
        name,
        holds,
        optional: true,
    }
}

/// One row for each metric of each reading.
pub(crate) static READINGS: Schema = Schema {
    kind: "readings",
    columns: &[
        column("twin", ColumnType::Text),
        column("metric", ColumnType::Text),
        column("time", ColumnType::Time),
        column("seq", ColumnType::Integer),
        column("shard", ColumnType::Integer),
        optional("value", ColumnType::Number),
        optional("text", ColumnType::Text),
        optional("flag", ColumnType::Flag),
        column("received_at", ColumnType::Time),
        column("sensor_id", ColumnType::Text),
        column("source", ColumnType::Text),
        optional("message_id", ColumnType::Text),
        optional("quality_score", ColumnType::Number),
        optional("sensor_type", ColumnType::Text),
        optional("location_id", ColumnType::Text),
        optional("source_system", ColumnType::Text),
        optional("device_metadata", ColumnType::Text),
    ],
    sorted_by: 4,
};

/// One row for each scan.
pub(crate) static SCANS: Schema = Schema {
    kind: "scans",
    columns: &[
        column("twin", ColumnType::Text),
        column("time", ColumnType::Time),
        column("seq", ColumnType::Integer),
        column("shard", ColumnType::Integer),
        column("location", ColumnType::Text),
        optional("reader_id", ColumnType::Text),
        optional("product_id", ColumnType::Text),
        optional("product_variant", ColumnType::Text),
        optional("operator_id", ColumnType::Text),
        column("completes", ColumnType::Flag),
        optional("metadata", ColumnType::Text),
        column("received_at", ColumnType::Time),
        column("source", ColumnType::Text),
        optional("message_id", ColumnType::Text),
        column("retracts", ColumnType::Flag),
    ],
    sorted_by: 3,
};

/// One row for each bucket of each metric of a day.
pub(crate) static ROLLUPS: Schema = Schema {
    kind: "rollups",
    columns: &[
        column("twin", ColumnType::Text),
        column("metric", ColumnType::Text),
        column("step", ColumnType::Text),
        column("time", ColumnType::Time),
        column("count", ColumnType::Integer),
        optional("avg", ColumnType::Number),
        optional("time_weighted_avg", ColumnType::Number),
        optional("min", ColumnType::Number),
        optional("max", ColumnType::Number),
        optional("first", ColumnType::Number),
        optional("last", ColumnType::Number),
        column("increase", ColumnType::Number),
        column("covered_s", ColumnType::Number),
        column("corrected", ColumnType::Flag),
    ],
    sorted_by: 4,
};

/// One row for each change of an alarm: its life cycle by ISA-18.2.
pub(crate) static ALARMS: Schema = Schema {
    kind: "alarms",
    columns: &[
        column("twin", ColumnType::Text),
        column("rule", ColumnType::Text),
        column("time", ColumnType::Time),
        column("seq", ColumnType::Integer),
        column("shard", ColumnType::Integer),
        column("event", ColumnType::Text),
        column("state", ColumnType::Text),
        column("priority", ColumnType::Text),
        column("message", ColumnType::Text),
        optional("value", ColumnType::Number),
        optional("text", ColumnType::Text),
        optional("flag", ColumnType::Flag),
        optional("done_by", ColumnType::Text),
        optional("comment", ColumnType::Text),
    ],
    sorted_by: 4,
};

/// One row for each numeric KPI of each twin at a time.
pub(crate) static KPIS: Schema = Schema {
    kind: "kpis",
    columns: &[
        column("twin", ColumnType::Text),
        column("kpi", ColumnType::Text),
        column("time", ColumnType::Time),
        column("seq", ColumnType::Integer),
        column("shard", ColumnType::Integer),
        optional("value", ColumnType::Number),
        optional("reason", ColumnType::Text),
    ],
    sorted_by: 3,
};

/// One row for each twin at a time: all of it as JSON.
pub(crate) static STATES: Schema = Schema {
    kind: "states",
    columns: &[
        column("twin", ColumnType::Text),
        column("time", ColumnType::Time),
        column("seq", ColumnType::Integer),
        column("shard", ColumnType::Integer),
        column("rev", ColumnType::Integer),
        column("state", ColumnType::Text),
    ],
    sorted_by: 2,
};

/// The kind of file that an event's rows go to; `None` where it leads to none.
pub(crate) fn schema_of(event: &Event) -> Option<&'static Schema> {
    match &event.body {
        Body::Reading(_) => Some(&READINGS),
        Body::Scan(_) => Some(&SCANS),
        _ => None,
    }
}

/// The kinds of files that events go to.
pub(crate) const KINDS_OF_EVENTS: [&str; 2] = [READINGS.kind, SCANS.kind];

/// Whether an event leads to rows.
pub(crate) fn is_filed(event: &Event) -> bool {
    schema_of(event).is_some()
}

/// A twin within its tenant, e.g. `machine/cnc-07`.
pub(crate) fn address(id: &TwinId) -> String {
    format!("{}/{}", id.kind(), id.id())
}

/// Appends the rows of an event to a sheet of its kind.
pub(crate) fn push_event(sheet: &mut Sheet, shard: u16, seq: u64, event: &Event) {
    let twin = address(&event.twin);
    let seq = Cell::Integer(i64::try_from(seq).unwrap_or(i64::MAX));
    let shard = Cell::Integer(i64::from(shard));
    let message_id = Cell::Text((!event.message_id.is_empty()).then_some(&event.message_id));
    match &event.body {
        Body::Reading(reading) => {
            let sensor_type = reading.sensor_type.map(decode::word_of);
            for (name, value) in &reading.metrics {
                let (number, text, flag) = told_apart(Some(value));
                sheet.push(&[
                    Cell::Text(Some(&twin)),
                    Cell::Text(Some(name)),
                    Cell::Time(Some(event.at)),
                    seq,
                    shard,
                    Cell::Number(number),
                    Cell::Text(text),
                    Cell::Flag(flag),
                    Cell::Time(Some(event.received_at)),
                    Cell::Text(Some(&reading.sensor_id)),
                    Cell::Text(Some(&event.source)),
                    message_id,
                    Cell::Number(reading.quality_score),
                    Cell::Text(sensor_type),
                    Cell::Text(reading.location_id.as_deref()),
                    Cell::Text(reading.source_system.as_deref()),
                    Cell::Text(reading.device_metadata.as_deref()),
                ]);
            }
        }
        Body::Scan(scan) => sheet.push(&[
            Cell::Text(Some(&twin)),
            Cell::Time(Some(event.at)),
            seq,
            shard,
            Cell::Text(Some(&scan.location)),
            Cell::Text(scan.reader_id.as_deref()),
            Cell::Text(scan.product_id.as_deref()),
            Cell::Text(scan.product_variant.as_deref()),
            Cell::Text(scan.operator_id.as_deref()),
            Cell::Flag(Some(scan.completes)),
            Cell::Text(scan.metadata.as_deref()),
            Cell::Time(Some(event.received_at)),
            Cell::Text(Some(&event.source)),
            message_id,
            Cell::Flag(Some(scan.retracts)),
        ]),
        _ => {}
    }
}

/// A value as a number, a text or a flag.
fn told_apart(value: Option<&Value>) -> (Option<f64>, Option<&str>, Option<bool>) {
    match value {
        Some(Value::Number(number)) => (Some(*number), None, None),
        Some(Value::Text(text)) => (None, Some(&**text), None),
        Some(Value::Bool(flag)) => (None, None, Some(*flag)),
        None => (None, None, None),
    }
}

/// Appends the row of a change of an alarm.
pub(crate) fn push_alarm(sheet: &mut Sheet, notice: &Notice) {
    let change = &notice.change;
    let (number, text, flag) = told_apart(change.value.as_ref());
    sheet.push(&[
        Cell::Text(Some(&address(&notice.twin))),
        Cell::Text(Some(&change.rule)),
        Cell::Time(Some(change.at)),
        Cell::Integer(i64::try_from(notice.seq).unwrap_or(i64::MAX)),
        Cell::Integer(i64::from(notice.shard)),
        Cell::Text(Some(change.what.as_str())),
        Cell::Text(Some(change.state.as_str())),
        Cell::Text(Some(change.priority.as_str())),
        Cell::Text(Some(&change.text)),
        Cell::Number(number),
        Cell::Text(text),
        Cell::Flag(flag),
        Cell::Text(change.by.as_deref()),
        Cell::Text(change.comment.as_deref()),
    ]);
}

/// A width of buckets as rows name it.
pub(crate) fn step_of(level: Level) -> &'static str {
    match level {
        Level::M1 => "1m",
        Level::M5 => "5m",
        Level::H1 => "1h",
        Level::D1 => "1d",
    }
}

/// Appends a bucket's rows.
pub(crate) fn push_rollup(sheet: &mut Sheet, twin: &str, row: &RollupRow) {
    let step = step_of(row.level);
    for (metric, stats) in &row.metrics {
        let measured = |value: f64| Cell::Number((stats.count > 0).then_some(value));
        sheet.push(&[
            Cell::Text(Some(twin)),
            Cell::Text(Some(metric)),
            Cell::Text(Some(step)),
            Cell::Time(Some(row.start)),
            Cell::Integer(i64::from(stats.count)),
            Cell::Number(stats.avg()),
            Cell::Number(stats.time_weighted_avg()),
            measured(stats.min),
            measured(stats.max),
            measured(stats.first),
            measured(stats.last),
            Cell::Number(Some(stats.increase)),
            Cell::Number(Some(f64::from(stats.covered_ms) / 1_000.0)),
            Cell::Flag(Some(row.corrected)),
        ]);
    }
}

/// The UTC day of a time, as folders name it: `2026-11-23`.
pub(crate) fn day_of(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}
