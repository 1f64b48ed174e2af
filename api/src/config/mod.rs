//! What a node is told: defaults, then `gemba.toml`, then the environment, then flags; each value remembers where it
//! came from.
//!
//! Promises: an unknown key is refused by its name; a value that cannot work is refused before anything starts;
//! secrets are masked when shown. Two stages: what was written (`written.rs`) and what is valid (here).

mod cluster;
mod modbus;
mod notify;
mod snowflake;
mod written;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use gemba_runtime::{
    decode::RfidFormat,
    history::CopySettings,
    keyring::{KeyEntry, Keyring, Role},
    modbus::ModbusSettings,
    mqtt::{BrokerDecoder, BrokerSettings, BrokerSubscription, ListenerSettings, TlsFiles},
    node::shards_of,
    settings::{JournalLimits, NodeSettings, WhenFull},
    uploads::UploadLimits,
};
use gemba_twins::id::TenantId;
use thiserror::Error;

pub(crate) use self::snowflake::plain_name;
use self::written::Written;
pub use self::written::{Layers, Shown};
use crate::http::ServerSettings;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file, or a value within, cannot be read.
    #[error("{place}: {detail}")]
    Written {
        /// The file or variable.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// A value cannot work.
    #[error("{key}: {detail}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        detail: String,
    },
}

fn value_error(key: &str, detail: impl ToString) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        detail: detail.to_string(),
    }
}

/// Everything that a node needs to start.
pub struct Config {
    /// The node.
    pub node: NodeSettings,
    /// The HTTP server.
    pub http: ServerSettings,
    /// Largest body of a request, in bytes.
    pub body_max: usize,
    /// The MQTT listener, if there is to be one.
    pub mqtt: Option<ListenerSettings>,
    /// Brokers to connect to.
    pub brokers: Vec<BrokerSettings>,
    /// Modbus devices to ask.
    pub modbus: Vec<ModbusSettings>,
    /// Who may do what.
    pub keyring: Arc<Keyring>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives.
    pub log_level: String,
    /// Lines of JSON instead of text.
    pub log_json: bool,
}

impl Config {
    /// What the layers lead to, checked.
    pub fn of(layers: &Layers) -> Result<Self, ConfigError> {
        let data_dir = PathBuf::from(layers.written()?.node.data_dir);
        // An existing folder knows its number of shards; one that is written has to agree.
        let made_with = shards_of(&data_dir).map_err(|error| value_error("node.data_dir", error))?;
        Self::over(layers, made_with)
    }

    /// As [`Config::of`], beside a node that has the data folder open: its number of shards is not looked up.
    pub fn beside_a_node(layers: &Layers) -> Result<Self, ConfigError> {
        Self::over(layers, None)
    }

