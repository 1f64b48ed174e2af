//! Rows of one kind, column by column, on their way into a Parquet file.
//!
//! Promises: the columns are those of the schema, in its order; rows leave sorted by the schema's sort columns, so
//! that the rows of one twin lie together and a file's statistics tell a reader what it may skip. Words that repeat
//! (ids, metric names) are held once. Knows nothing of files and of where the rows come from.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use bytes::Bytes;
use gemba_twins::time::Timestamp;
use parquet::{
    basic::{LogicalType, Repetition, TimeUnit, Type as PhysicalType},
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::writer::SerializedRowGroupWriter,
    schema::types::Type,
};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// UTF-8.
    Text,
    /// Milliseconds since 1970 in UTC.
    Time,
    Integer,
    Number,
    Flag,
}

/// A column; those that are optional hold nulls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) holds: ColumnType,
    pub(crate) optional: bool,
}

/// The columns of a kind of file. A later release may add columns at the end and removes none.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The word in the folder's name, `kind=readings`.
    pub(crate) kind: &'static str,
    pub(crate) columns: &'static [Column],
    /// How many of the first columns the rows are sorted by.
    pub(crate) sorted_by: usize,
}

/// A value on its way into a column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    Text(Option<&'a str>),
    Time(Option<Timestamp>),
    Integer(i64),
    Number(Option<f64>),
    Flag(Option<bool>),
}

#[derive(Debug)]
enum Values {
    /// Numbers of words, 0 for null.
    Text(Vec<u32>),
    Whole(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Flag(Vec<Option<bool>>),
}

/// Rows of one kind.
#[derive(Debug)]
pub(crate) struct Sheet {
    schema: &'static Schema,
    words: Vec<Bytes>,
    numbers: HashMap<Bytes, u32>,
    columns: Vec<Values>,
    rows: usize,
}

impl Sheet {
    pub(crate) fn new(schema: &'static Schema) -> Self {
        let columns = schema.columns.iter().map(|column| match column.holds {
            ColumnType::Text => Values::Text(Vec::new()),
            ColumnType::Time | ColumnType::Integer => Values::Whole(Vec::new()),
            ColumnType::Number => Values::Number(Vec::new()),
            ColumnType::Flag => Values::Flag(Vec::new()),
        });
        Self {
            schema,
            words: Vec::new(),
            numbers: HashMap::new(),
            columns: columns.collect(),
            rows: 0,
        }
    }

    pub(crate) fn schema(&self) -> &'static Schema {
        self.schema
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a row; its cells are of the columns' types, in their order.
    pub(crate) fn push(&mut self, row: &[Cell<'_>]) {
        assert_eq!(row.len(), self.columns.len(), "a row has a cell for each column");
        for (index, cell) in row.iter().enumerate() {
            match (*cell, &mut self.columns[index]) {
                (Cell::Text(text), Values::Text(column)) => {
                    let number = text.map_or(0, |text| number_of(text, &mut self.words, &mut self.numbers));
                    column.push(number);
                }
                (Cell::Time(at), Values::Whole(column)) => column.push(at.map(Timestamp::ms)),
                (Cell::Integer(whole), Values::Whole(column)) => column.push(Some(whole)),
                (Cell::Number(number), Values::Number(column)) => column.push(number),
                (Cell::Flag(flag), Values::Flag(column)) => column.push(flag),
                (cell, _) => unreachable!(
                    "{cell:?} is not what column {index} of {} holds",
                    self.schema.kind
                ),
            }
        }
        self.rows += 1;
    }

    /// The numbers of the rows in the order in which they are written.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rows).collect();
        order.sort_by(|a, b| {
            let by = self.columns[..self.schema.sorted_by].iter();
            by.map(|column| self.compare(column, *a, *b))
                .find(|ordering| *ordering != Ordering::Equal)
                .unwrap_or(Ordering::Equal)
        });
        order
    }

