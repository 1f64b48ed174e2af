//! `[snowflake]`: where the history is checkpointed to.
//!
//! Promises: what cannot work is refused before anything starts; a passphrase comes from a file, a variable or the file
//! itself, and is never shown; nothing is sent in the clear but to this machine.

use std::{path::PathBuf, time::Duration};

use gemba_runtime::checkpoint::{Secret, SnowflakeSettings};
use serde::{Deserialize, Serialize};

use super::{ConfigError, value_error};

/// The section as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snowflake {
    account: String,
    user: String,
    key_file: PathBuf,
    key_passphrase: Option<String>,
    key_passphrase_file: Option<PathBuf>,
    key_passphrase_env: Option<String>,
    url: Option<String>,
    database: Option<String>,
    schema: Option<String>,
    role: Option<String>,
    warehouse: Option<String>,
    proxy: Option<String>,
    ca: Option<PathBuf>,
    channel_prefix: Option<String>,
    flush_ms: Option<u64>,
    batch_bytes: Option<usize>,
    window_batches: Option<usize>,
    channel_bytes_per_s: Option<u64>,
    requests_max: Option<usize>,
    timeout_s: Option<u64>,
    retry_ms: Option<u64>,
    uncommitted_wait_s: Option<u64>,
    takeover_after_s: Option<u64>,
    credits_per_gb: Option<f64>,
    sql_every_s: Option<u64>,
    sql_timeout_s: Option<u64>,
    history_by: Option<String>,
    emulator: Option<bool>,
}

