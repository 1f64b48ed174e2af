//! Statements as texts: the protocol's client binds no values, so they are written into the text here and nowhere else.
//!
//! Promises: whatever a value holds, it ends where it should end (property test); a statement's text stays under 1 MB,
//! above which Snowflake does not take a repetition for one; names are those of `deploy/snowflake/003_tables.sql`. Knows
//! nothing of sessions.

use std::fmt::Write as _;

use gemba_twins::time::Timestamp;

/// Bytes of values in a statement: Snowflake recommends texts of 1 MB at most.
const TEXT_MAX: usize = 900_000;
/// Rows in a statement: a list of `VALUES` holds 16,384.
const ROWS_MAX: usize = 10_000;

/// A text as a literal of Snowflake.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// A backslash escapes within Snowflake's literals, so it is doubled as the quote is; line breaks are written as escapes.
fn push_quoted(out: &mut String, text: &str) {
    out.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\x00"),
            letter => out.push(letter),
        }
    }
    out.push('\'');
}

/// A time in UTC without a zone, as TIMESTAMP_NTZ reads it.
pub(crate) fn ntz(time: Timestamp) -> String {
    let text = time.to_string();
    text.strip_suffix('Z').unwrap_or(&text).to_owned()
}

/// What a column holds, and so how its value is read from the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    Whole,
    Number,
    Time,
    Flag,
    Json,
}

impl Holds {
    fn read(self, column: usize) -> String {
        match self {
            Self::Text => format!("COLUMN{column}::VARCHAR"),
            Self::Whole => format!("COLUMN{column}::NUMBER(20, 0)"),
            Self::Number => format!("COLUMN{column}::FLOAT"),
            Self::Time => format!("COLUMN{column}::TIMESTAMP_NTZ(3)"),
            Self::Flag => format!("COLUMN{column}::BOOLEAN"),
            Self::Json => format!("PARSE_JSON(COLUMN{column}::VARCHAR)"),
        }
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Text(Option<&'a str>),
    Whole(u64),
    Number(Option<f64>),
    Time(Timestamp),
    Flag(bool),
}

fn push_cell(out: &mut String, cell: Cell<'_>) {
    // A text takes everything.
    let _ = match cell {
        Cell::Text(None) | Cell::Number(None) => write!(out, "NULL"),
        Cell::Text(Some(text)) => {
            push_quoted(out, text);
            Ok(())
        }
        Cell::Whole(number) => write!(out, "{number}"),
        // What is no number is none of the warehouse's.
        Cell::Number(Some(number)) if !number.is_finite() => write!(out, "NULL"),
        Cell::Number(Some(number)) => write!(out, "{number:e}"),
        Cell::Time(time) => write!(out, "'{}'", ntz(time)),
        Cell::Flag(flag) => write!(out, "{}", if flag { "TRUE" } else { "FALSE" }),
    };
}

/// A table that statements write to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: &'static str,
    /// The first ones are its key.
    pub(super) columns: &'static [(&'static str, Holds)],
    /// How many columns the key has; rows of a table without one are inserted.
    pub(super) keys: usize,
}

/// Rows on their way into a statement.
pub(super) struct Rows {
    target: &'static Target,
    values: String,
    pub(super) count: usize,
}

impl Rows {
    pub(super) fn new(target: &'static Target) -> Self {
        Self {
            target,
            values: String::new(),
            count: 0,
        }
    }

    /// Whether the next row should go into another statement.
    pub(super) fn is_full(&self) -> bool {
        self.values.len() >= TEXT_MAX || self.count >= ROWS_MAX
    }

    /// Bytes of the values.
    pub(super) fn bytes(&self) -> usize {
        self.values.len()
    }

