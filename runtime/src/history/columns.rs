//! The columns of a row group of a Parquet file, whole and by their names.
//!
//! Promises: a column has a cell for each row; one that an older file lacks holds nothing. Knows nothing of what they mean.

use parquet::{
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::reader::RowGroupReader,
};

use super::sheet::Schema;

/// The columns of a row group.
pub(super) struct Columns<'a> {
    group: &'a dyn RowGroupReader,
    schema: &'static Schema,
    rows: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn of(group: &'a dyn RowGroupReader, schema: &'static Schema) -> Self {
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        Self { group, schema, rows }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        self.column::<ByteArrayType>(name)
    }

    pub(super) fn wholes(&self, name: &str) -> Result<Vec<Option<i64>>, ParquetError> {
        self.column::<Int64Type>(name)
    }

    pub(super) fn numbers(&self, name: &str) -> Result<Vec<Option<f64>>, ParquetError> {
        self.column::<DoubleType>(name)
    }

    pub(super) fn flags(&self, name: &str) -> Result<Vec<Option<bool>>, ParquetError> {
        self.column::<BoolType>(name)
    }

    fn column<T: DataType>(&self, name: &str) -> Result<Vec<Option<T::T>>, ParquetError> {
        let at = place_of(self.schema, name);
        if at >= self.group.num_columns() {
            return Ok(vec![None; self.rows]);
        }
        let damaged = |what: &str| ParquetError::General(format!("column {name} {what}"));
        let mut reader = T::get_column_reader(self.group.get_column_reader(at)?)
            .ok_or_else(|| damaged("is of another type"))?;
        let (mut levels, mut values) = (Vec::new(), Vec::with_capacity(self.rows));
        let mut read = 0;
        while read < self.rows {
            let (records, ..) =
                reader.read_records(self.rows - read, Some(&mut levels), None, &mut values)?;
            if records == 0 {
                return Err(damaged("ends early"));
            }
            read += records;
        }
        let mut values = values.into_iter();
        if !self.schema.columns[at].optional {
            return Ok(values.map(Some).collect());
        }
        let cells = levels
            .into_iter()
            .map(|level| if level > 0 { values.next() } else { None });
        Ok(cells.collect())
    }
}

/// Where a column stands.
pub(super) fn place_of(schema: &Schema, name: &str) -> usize {
    let at = schema.columns.iter().position(|column| column.name == name);
    at.unwrap_or(usize::MAX)
}
