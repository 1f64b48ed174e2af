//! Where the checkpoint goes and within which limits, as the operator says it. Valid values only.
//!
//! Promises: secrets are not shown by `Debug`.

use std::{fmt, path::PathBuf, time::Duration};

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The warehouse and how it is reached.
#[derive(Debug, Clone)]
pub struct SnowflakeSettings {
    /// The account as it stands in its host, e.g. `ORG-NAME` or `xy1.eu-west-2.privatelink`.
    pub account: String,
    /// Where the account answers, without a path, e.g. `https://org-name.snowflakecomputing.com`.
    pub url: String,
    /// The database; a plain name in capital letters, as are the following.
    pub database: String,
    /// The schema of the tables.
    pub schema: String,
    /// The role of SQL; Snowpipe Streaming goes by the user's default role.
    pub role: String,
    /// The warehouse of SQL; Snowpipe Streaming needs none.
    pub warehouse: String,
    /// The service user.
    pub user: String,
    /// Its private key: PKCS#8 in PEM, encrypted or not; read again when Snowflake refuses it.
    pub key_file: PathBuf,
    /// What opens an encrypted key.
    pub key_passphrase: Option<Secret>,
    /// An HTTP proxy, with user and password where it wants them.
    pub proxy: Option<Secret>,
    /// Who signed the server's certificate (PEM); without it, whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The first part of the channels' names; two installations that write into one table need different ones.
    pub channel_prefix: String,
    /// How long rows wait so that they travel together.
    pub flush_every: Duration,
    /// Bytes of NDJSON in a request, before compression.
    pub batch_bytes: usize,
    /// Requests of a channel that are not committed yet.
    pub window_batches: usize,
    /// What a channel may be sent, before compression.
    pub channel_bytes_per_s: u64,
    /// Requests under way at once; bounds the memory together with `batch_bytes`.
    pub requests_max: usize,
    /// Time limit of a request.
    pub timeout: Duration,
    /// First wait after a failure; grows to a minute.
    pub retry_after: Duration,
    /// How long rows of an earlier session may take to be committed before they are given up and sent again.
    pub uncommitted_wait: Duration,
    /// How long a channel that another writer took has to stand still before it is taken back; zero waits for a restart.
    pub takeover_after: Duration,
    /// Credits for a gigabyte, for the estimate of the bill.
    pub credits_per_gb: f64,
    /// How often rollups, KPIs and states go by SQL; zero for never.
    pub sql_every: Duration,
    /// Time limit of a statement.
    pub sql_timeout: Duration,
    /// Readings and scans go by SQL too, where Snowpipe Streaming is not available.
    pub history_by_sql: bool,
    /// The other side is an emulator: what it leaves out of its answers is filled in.
    pub emulator: bool,
}

/// What a round of statements has the warehouse run for: it is billed for a minute at least, and falls asleep a minute
/// after the last one (`AUTO_SUSPEND = 60`), of which the first counts.
const ROUND_S: f64 = 65.0;
const MONTH_S: f64 = 30.0 * 86_400.0;

impl SnowflakeSettings {
    /// The defaults over what has none.
    #[must_use]
    pub fn new(account: String, user: String, key_file: PathBuf) -> Self {
        Self {
            // Hosts have no underscore.
            url: format!(
                "https://{}.snowflakecomputing.com",
                account.to_ascii_lowercase().replace('_', "-")
            ),
            account,
            database: "GEMBA".into(),
            schema: "HISTORY".into(),
            role: "GEMBA_WRITER".into(),
            warehouse: "GEMBA_LOAD_WH".into(),
            user,
            key_file,
            key_passphrase: None,
            proxy: None,
            ca: None,
            channel_prefix: "gemba".into(),
            flush_every: Duration::from_secs(2),
            // A request may have 4 MB, and a channel takes 1 MB/s.
            batch_bytes: 1_000_000,
            window_batches: 8,
            channel_bytes_per_s: 1_000_000,
            requests_max: 8,
            timeout: Duration::from_secs(30),
            retry_after: Duration::from_millis(500),
            uncommitted_wait: Duration::from_secs(60),
            takeover_after: Duration::from_secs(600),
            // What is published for Snowpipe's files; the Consumption Table has the price of the account.
            credits_per_gb: 0.0037,
            sql_every: Duration::from_secs(900),
            sql_timeout: Duration::from_secs(300),
            history_by_sql: false,
            emulator: false,
        }
    }

    /// Credits a month that the statements' warehouse is estimated to cost, XSMALL: one an hour in which it runs.
    #[must_use]
    pub fn sql_credits_per_month(&self) -> f64 {
        if self.sql_every.is_zero() {
            return 0.0;
        }
        let every = self.sql_every.as_secs_f64().max(1.0);
        (MONTH_S / every * ROUND_S).min(MONTH_S) / 3_600.0
    }

    /// What the checkpoint is estimated to cost, in words.
    #[must_use]
    pub fn estimate(&self) -> String {
        let what = if self.history_by_sql {
            "all history"
        } else {
            "rollups, KPIs and states"
        };
        let by_sql = if self.sql_every.is_zero() {
            "nothing goes by SQL (snowflake.sql_every_s is 0)".to_owned()
        } else {
            format!(
                "{what} by SQL every {} s: about {:.0} credits a month, on a warehouse of size XSMALL that sleeps after \
                 60 s (snowflake.sql_every_s)",
                self.sql_every.as_secs(),
                self.sql_credits_per_month()
            )
        };
        let streamed = if self.history_by_sql {
            String::new()
        } else {
            format!(
                "; readings and scans by Snowpipe Streaming, which needs no warehouse: {} credits for each GB",
                self.credits_per_gb
            )
        };
        format!("snowflake: {by_sql}{streamed}")
    }

    /// Where the tables are: database and schema.
    pub(crate) fn sql_schema(&self) -> String {
        format!("{}.{}", self.database, self.schema)
    }

    /// The account in a token: its name without region and network, in capitals.
    pub(super) fn account_name(&self) -> String {
        self.account
            .split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_every_minute_keeps_the_warehouse_awake() {
        let mut settings = SnowflakeSettings::new("acc".into(), "svc".into(), "key".into());
        for (seconds, credits) in [(0, 0.0), (900, 52.0), (3_600, 13.0), (60, 720.0), (1, 720.0)] {
            settings.sql_every = Duration::from_secs(seconds);
            assert!(
                (settings.sql_credits_per_month() - credits).abs() < 1e-6,
                "{seconds}"
            );
        }
    }
}