    /// Adds a row: a cell for each column, in their order.
    pub(super) fn push(&mut self, cells: &[Cell<'_>]) {
        assert_eq!(
            cells.len(),
            self.target.columns.len(),
            "a row of {}",
            self.target.name
        );
        self.values.push_str(if self.count > 0 { ",\n(" } else { "(" });
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                self.values.push_str(", ");
            }
            push_cell(&mut self.values, *cell);
        }
        self.values.push(')');
        self.count += 1;
    }

    /// The statement, which takes the rows; `schema` is where the table is. `None` without rows.
    pub(super) fn take(&mut self, schema: &str) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let values = std::mem::take(&mut self.values);
        self.count = 0;
        let (name, columns) = (self.target.name, self.target.columns);
        let names = |before: &str| {
            let names: Vec<String> = columns
                .iter()
                .map(|(name, _)| format!("{before}{name}"))
                .collect();
            names.join(", ")
        };
        let read: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(index, (name, holds))| format!("{} AS {name}", holds.read(index + 1)))
            .collect();
        let rows = format!("SELECT {} FROM VALUES\n{values}", read.join(", "));
        if self.target.keys == 0 {
            return Some(format!("INSERT INTO {schema}.{name} ({})\n{rows}", names("")));
        }
        let (key, rest) = columns.split_at(self.target.keys);
        let on: Vec<String> = key
            .iter()
            .map(|(name, _)| format!("T.{name} = S.{name}"))
            .collect();
        let set: Vec<String> = rest
            .iter()
            .map(|(name, _)| format!("{name} = S.{name}"))
            .collect();
        Some(format!(
            "MERGE INTO {schema}.{name} AS T USING ({rows}) AS S\nON {}\nWHEN MATCHED THEN UPDATE SET {}\n\
             WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})",
            on.join(" AND "),
            set.join(", "),
            names(""),
            names("S.")
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a literal by Snowflake's rules; its value, and what comes after it.
    fn read(literal: &str) -> Option<(String, &str)> {
        let mut value = String::new();
        let mut letters = literal.strip_prefix('\'')?.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\'' if literal[at + 2..].starts_with('\'') => {
                    letters.next();
                    value.push('\'');
                }
                '\'' => return Some((value, &literal[at + 2..])),
                '\\' => match letters.next()?.1 {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    'x' => {
                        let digits: String = [letters.next()?.1, letters.next()?.1].into_iter().collect();
                        value.push(char::from(u8::from_str_radix(&digits, 16).ok()?));
                    }
                    other => value.push(other),
                },
                other => value.push(other),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn a_text_is_read_back_and_ends_where_it_should(text in "\\PC*|[\\\\'\"\n\r\0$;-]{0,12}") {
            let literal = quoted(&text);
            let (value, rest) = read(&literal).expect("a literal");
            prop_assert_eq!(value, text);
            prop_assert_eq!(rest, "");
            prop_assert!(!literal.contains(['\n', '\r', '\0']));
        }

        #[test]
        fn a_number_is_read_back(number in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            let mut text = String::new();
            push_cell(&mut text, Cell::Number(Some(number)));
            prop_assert_eq!(text.parse::<f64>().expect("a number"), number);
            prop_assert!(text.contains('e'), "else it is a NUMBER and not a FLOAT");
        }
    }

    static KEYED: Target = Target {
        name: "T",
        columns: &[
            ("ID", Holds::Text),
            ("AT", Holds::Time),
            ("BODY", Holds::Json),
            ("F", Holds::Number),
        ],
        keys: 1,
    };
    static PLAIN: Target = Target {
        name: "P",
        columns: &[("SEQ", Holds::Whole), ("YES", Holds::Flag)],
        keys: 0,
    };

    #[test]
    fn keyed_rows_are_merged_and_others_inserted() {
        let mut rows = Rows::new(&KEYED);
        assert_eq!(rows.take("DB.S"), None);
        let at = Timestamp::from_ms(1_790_000_000_123);
        let body = Cell::Text(Some(r#"{"a":"it's \"b\""}"#));
        rows.push(&[
            Cell::Text(Some("x")),
            Cell::Time(at),
            body,
            Cell::Number(Some(f64::NAN)),
        ]);
        insta::assert_snapshot!(rows.take("DB.S").expect("a statement"), @r#"
        MERGE INTO DB.S.T AS T USING (SELECT COLUMN1::VARCHAR AS ID, COLUMN2::TIMESTAMP_NTZ(3) AS AT, PARSE_JSON(COLUMN3::VARCHAR) AS BODY, COLUMN4::FLOAT AS F FROM VALUES
        ('x', '2026-09-21T14:13:20.123', '{"a":"it''s \\"b\\""}', NULL)) AS S
        ON T.ID = S.ID
        WHEN MATCHED THEN UPDATE SET AT = S.AT, BODY = S.BODY, F = S.F
        WHEN NOT MATCHED THEN INSERT (ID, AT, BODY, F) VALUES (S.ID, S.AT, S.BODY, S.F)
        "#);
        let mut rows = Rows::new(&PLAIN);
        rows.push(&[Cell::Whole(1), Cell::Flag(true)]);
        rows.push(&[Cell::Whole(2), Cell::Flag(false)]);
        insta::assert_snapshot!(rows.take("DB.S").expect("a statement"), @r"
        INSERT INTO DB.S.P (SEQ, YES)
        SELECT COLUMN1::NUMBER(20, 0) AS SEQ, COLUMN2::BOOLEAN AS YES FROM VALUES
        (1, TRUE),
        (2, FALSE)
        ");
        assert_eq!(rows.take("DB.S"), None, "it has been taken");
    }

    #[test]
    fn a_statement_is_full_before_it_is_too_long() {
        let mut rows = Rows::new(&PLAIN);
        while !rows.is_full() {
            rows.push(&[Cell::Whole(1), Cell::Flag(true)]);
        }
        assert_eq!(rows.count, ROWS_MAX);
        let (mut rows, text) = (Rows::new(&KEYED), "x".repeat(64_000));
        while !rows.is_full() {
            let text = Cell::Text(Some(&text));
            rows.push(&[
                text,
                Cell::Time(Timestamp::from_ms(0)),
                Cell::Text(None),
                Cell::Number(None),
            ]);
        }
        let statement = rows.take("DB.S").expect("a statement");
        assert!(
            (TEXT_MAX..1_000_000).contains(&statement.len()),
            "{}",
            statement.len()
        );
    }
}