    fn over(layers: &Layers, made_with: Option<u16>) -> Result<Self, ConfigError> {
        let written = layers.written()?;
        let mut node = NodeSettings::new(PathBuf::from(&written.node.data_dir));
        node.shards = match made_with {
            Some(shards) if !layers.is_set("node.shards") => shards,
            _ => written.node.shards,
        };
        if !(1..=1_024).contains(&node.shards) {
            return Err(value_error(
                "node.shards",
                format!("{} is not within 1 to 1024", node.shards),
            ));
        }
        node.admission.node_messages = positive("limits.messages", written.limits.messages)?;
        node.admission.node_bytes = positive("limits.bytes", written.limits.bytes)?;
        node.admission.tenant_messages = positive("limits.tenant_messages", written.limits.tenant_messages)?;
        node.admission.tenant_bytes = positive("limits.tenant_bytes", written.limits.tenant_bytes)?;
        node.dedupe_window = positive("limits.dedupe_window", written.limits.dedupe_window)?;
        node.rejected_kept = positive("limits.rejected_kept", written.limits.rejected_kept)?;
        node.resident_twins = positive("limits.resident_twins", written.limits.resident_twins)?;
        node.passivate_after = Duration::from_secs(written.limits.passivate_after_s);
        node.snapshot_events = written.snapshot.events.max(1);
        node.snapshot_every = Duration::from_secs(written.snapshot.every_s.max(1));
        node.segment_bytes = written.journal.segment_bytes.max(1 << 20);
        node.notify = notify::destinations(&written.notify)?;
        node.cluster = cluster::settings(&written.cluster)?;
        let retention = Duration::from_secs(written.journal.retention_s);
        node.journal_retention = (!retention.is_zero()).then_some(retention);
        node.journal_limits = journal_limits(&written.journal, node.segment_bytes)?;
        // A data folder that is absolute stays so; a folder that is absolute leaves it.
        node.history.folder =
            (written.history.folder != "off").then(|| node.data_dir.join(&written.history.folder));
        node.history.events = written.history.events.max(1);
        node.history.every = Duration::from_secs(written.history.every_s.max(1));
        node.history.states_every = Duration::from_secs(written.history.states_every_s.max(1));
        node.history.keep_days = (written.history.keep_days > 0).then_some(written.history.keep_days);
        node.history.copies = copies(&written.history)?;
        node.snowflake = match &written.snowflake {
            Some(written) => Some(Arc::new(written.settings()?)),
            None => None,
        };
        if node.snowflake.is_some() && node.cluster.is_some() && node.history.folder.is_none() {
            let detail = "it is off, but in a cluster Snowflake gets from these files what a node's journal does not go back to";
            return Err(value_error("history.folder", detail));
        }
        if let Some(snowflake) = &node.snowflake {
            lag_fits(&node.journal_limits, snowflake.sql_every)?;
        }
        node.uploads = uploads(&written.uploads)?;
        let (keyring, tenant) = keyring(&written)?;
        let mut http = ServerSettings::new(address("http.address", &written.http.address)?);
        http.tls = tls(
            "http",
            written.http.tls_certificate.as_ref(),
            written.http.tls_key.as_ref(),
            None,
        )?;
        http.connections_max = positive("http.connections_max", written.http.connections_max)?;
        let mqtt = match written.mqtt.address.as_str() {
            "off" => None,
            text => {
                let mut listener = ListenerSettings::new(address("mqtt.address", text)?);
                let files = &written.mqtt;
                listener.tls = tls(
                    "mqtt",
                    files.tls_certificate.as_ref(),
                    files.tls_key.as_ref(),
                    files.client_ca.as_ref(),
                )?;
                listener.connections_max = positive("mqtt.connections_max", files.connections_max)?;
                listener.packet_max = positive("mqtt.packet_max", files.packet_max)?;
                Some(listener)
            }
        };
        Ok(Self {
            node,
            http,
            body_max: positive("http.body_max", written.http.body_max)?,
            mqtt,
            brokers: brokers(&written, &tenant)?,
            modbus: modbus::devices(&written.modbus, &tenant)?,
            keyring,
            log_level: written.log.level.clone(),
            log_json: match written.log.format.as_str() {
                "text" => false,
                "json" => true,
                other => {
                    return Err(value_error(
                        "log.format",
                        format!("{other:?} is neither text nor json"),
                    ));
                }
            },
        })
    }
}

fn journal_limits(journal: &written::Journal, segment_bytes: u64) -> Result<JournalLimits, ConfigError> {
    // The segment that is written to stays, so that a smaller limit could never be kept.
    if (1..2 * segment_bytes).contains(&journal.max_bytes) {
        let detail = format!(
            "{} is less than two segments (journal.segment_bytes is {segment_bytes})",
            journal.max_bytes
        );
        return Err(value_error("journal.max_bytes", detail));
    }
    Ok(JournalLimits {
        bytes: (journal.max_bytes > 0).then_some(journal.max_bytes),
        lag: (journal.max_lag_s > 0).then_some(Duration::from_secs(journal.max_lag_s)),
        when_full: match journal.when_full.as_str() {
            "refuse" => WhenFull::Refuse,
            "spill" => WhenFull::Spill,
            other => {
                let detail = format!("{other:?} is neither refuse nor spill");
                return Err(value_error("journal.when_full", detail));
            }
        },
    })
}

/// What goes by SQL is as old as its period when all is well: no reason to refuse anything.
fn lag_fits(limits: &JournalLimits, sql_every: Duration) -> Result<(), ConfigError> {
    match limits.lag {
        Some(lag) if lag < sql_every * 3 => {
            let detail = format!(
                "{} is less than three times snowflake.sql_every_s, {}, and events are as old before they are sent",
                lag.as_secs(),
                sql_every.as_secs()
            );
            Err(value_error("journal.max_lag_s", detail))
        }
        _ => Ok(()),
    }
}

fn uploads(written: &written::Uploads) -> Result<UploadLimits, ConfigError> {
    Ok(UploadLimits {
        bytes_each: written.bytes_each,
        bytes_together: written.bytes_together,
        tenant_bytes: written.tenant_bytes,
        attachment_bytes: written.attachment_bytes,
        count_max: positive("uploads.count_max", written.count_max)?,
        unfinished: Duration::from_secs(written.unfinished_s.max(1)),
        kept: Duration::from_secs(written.kept_s.max(1)),
    })
}