impl Snowflake {
    /// The section, checked.
    pub(super) fn settings(&self) -> Result<SnowflakeSettings, ConfigError> {
        let fits = |text: &str| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
        };
        if !fits(&self.account) {
            let detail = format!("{:?} is no account (e.g. MYORG-ACCOUNT1)", self.account);
            return Err(value_error("snowflake.account", detail));
        }
        if self.user.is_empty() {
            return Err(value_error("snowflake.user", "it is empty"));
        }
        let mut settings =
            SnowflakeSettings::new(self.account.clone(), self.user.clone(), self.key_file.clone());
        settings.key_passphrase = self.passphrase()?.map(Secret::new);
        if let Some(url) = &self.url {
            settings.url = checked_url(url)?;
        }
        for (key, written, into) in [
            ("snowflake.database", &self.database, &mut settings.database),
            ("snowflake.schema", &self.schema, &mut settings.schema),
            ("snowflake.role", &self.role, &mut settings.role),
            ("snowflake.warehouse", &self.warehouse, &mut settings.warehouse),
        ] {
            if let Some(name) = written {
                plain_name(name).map_err(|detail| value_error(key, detail))?;
                into.clone_from(name);
            }
        }
        settings.proxy = self.proxy.clone().map(Secret::new);
        settings.ca.clone_from(&self.ca);
        if let Some(prefix) = &self.channel_prefix {
            if !fits(prefix) || prefix.len() > 64 || prefix.chars().any(|letter| letter.is_ascii_uppercase())
            {
                let detail = format!("{prefix:?} is not 1 to 64 of small letters, digits, '-', '_', '.'");
                return Err(value_error("snowflake.channel_prefix", detail));
            }
            settings.channel_prefix.clone_from(prefix);
        }
        self.limits(&mut settings)?;
        self.by_sql(&mut settings)?;
        Ok(settings)
    }

    fn by_sql(&self, settings: &mut SnowflakeSettings) -> Result<(), ConfigError> {
        if let Some(seconds) = self.sql_every_s {
            settings.sql_every = Duration::from_secs(within("sql_every_s", seconds, 0, 86_400)?);
        }
        if let Some(seconds) = self.sql_timeout_s {
            settings.sql_timeout = Duration::from_secs(within("sql_timeout_s", seconds, 1, 3_600)?);
        }
        settings.history_by_sql = match self.history_by.as_deref() {
            None | Some("streaming") => false,
            Some("sql") => true,
            Some(other) => {
                let detail = format!("{other:?} is neither streaming nor sql");
                return Err(value_error("snowflake.history_by", detail));
            }
        };
        if settings.history_by_sql && settings.sql_every.is_zero() {
            let detail = "0 sends nothing by SQL, and history_by is sql";
            return Err(value_error("snowflake.sql_every_s", detail));
        }
        settings.emulator = self.emulator.unwrap_or_default();
        if settings.emulator && !is_here(&settings.url) {
            let detail = format!(
                "an emulator is on this machine, {} is not (what a service leaves out of its answers would be made up)",
                settings.url
            );
            return Err(value_error("snowflake.emulator", detail));
        }
        Ok(())
    }

    fn limits(&self, settings: &mut SnowflakeSettings) -> Result<(), ConfigError> {
        let sized = |key: &str, value: usize, most: u64| within(key, value as u64, 1, most).map(|_| value);
        if let Some(ms) = self.flush_ms {
            settings.flush_every = Duration::from_millis(within("flush_ms", ms, 10, 3_600_000)?);
        }
        if let Some(bytes) = self.batch_bytes {
            // A request may have 4 MB.
            settings.batch_bytes = sized("batch_bytes", bytes, 4_000_000)?;
        }
        if let Some(batches) = self.window_batches {
            settings.window_batches = sized("window_batches", batches, 1_000)?;
        }
        if let Some(bytes) = self.channel_bytes_per_s {
            settings.channel_bytes_per_s = within("channel_bytes_per_s", bytes, 1_000, 1_000_000_000)?;
        }
        if let Some(requests) = self.requests_max {
            settings.requests_max = sized("requests_max", requests, 256)?;
        }
        if let Some(seconds) = self.timeout_s {
            settings.timeout = Duration::from_secs(within("timeout_s", seconds, 1, 600)?);
        }
        if let Some(ms) = self.retry_ms {
            settings.retry_after = Duration::from_millis(within("retry_ms", ms, 10, 60_000)?);
        }
        if let Some(seconds) = self.uncommitted_wait_s {
            settings.uncommitted_wait = Duration::from_secs(within("uncommitted_wait_s", seconds, 1, 3_600)?);
        }
        if let Some(seconds) = self.takeover_after_s {
            settings.takeover_after = Duration::from_secs(seconds);
        }
        if let Some(credits) = self.credits_per_gb {
            if !credits.is_finite() || credits < 0.0 {
                return Err(value_error(
                    "snowflake.credits_per_gb",
                    "it is not a number from 0",
                ));
            }
            settings.credits_per_gb = credits;
        }
        Ok(())
    }

    fn passphrase(&self) -> Result<Option<String>, ConfigError> {
        let given = [
            self.key_passphrase.is_some(),
            self.key_passphrase_file.is_some(),
            self.key_passphrase_env.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() > 1 {
            let detail =
                "only one of key_passphrase, key_passphrase_file and key_passphrase_env can be given";
            return Err(value_error("snowflake.key_passphrase", detail));
        }
        match (
            &self.key_passphrase,
            &self.key_passphrase_file,
            &self.key_passphrase_env,
        ) {
            (Some(text), ..) => Ok(Some(text.clone())),
            (_, Some(file), _) => std::fs::read_to_string(file)
                .map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|error| {
                    value_error(
                        "snowflake.key_passphrase_file",
                        format!("{}: {error}", file.display()),
                    )
                }),
            (.., Some(name)) => std::env::var(name).map(Some).map_err(|_| {
                value_error(
                    "snowflake.key_passphrase_env",
                    format!("the variable {name} is not set"),
                )
            }),
            _ => Ok(None),
        }
    }
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<u64, ConfigError> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        let detail = format!("{value} is not within {least} to {most}");
        Err(value_error(&format!("snowflake.{key}"), detail))
    }
}

