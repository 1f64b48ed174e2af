//! The configuration as it is written, layer over layer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::ConfigError;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) node: NodeSection,
    pub(super) http: Http,
    pub(super) mqtt: Mqtt,
    pub(super) limits: Limits,
    pub(super) snapshot: Snapshot,
    pub(super) journal: Journal,
    pub(super) history: History,
    pub(super) cluster: super::cluster::Cluster,
    pub(super) uploads: Uploads,
    pub(super) log: Log,
    pub(super) snowflake: Option<super::snowflake::Snowflake>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) key: Vec<Key>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) broker: Vec<Broker>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) modbus: Vec<super::modbus::Modbus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notify: Vec<super::notify::Notify>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeSection {
    pub(super) data_dir: String,
    pub(super) shards: u16,
    /// The one tenant where no keys are configured, and the default of brokers.
    pub(super) tenant: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) address: String,
    pub(super) tls_certificate: Option<String>,
    pub(super) tls_key: Option<String>,
    pub(super) connections_max: usize,
    pub(super) body_max: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mqtt {
    pub(super) address: String,
    pub(super) tls_certificate: Option<String>,
    pub(super) tls_key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) connections_max: usize,
    pub(super) packet_max: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    pub(super) tenant_messages: usize,
    pub(super) tenant_bytes: usize,
    pub(super) dedupe_window: usize,
    pub(super) rejected_kept: usize,
    pub(super) resident_twins: usize,
    pub(super) passivate_after_s: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    pub(super) events: u64,
    pub(super) every_s: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    pub(super) segment_bytes: u64,
    /// 0 keeps all.
    pub(super) retention_s: u64,
    /// 0 sets no limit.
    pub(super) max_bytes: u64,
    /// 0 sets no limit.
    pub(super) max_lag_s: u64,
    pub(super) when_full: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    /// `off` keeps no files; a relative folder stands in the data folder.
    pub(super) folder: String,
    pub(super) events: u64,
    pub(super) every_s: u64,
    pub(super) states_every_s: u64,
    /// 0 keeps all.
    pub(super) keep_days: u32,
    /// Empty copies nowhere.
    pub(super) copy_to: String,
    #[serde(default)]
    pub(super) copy_options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uploads {
    pub(super) bytes_each: u64,
    pub(super) bytes_together: u64,
    pub(super) tenant_bytes: u64,
    pub(super) attachment_bytes: u64,
    pub(super) count_max: usize,
    pub(super) unfinished_s: u64,
    pub(super) kept_s: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: String,
    pub(super) format: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) tenant: String,
    pub(super) role: String,
    pub(super) hash: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) client_id: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) certificate_key: Option<String>,
    pub(super) subscriptions: Vec<Subscription>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    pub(super) topic: String,
    pub(super) qos: u8,
    pub(super) decoder: String,
}

const DEFAULTS: &str = r#"
[node]
data_dir = "gemba-data"
shards = 16
tenant = "default"

[http]
address = "127.0.0.1:8080"
connections_max = 10000
body_max = 8388608

[mqtt]
address = "127.0.0.1:1883"
connections_max = 20000
packet_max = 262144

[limits]
messages = 200000
bytes = 67108864
tenant_messages = 150000
tenant_bytes = 50331648
dedupe_window = 131072
rejected_kept = 10000
resident_twins = 250000
passivate_after_s = 900

[snapshot]
events = 100000
every_s = 60

[journal]
segment_bytes = 469762048
retention_s = 0
max_bytes = 0
max_lag_s = 0
when_full = "refuse"

[history]
folder = "history"
events = 100000
every_s = 600
states_every_s = 3600
keep_days = 0
copy_to = ""

[cluster]
listen = "off"
advertise = ""
certs = "certs"
node = 0
join = ""
found = false
zone = ""
copies = 5
gone_after_s = 600
rebalance = true
heartbeat_ms = 100

[uploads]
bytes_each = 53687091200
bytes_together = 214748364800
tenant_bytes = 107374182400
attachment_bytes = 67108864
count_max = 1000
unfinished_s = 604800
kept_s = 2592000

[log]
level = "info"
format = "text"
"#;

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `section.key`.
    pub key: String,
    /// As TOML; secrets are masked.
    pub value: String,
    /// `default`, the file's name, the variable's name, or `flag`.
    pub source: String,
}

/// The layers of a configuration, the later ones over the earlier.
#[derive(Debug, Clone)]
pub struct Layers {
    table: Table,
    sources: BTreeMap<String, String>,
}