fn positive(key: &str, number: usize) -> Result<usize, ConfigError> {
    if number == 0 {
        Err(value_error(key, "it has to be at least 1"))
    } else {
        Ok(number)
    }
}

fn address(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse()
        .map_err(|_| value_error(key, format!("{text:?} is not an address (e.g. 127.0.0.1:8080)")))
}

fn tls(
    section: &str,
    certificate: Option<&String>,
    key: Option<&String>,
    ca: Option<&String>,
) -> Result<Option<TlsFiles>, ConfigError> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: ca.map(Into::into),
        })),
        _ => Err(value_error(section, "tls_certificate and tls_key go together")),
    }
}

fn tenant(key: &str, text: &str) -> Result<TenantId, ConfigError> {
    TenantId::parse(text).map_err(|error| value_error(key, error))
}

fn keyring(written: &Written) -> Result<(Arc<Keyring>, TenantId), ConfigError> {
    let default = tenant("node.tenant", &written.node.tenant)?;
    if written.key.is_empty() {
        return Ok((Arc::new(Keyring::open(default.clone())), default));
    }
    let entries = written.key.iter().map(|key| {
        let role = Role::parse(&key.role).ok_or_else(|| {
            value_error(
                "key.role",
                format!(
                    "{:?} is none of device, viewer, operator, engineer, admin",
                    key.role
                ),
            )
        })?;
        Ok(KeyEntry {
            name: key.name.clone(),
            tenant: tenant("key.tenant", &key.tenant)?,
            role,
            hash: key.hash.clone(),
        })
    });
    let entries = entries.collect::<Result<_, ConfigError>>()?;
    let keyring = Keyring::new(entries).map_err(|error| value_error("key", error))?;
    Ok((Arc::new(keyring), default))
}

/// Where the history's files are copied to; what the environment says as S3's tools read it holds where the file says
/// nothing.
fn copies(written: &written::History) -> Result<Option<CopySettings>, ConfigError> {
    if written.copy_to.is_empty() {
        return Ok(None);
    }
    if written.folder == "off" {
        let detail = "there are no files to copy: history.folder is off";
        return Err(value_error("history.copy_to", detail));
    }
    let environment = std::env::vars().map(|(name, value)| (name.to_lowercase(), value));
    let mut options: BTreeMap<String, String> = environment
        .filter(|(name, _)| name.starts_with("aws_") && CopySettings::knows(name))
        .collect();
    options.extend(written.copy_options.clone());
    let copies = CopySettings {
        url: written.copy_to.clone(),
        options,
    };
    copies
        .check()
        .map_err(|detail| value_error("history.copy_to", detail))?;
    Ok(Some(copies))
}

