//! Rows of the history's files as one Parquet file.
//!
//! Promises: the columns are those of the kind; memory is bounded by one row group, whose rows are sorted as those of
//! the history's files are. Knows nothing of where the file goes.

use std::io::Write;

use gemba_twins::time::Timestamp;
use parquet::{
    errors::ParquetError,
    file::writer::SerializedFileWriter,
    record::{Field, Row},
};

use super::{
    file::{FileError, GROUP_ROWS, properties},
    reading::FiledRows,
    sheet::{Cell, ColumnType, Schema, Sheet},
};

impl FiledRows<'_> {
    /// Writes the rows into a Parquet file; answers how many there were. Blocks.
    pub fn write_parquet(&self, out: impl Write + Send) -> Result<u64, FileError> {
        let Some(schema) = self.schema() else { return Ok(0) };
        let (mut count, mut failed) = (0, None);
        let opened = schema.parquet().and_then(|of| {
            let properties = properties(schema, &[("gemba.tenant", self.tenant.to_string())])?;
            SerializedFileWriter::new(out, of, properties)
        });
        let of_export = |error: ParquetError| FileError::Export {
            detail: error.to_string(),
        };
        let mut writer = opened.map_err(of_export)?;
        let mut sheet = Sheet::new(schema);
        self.each_row(&mut |schema, row| {
            sheet.push(&cells(schema, row));
            count += 1;
            if sheet.rows() == GROUP_ROWS {
                let full = std::mem::replace(&mut sheet, Sheet::new(schema));
                failed = write_group(&mut writer, &full).err();
            }
            failed.is_none()
        })?;
        let rest = match failed {
            Some(error) => Err(error),
            None if sheet.rows() > 0 => write_group(&mut writer, &sheet),
            None => Ok(()),
        };
        rest.and_then(|()| writer.close()).map_err(of_export)?;
        Ok(count)
    }
}

fn write_group(
    writer: &mut SerializedFileWriter<impl Write + Send>,
    sheet: &Sheet,
) -> Result<(), ParquetError> {
    sheet.write(&sheet.order(), writer.next_row_group()?)
}

/// A row's cells; what an older file does not have is null.
fn cells<'a>(schema: &'static Schema, row: &'a Row) -> Vec<Cell<'a>> {
    let mut fields = row.get_column_iter().map(|(_, field)| field);
    let cells = schema
        .columns
        .iter()
        .map(|column| match (fields.next(), column.holds) {
            (Some(Field::Str(text)), ColumnType::Text) => Cell::Text(Some(text)),
            (Some(Field::TimestampMillis(ms)), ColumnType::Time) => Cell::Time(Some(Timestamp::from_ms(*ms))),
            (Some(Field::Long(whole)), ColumnType::Integer) => Cell::Integer(*whole),
            (Some(Field::Double(number)), ColumnType::Number) => Cell::Number(Some(*number)),
            (Some(Field::Bool(flag)), ColumnType::Flag) => Cell::Flag(Some(*flag)),
            (_, ColumnType::Text) => Cell::Text(None),
            (_, ColumnType::Time) => Cell::Time(None),
            // No column of whole numbers is optional.
            (_, ColumnType::Integer) => Cell::Integer(0),
            (_, ColumnType::Number) => Cell::Number(None),
            (_, ColumnType::Flag) => Cell::Flag(None),
        });
    cells.collect()
}
