//! The warehouse for whoever has statements of their own: migrations and comparisons.
//!
//! Promises: an error says whether the statement was refused or whether nobody knows; rows come as texts. Blocks.

use std::sync::Arc;

use thiserror::Error;

use super::{
    client::Fault,
    settings::SnowflakeSettings,
    sql::{Session, quoted},
};

/// Why a statement was not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WarehouseError {
    /// The warehouse refused it, with its code and message.
    #[error("Snowflake refuses it: {0}")]
    Refused(String),
    /// The warehouse did not answer, or not so that it is known what it did.
    #[error("Snowflake does not answer: {0}")]
    Unanswered(String),
}

impl From<Fault> for WarehouseError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(says) => Self::Refused(says),
            Fault::Busy(says) | Fault::Unknown(says) | Fault::Stale(says) | Fault::Reopen(says) => {
                Self::Unanswered(says)
            }
            Fault::Uncommitted | Fault::Closed(_) => Self::Unanswered(String::new()),
        }
    }
}

/// A session of the warehouse.
pub struct Warehouse {
    session: Session,
}

impl Warehouse {
    /// A session with the settings' role; with `bare` it is in no database and has no warehouse, for where nothing is
    /// made yet. Nothing is asked before the first statement.
    pub fn open(settings: &Arc<SnowflakeSettings>, bare: bool) -> Result<Self, WarehouseError> {
        let session = Session::new(settings, "gemba".into(), bare);
        session
            .map(|session| Self { session })
            .map_err(WarehouseError::Refused)
    }

    /// Runs a statement; its rows, each value as a text where it was asked for as one.
    pub fn run(&self, statement: &str) -> Result<Vec<Vec<Option<String>>>, WarehouseError> {
        Ok(self.session.run(statement)?)
    }

    /// Ends the session.
    pub fn close(self) {
        self.session.close();
    }

    /// A text as a literal in a statement.
    #[must_use]
    pub fn literal(text: &str) -> String {
        quoted(text)
    }
}