fn brokers(written: &Written, default: &TenantId) -> Result<Vec<BrokerSettings>, ConfigError> {
    let one = |broker: &written::Broker| {
        let subscription = |subscription: &written::Subscription| {
            let decoder = match subscription.decoder.as_str() {
                "native" => BrokerDecoder::Native,
                "chirpstack" => BrokerDecoder::ChirpStack,
                "things_stack" => BrokerDecoder::TheThingsStack,
                "impinj" => BrokerDecoder::Rfid(RfidFormat::Impinj),
                "zebra" => BrokerDecoder::Rfid(RfidFormat::Zebra),
                "rfid" => BrokerDecoder::Rfid(RfidFormat::Generic),
                "epcis" => BrokerDecoder::Epcis,
                other => {
                    let detail = format!(
                        "{other:?} is none of native, chirpstack, things_stack, impinj, zebra, rfid, epcis"
                    );
                    return Err(value_error("broker.subscriptions.decoder", detail));
                }
            };
            if subscription.qos > 1 {
                return Err(value_error("broker.subscriptions.qos", "it is neither 0 nor 1"));
            }
            Ok(BrokerSubscription {
                topic: subscription.topic.clone(),
                qos: subscription.qos,
                decoder,
            })
        };
        Ok(BrokerSettings {
            name: broker.name.clone(),
            url: broker.url.clone(),
            client_id: broker
                .client_id
                .clone()
                .unwrap_or_else(|| format!("gemba-{}", broker.name)),
            tenant: broker
                .tenant
                .as_ref()
                .map_or(Ok(default.clone()), |text| tenant("broker.tenant", text))?,
            subscriptions: broker
                .subscriptions
                .iter()
                .map(subscription)
                .collect::<Result<_, _>>()?,
            ca: broker.ca.as_ref().map(PathBuf::from),
            certificate: broker.certificate.as_ref().map(PathBuf::from),
            certificate_key: broker.certificate_key.as_ref().map(PathBuf::from),
        })
    };
    written.broker.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(toml: &str) -> Result<Config, String> {
        let mut layers = Layers::defaults();
        layers
            .file("gemba.toml", toml)
            .map_err(|error| error.to_string())?;
        Config::of(&layers).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_in_deploy_holds_every_setting_with_its_default() {
        let mut layers = Layers::defaults();
        layers
            .file("deploy/gemba.toml", include_str!("../../../deploy/gemba.toml"))
            .expect("it is valid");
        let of = |layers: &Layers| -> Vec<(String, String)> {
            layers
                .shown()
                .into_iter()
                .map(|shown| (shown.key, shown.value))
                .collect()
        };
        assert_eq!(of(&layers), of(&Layers::defaults()));
        for shown in layers.shown() {
            assert_eq!(shown.source, "deploy/gemba.toml", "{} is missing", shown.key);
        }
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let refused = of("[http]\nadress = \"127.0.0.1:1\"\n").err().expect("refused");
        assert!(
            refused.contains("adress") && refused.contains("address"),
            "{refused}"
        );
        let refused = of("[[key]]\nname = \"a\"\ntoken = \"x\"\n")
            .err()
            .expect("refused");
        assert!(refused.contains("token"), "{refused}");
    }

    #[test]
    fn values_that_cannot_work_name_their_key() {
        for (toml, key) in [
            ("[http]\naddress = \"here\"\n", "http.address"),
            ("[node]\nshards = 0\n", "node.shards"),
            ("[log]\nformat = \"xml\"\n", "log.format"),
            ("[journal]\nmax_bytes = 1000\n", "journal.max_bytes"),
            ("[journal]\nwhen_full = \"drop\"\n", "journal.when_full"),
            (
                "[[key]]\nname = \"a\"\ntenant = \"t\"\nrole = \"king\"\nhash = \"x\"\n",
                "key.role",
            ),
        ] {
            let refused = of(toml).err().expect(key);
            assert!(refused.contains(key), "{refused}");
        }
    }

    #[test]
    fn a_modbus_device_is_read_with_its_points() {
        let device = |points: &str| {
            format!(
                "[[modbus]]\nname = \"meter-1\"\nhost = \"10.0.4.17\"\npoll = \"5s\"\npoints = [{points}]\n"
            )
        };
        let good =
            r#"{ name = "energy_kwh", function = "input", address = 72, type = "f32", scale = 0.001 }"#;
        let config = of(&device(good)).expect("a configuration");
        let meter = &config.modbus[0];
        assert_eq!(
            (meter.host.as_str(), meter.sensor_id.as_str(), meter.unit),
            ("10.0.4.17:502", "meter-1", 1)
        );
        assert_eq!(
            (meter.poll, meter.points[0].address),
            (Duration::from_secs(5), 72)
        );
        for (wrong, key) in [
            (good.replace("input", "coil"), "modbus.points.function"),
            (good.replace("f32", "float"), "modbus.points.type"),
            (good.replace("72", "65535"), "modbus.points.address"),
            (good.replace("0.001", "0.0"), "modbus.points.scale"),
            (format!("{good}, {good}"), "modbus.points.name"),
            (String::new(), "modbus.points"),
        ] {
            let refused = of(&device(&wrong)).err().expect(key);
            assert!(refused.contains(key), "{refused}");
        }
    }

    #[test]
    fn later_layers_win_and_secrets_are_masked() {
        let mut layers = Layers::defaults();
        layers.file("gemba.toml", "[http]\naddress = \"127.0.0.1:1\"\n[[broker]]\nname = \"b\"\nurl = \"mqtt://u:secret@h\"\nsubscriptions = []\n[history.copy_options]\naws_session_token = \"secret\"\n").expect("read");
        layers
            .environment([("GEMBA_HTTP__ADDRESS".to_owned(), "127.0.0.1:2".to_owned())])
            .expect("read");
        layers.flag("http.address", "127.0.0.1:3");
        let shown = layers.shown();
        let address = shown
            .iter()
            .find(|shown| shown.key == "http.address")
            .expect("shown");
        assert_eq!(
            (address.value.as_str(), address.source.as_str()),
            ("\"127.0.0.1:3\"", "flag")
        );
        assert!(shown.iter().all(|shown| !shown.value.contains("secret")));
    }
}