    fn compare(&self, column: &Values, a: usize, b: usize) -> Ordering {
        match column {
            Values::Text(cells) if cells[a] == cells[b] => Ordering::Equal,
            Values::Text(cells) => self.word(cells[a]).cmp(&self.word(cells[b])),
            Values::Whole(cells) => cells[a].cmp(&cells[b]),
            Values::Number(cells) => cells[a].partial_cmp(&cells[b]).unwrap_or(Ordering::Equal),
            Values::Flag(cells) => cells[a].cmp(&cells[b]),
        }
    }

    fn word(&self, number: u32) -> Option<&Bytes> {
        number.checked_sub(1).map(|index| &self.words[index as usize])
    }

    /// Writes some of the rows as a row group.
    pub(crate) fn write(
        &self,
        rows: &[usize],
        mut group: SerializedRowGroupWriter<'_, impl std::io::Write + Send>,
    ) -> Result<(), ParquetError> {
        for (column, of) in self.columns.iter().zip(self.schema.columns) {
            let Some(mut writer) = group.next_column()? else {
                break;
            };
            match column {
                Values::Text(cells) => {
                    let cells = rows
                        .iter()
                        .map(|row| self.word(cells[*row]).cloned().map(ByteArray::from));
                    let (values, levels) = split(cells, of.optional);
                    writer
                        .typed::<ByteArrayType>()
                        .write_batch(&values, levels.as_deref(), None)?;
                }
                Values::Whole(cells) => {
                    let (values, levels) = split(rows.iter().map(|row| cells[*row]), of.optional);
                    writer
                        .typed::<Int64Type>()
                        .write_batch(&values, levels.as_deref(), None)?;
                }
                Values::Number(cells) => {
                    let (values, levels) = split(rows.iter().map(|row| cells[*row]), of.optional);
                    writer
                        .typed::<DoubleType>()
                        .write_batch(&values, levels.as_deref(), None)?;
                }
                Values::Flag(cells) => {
                    let (values, levels) = split(rows.iter().map(|row| cells[*row]), of.optional);
                    writer
                        .typed::<BoolType>()
                        .write_batch(&values, levels.as_deref(), None)?;
                }
            }
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn number_of(text: &str, words: &mut Vec<Bytes>, numbers: &mut HashMap<Bytes, u32>) -> u32 {
    if let Some(number) = numbers.get(text.as_bytes()) {
        return *number;
    }
    let word = Bytes::copy_from_slice(text.as_bytes());
    words.push(word.clone());
    // A sheet has fewer rows than a u32 counts: it is cut long before.
    let number = u32::try_from(words.len()).unwrap_or(u32::MAX);
    numbers.insert(word, number);
    number
}

/// The values that are there, and the definition levels where the column is optional.
fn split<T: Default>(cells: impl Iterator<Item = Option<T>>, optional: bool) -> (Vec<T>, Option<Vec<i16>>) {
    if !optional {
        return (cells.map(Option::unwrap_or_default).collect(), None);
    }
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    (values, Some(levels))
}

impl Schema {
    /// The schema in Parquet's terms.
    pub(crate) fn parquet(&self) -> Result<Arc<Type>, ParquetError> {
        let fields = self.columns.iter().map(|column| {
            let (physical, logical) = match column.holds {
                ColumnType::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
                ColumnType::Time => (
                    PhysicalType::INT64,
                    Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
                ),
                ColumnType::Integer => (PhysicalType::INT64, None),
                ColumnType::Number => (PhysicalType::DOUBLE, None),
                ColumnType::Flag => (PhysicalType::BOOLEAN, None),
            };
            let repetition = if column.optional {
                Repetition::OPTIONAL
            } else {
                Repetition::REQUIRED
            };
            let builder = Type::primitive_type_builder(column.name, physical);
            builder
                .with_repetition(repetition)
                .with_logical_type(logical)
                .build()
                .map(Arc::new)
        });
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        Type::group_type_builder(self.kind)
            .with_fields(fields)
            .build()
            .map(Arc::new)
    }
}