impl Layers {
    /// The defaults alone.
    #[must_use]
    pub fn defaults() -> Self {
        // The text is ours and a test reads it.
        Self {
            table: DEFAULTS.parse().unwrap_or_default(),
            sources: BTreeMap::new(),
        }
    }

    /// Lays a file over it.
    pub fn file(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let written = |detail: String| ConfigError::Written {
            place: name.to_owned(),
            detail,
        };
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| written(error.to_string().trim().replace('\n', " ")))?;
        for (section, value) in table {
            match value {
                Value::Table(entries) => {
                    for (key, value) in entries {
                        self.set(&section, &key, value, name);
                    }
                }
                other => {
                    self.sources.insert(section.clone(), name.to_owned());
                    self.table.insert(section, other);
                }
            }
        }
        // Unknown keys are named together with the file they stand in.
        self.written()
            .map(drop)
            .map_err(|error| written(error.to_string()))
    }

    /// Lays variables of the form `GEMBA_SECTION__KEY` over it.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            let Some((section, key)) = name.strip_prefix("GEMBA_").and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            self.set(&section, &key, self.parsed(&section, &key, &text), &name);
            self.written().map_err(|error| ConfigError::Written {
                place: name,
                detail: error.to_string(),
            })?;
        }
        Ok(())
    }

    /// Lays a flag over it.
    pub fn flag(&mut self, key: &str, text: &str) {
        if let Some((section, key)) = key.split_once('.') {
            self.set(section, key, self.parsed(section, key, text), "flag");
        }
    }

    fn set(&mut self, section: &str, key: &str, value: Value, source: &str) {
        let entry = self
            .table
            .entry(section.to_owned())
            .or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(entries) = entry {
            entries.insert(key.to_owned(), value);
            self.sources.insert(format!("{section}.{key}"), source.to_owned());
        }
    }

    /// A value of a flag or variable: a number, yes or no where one is meant, else a text.
    fn parsed(&self, section: &str, key: &str, text: &str) -> Value {
        let is_text = self
            .table
            .get(section)
            .and_then(|entries| entries.get(key))
            .is_some_and(Value::is_str);
        match (text.parse::<i64>(), text.parse::<bool>()) {
            _ if is_text => Value::String(text.to_owned()),
            (Ok(number), _) => Value::Integer(number),
            (_, Ok(yes)) => Value::Boolean(yes),
            _ => match text.parse::<f64>() {
                Ok(number) if text.contains('.') && number.is_finite() => Value::Float(number),
                _ => Value::String(text.to_owned()),
            },
        }
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        self.sources.contains_key(key)
    }

    pub(super) fn written(&self) -> Result<Written, ConfigError> {
        self.table
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Written {
                place: "configuration".into(),
                detail: error.to_string().trim().replace('\n', " "),
            })
    }

    /// Every setting with its source, secrets masked.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        let source = |key: &str| self.sources.get(key).cloned().unwrap_or_else(|| "default".into());
        for (section, value) in &self.table {
            match value {
                Value::Table(entries) => {
                    for (key, value) in entries {
                        let hidden = is_secret(key);
                        let key = format!("{section}.{key}");
                        shown.push(Shown {
                            value: if hidden { HIDDEN.into() } else { masked(value) }.to_string(),
                            source: source(&key),
                            key,
                        });
                    }
                }
                other => shown.push(Shown {
                    key: section.clone(),
                    value: masked(other).to_string(),
                    source: source(section),
                }),
            }
        }
        shown
    }
}

/// What stands in a secret's place.
const HIDDEN: &str = "***";

fn is_secret(key: &str) -> bool {
    let is_ours = ["hash", "secret", "key_passphrase"].contains(&key);
    is_ours || key.ends_with("secret_access_key") || key.ends_with("token")
}

/// Hashes and passwords within URLs are not shown.
fn masked(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(masked).collect()),
        Value::Table(entries) => Value::Table(
            entries
                .iter()
                .map(|(key, value)| {
                    let value = if is_secret(key) {
                        HIDDEN.into()
                    } else {
                        masked(value)
                    };
                    (key.clone(), value)
                })
                .collect(),
        ),
        Value::String(text) => Value::String(match (text.split_once("://"), text.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, place))) => format!("{scheme}://***@{place}"),
            _ => text.clone(),
        }),
        other => other.clone(),
    }
}
