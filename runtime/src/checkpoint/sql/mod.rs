//! The warehouse by SQL: sessions through the `snowflake-api` crate, behind a shim that keeps its faults from us.
//!
//! Promises: a statement's failure says whether it was refused or whether its effect is unknown; results are texts, since
//! everything is asked for as text. All of it blocks. No PUT goes through that crate: it would upload in the clear.

mod events;
mod lane;
mod offsets;
mod reply;
mod shim;
mod statement;
mod twins;

use std::{sync::Arc, time::Duration};

use arrow_array::{Array, LargeStringArray, RecordBatch, StringArray};
use futures_executor::block_on;
use reqwest_middleware::ClientBuilder;
use snowflake_api::{
    AuthArgs, AuthType, PasswordArgs, QueryResult, SnowflakeApi, SnowflakeApiBuilder, SnowflakeApiError,
};

use self::shim::{Shim, Way};
pub(crate) use self::{
    events::insert_of,
    lane::{SqlLane, is_of_a_row},
    statement::{ntz, quoted},
    twins::{LEVELS, TwinNow, TwinReader, Wanted},
};
use super::{client::Fault, settings::SnowflakeSettings};
use crate::outbound;

/// A row of an answer.
pub(crate) type Row = Vec<Option<String>>;

/// A session of the warehouse: one conversation, with one transaction at a time.
pub(crate) struct Session {
    api: SnowflakeApi,
    way: Arc<Way>,
}

impl Session {
    /// A session for statements that are known by `tag` in the warehouse's log; nothing is asked before the first one.
    /// Where nothing is made yet, it begins without database, schema and warehouse (`bare`).
    pub(crate) fn new(settings: &Arc<SnowflakeSettings>, tag: String, bare: bool) -> Result<Self, String> {
        // The server answers within 45 seconds, if only to say that a statement runs on.
        let timeout = settings
            .timeout
            .max(Duration::from_secs(60))
            .min(settings.sql_timeout);
        let proxy = settings.proxy.as_ref().map(|proxy| proxy.reveal());
        let agent = outbound::agent(settings.ca.as_deref(), proxy, timeout)?;
        let way = Arc::new(Way::new(settings.clone(), agent, tag));
        // It sends nothing itself.
        let unused = reqwest::Client::builder()
            .build()
            .map_err(|error| error.to_string())?;
        let client = ClientBuilder::new(unused).with(Shim(way.clone())).build();
        let args = AuthArgs {
            // The host that it makes of this is not asked.
            account_identifier: settings.account_name(),
            warehouse: (!bare).then(|| settings.warehouse.clone()),
            database: (!bare).then(|| settings.database.clone()),
            schema: (!bare).then(|| settings.schema.clone()),
            username: settings.user.clone(),
            role: Some(settings.role.clone()),
            // The shim puts a signed token in its place.
            auth_type: AuthType::Password(PasswordArgs {
                password: String::new(),
            }),
        };
        let api = SnowflakeApiBuilder::new(args).with_client(client).build();
        Ok(Self {
            api: api.map_err(|error| error.to_string())?,
            way,
        })
    }

    /// Runs a statement; its rows, as texts.
    pub(crate) fn run(&self, statement: &str) -> Result<Vec<Row>, Fault> {
        match block_on(self.api.exec(statement)) {
            Ok(result) => rows_of(result),
            Err(error) => Err(self.way.take_fault().unwrap_or_else(|| fault_of(&error))),
        }
    }

    /// Runs a statement that changes rows; how many it changed.
    pub(crate) fn change(&self, statement: &str) -> Result<u64, Fault> {
        let rows = self.run(statement)?;
        let counted = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        counted.ok_or_else(|| Fault::Unknown("the answer does not say how many rows were changed".into()))
    }

    /// Ends the session, where the server still knows it.
    pub(crate) fn close(mut self) {
        // One that is not ended ends by itself.
        let _ = block_on(self.api.close_session());
    }
}

/// What an error of the client means. The codes are those of the service.
fn fault_of(error: &SnowflakeApiError) -> Fault {
    match error {
        SnowflakeApiError::ApiError(code, message) if reply::is_session_over(code) => {
            Fault::Unknown(format!("the session is over ({code} {message})"))
        }
        SnowflakeApiError::ApiError(code, message) => Fault::Refused(format!("{code} {message}")),
        SnowflakeApiError::AuthError(refused) => Fault::Refused(format!(
            "Snowflake refuses the login (is the user's RSA_PUBLIC_KEY that of the key file?): {refused}"
        )),
        other => Fault::Unknown(other.to_string()),
    }
}

fn rows_of(result: QueryResult) -> Result<Vec<Row>, Fault> {
    match result {
        QueryResult::Empty => Ok(Vec::new()),
        QueryResult::Json(json) => {
            let text = |value: &serde_json::Value| match value {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            let rows = json.value.as_array().into_iter().flatten();
            Ok(rows
                .map(|row| row.as_array().into_iter().flatten().map(text).collect())
                .collect())
        }
        QueryResult::Arrow(batches) => {
            let mut rows = Vec::new();
            for batch in &batches {
                push_rows(batch, &mut rows)?;
            }
            Ok(rows)
        }
    }
}

fn push_rows(batch: &RecordBatch, rows: &mut Vec<Row>) -> Result<(), Fault> {
    let first = rows.len();
    rows.extend((0..batch.num_rows()).map(|_| Row::with_capacity(batch.num_columns())));
    for column in batch.columns() {
        let any = column.as_any();
        for (index, row) in rows[first..].iter_mut().enumerate() {
            let text = if let Some(texts) = any.downcast_ref::<StringArray>() {
                texts.is_valid(index).then(|| texts.value(index).to_owned())
            } else if let Some(texts) = any.downcast_ref::<LargeStringArray>() {
                texts.is_valid(index).then(|| texts.value(index).to_owned())
            } else if column.is_null(index) {
                None
            } else {
                let found = column.data_type();
                return Err(Fault::Refused(format!(
                    "a column of texts was asked for, {found} came"
                )));
            };
            row.push(text);
        }
    }
    Ok(())
}