/// Whether an address is of this machine.
fn is_here(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, host)| host);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

/// A name that needs no quotes.
pub(crate) fn plain_name(name: &str) -> Result<(), String> {
    let fits = name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
        && name
            .chars()
            .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
        && name.len() <= 100;
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{name:?} is not a plain name (capital letters, digits and _, e.g. GEMBA)"
        ))
    }
}

/// `https://host[:port]`; without TLS only on this machine, since tokens travel with each request.
fn checked_url(url: &str) -> Result<String, ConfigError> {
    let wrong = |detail: &str| value_error("snowflake.url", format!("{url:?} {detail}"));
    let url = url.trim_end_matches('/');
    let (scheme, host) = url
        .split_once("://")
        .ok_or_else(|| wrong("does not begin with https://"))?;
    if host.is_empty() || host.contains(['/', '@', '?', ' ']) {
        return Err(wrong("is not https://host or https://host:port"));
    }
    match scheme {
        "https" => Ok(url.to_owned()),
        "http" if is_here(url) => Ok(url.to_owned()),
        _ => Err(wrong("is not https (http is for this machine only)")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layers};

    const LEAST: &str = "[snowflake]\naccount = \"MY_ORG-ACC\"\nuser = \"SVC\"\nkey_file = \"key.p8\"\n";

    fn of(rest: &str) -> Result<gemba_runtime::checkpoint::SnowflakeSettings, String> {
        let mut layers = Layers::defaults();
        layers
            .file("gemba.toml", &format!("{LEAST}{rest}"))
            .map_err(|error| error.to_string())?;
        let shown = format!("{:?}", layers.shown());
        assert!(!shown.contains("s3cret"), "{shown}");
        let config = Config::of(&layers).map_err(|error| error.to_string())?;
        let settings = config.node.snowflake.expect("a section");
        assert!(!format!("{settings:?}").contains("s3cret"));
        Ok((*settings).clone())
    }

    #[test]
    fn little_is_enough_and_secrets_are_not_shown() {
        let settings = of("").expect("valid");
        assert_eq!(settings.url, "https://my-org-acc.snowflakecomputing.com");
        let settings =
            of("key_passphrase = \"s3cret\"\nproxy = \"http://u:s3cret@proxy:3128\"\n").expect("valid");
        assert!(settings.key_passphrase.is_some() && settings.proxy.is_some());
    }

    #[test]
    fn what_cannot_work_names_its_key() {
        for (rest, key) in [
            ("url = \"http://snowflake.example\"\n", "snowflake.url"),
            ("url = \"https://u:p@x\"\n", "snowflake.url"),
            ("database = \"a b\"\n", "snowflake.database"),
            ("role = \"x; DROP\"\n", "snowflake.role"),
            ("batch_bytes = 5000000\n", "snowflake.batch_bytes"),
            ("flush_ms = 0\n", "snowflake.flush_ms"),
            ("channel_prefix = \"A\"\n", "snowflake.channel_prefix"),
            (
                "key_passphrase_env = \"GEMBA_TEST_NOT_SET\"\n",
                "snowflake.key_passphrase_env",
            ),
            (
                "key_passphrase = \"s3cret\"\nkey_passphrase_env = \"X\"\n",
                "snowflake.key_passphrase",
            ),
            ("sql_every_s = 90000\n", "snowflake.sql_every_s"),
            ("sql_every_s = 0\nhistory_by = \"sql\"\n", "snowflake.sql_every_s"),
            ("history_by = \"copy\"\n", "snowflake.history_by"),
            ("emulator = true\n", "snowflake.emulator"),
            ("[journal]\nmax_lag_s = 1000\n", "journal.max_lag_s"),
            ("pasword = \"x\"\n", "pasword"),
        ] {
            let refused = of(rest).expect_err(key);
            assert!(refused.contains(key), "{refused}");
        }
    }
}
