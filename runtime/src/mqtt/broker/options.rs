//! From a broker's settings to rumqttc's options; what cannot work is said here and not in a loop of reconnects.

use std::{fs, path::Path, sync::Arc, time::Duration};

use percent_encoding::percent_decode_str;
use rumqttc::{MqttOptions, TlsConfiguration, Transport, mqttbytes::valid_filter};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{BrokerSettings, InvalidBroker};

/// Largest packet that is read. rumqttc closes the connection over a larger one and the broker sends it again, for
/// ever; so this is far above what brokers let through by default, and what is too large for us is rejected instead.
const PACKET_MAX: usize = 16 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The parts of `mqtt[s]://[user[:password]@]host[:port]`.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    tls: bool,
    login: Option<(String, String)>,
    host: &'a str,
    port: u16,
}

impl<'a> Url<'a> {
    fn parse(url: &'a str) -> Result<Self, &'static str> {
        let (tls, rest) = match (url.strip_prefix("mqtt://"), url.strip_prefix("mqtts://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("url does not begin with mqtt:// or mqtts://"),
        };
        let (login, place) = match rest.trim_end_matches('/').rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest.trim_end_matches('/')),
        };
        let port_at = if place.ends_with(']') {
            None
        } else {
            place.rfind(':')
        };
        let (host, port) = match port_at {
            Some(at) => (
                &place[..at],
                place[at + 1..]
                    .parse()
                    .map_err(|_| "the port of url is not a number")?,
            ),
            None => (place, if tls { 8883 } else { 1883 }),
        };
        if host.is_empty() || (host.contains(':') && !host.starts_with('[')) {
            return Err("url names no host (an IPv6 address goes into square brackets)");
        }
        let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err("user or password of url is not UTF-8"),
        };
        let login = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => Some((decoded(user)?, decoded(password)?)),
            None => None,
        };
        Ok(Self {
            tls,
            login,
            host,
            port,
        })
    }
}

/// The options of a client that only publishes.
pub(super) fn to_publish(
    name: &str,
    url: &str,
    client_id: &str,
    ca: Option<std::path::PathBuf>,
) -> Result<MqttOptions, InvalidBroker> {
    let tenant = gemba_twins::id::TenantId::parse("notify").map_err(|error| InvalidBroker {
        name: name.to_owned(),
        detail: error.to_string(),
    })?;
    // A subscription is asked for by those who listen; here it is only a placeholder and never sent.
    let placeholder = super::BrokerSubscription {
        topic: "notify".into(),
        qos: 1,
        decoder: super::BrokerDecoder::Native,
    };
    let mut options = of(&BrokerSettings {
        name: name.to_owned(),
        url: url.to_owned(),
        client_id: client_id.to_owned(),
        tenant,
        subscriptions: vec![placeholder],
        ca,
        certificate: None,
        certificate_key: None,
    })?;
    options.set_clean_session(true);
    options.set_manual_acks(false);
    Ok(options)
}

/// The options of each connection.
pub(super) fn of(settings: &BrokerSettings) -> Result<MqttOptions, InvalidBroker> {
    let invalid = |detail: String| InvalidBroker {
        name: settings.name.clone(),
        detail,
    };
    let url = Url::parse(&settings.url).map_err(|detail| invalid(detail.to_owned()))?;
    if settings.client_id.is_empty() {
        return Err(invalid(
            "client_id is empty (the broker keeps messages only for a session it can name)".into(),
        ));
    }
    if settings.subscriptions.is_empty() {
        return Err(invalid("it has no subscription".into()));
    }
    for subscription in &settings.subscriptions {
        if !valid_filter(&subscription.topic) {
            let topic = &subscription.topic;
            return Err(invalid(format!(
                "{topic:?} is no topic filter (# stands at the end, + for a whole level)"
            )));
        }
    }
    let mut options = MqttOptions::new(&settings.client_id, url.host, url.port);
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_max_packet_size(PACKET_MAX, PACKET_MAX);
    if let Some((user, password)) = url.login {
        options.set_credentials(user, password);
    }
    if url.tls {
        let config = client_config(settings).map_err(invalid)?;
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(config))));
    } else if settings.ca.is_some() || settings.certificate.is_some() {
        return Err(invalid(
            "ca and certificate are for mqtts:// (the url says mqtt://)".into(),
        ));
    }
    Ok(options)
}

fn client_config(settings: &BrokerSettings) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(settings.ca.as_deref())?);
    match (&settings.certificate, &settings.certificate_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let secret =
                PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|error| format!("{}: {error}", certificate.display()))
        }
        _ => Err("certificate and certificate_key go together".into()),
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        None => {
            // Systems carry certificates that do not parse; the others still count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("the system trusts nobody (give ca, the file with the certificate of who signed the broker's)".into());
            }
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!(
            "{}: it holds no certificate (PEM is wanted)",
            file.display()
        )),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use gemba_twins::id::TenantId;

    use super::{
        super::{BrokerDecoder, BrokerSubscription},
        *,
    };

    fn settings(url: &str) -> BrokerSettings {
        BrokerSettings {
            name: "plant".into(),
            url: url.into(),
            client_id: "gemba-plant".into(),
            tenant: TenantId::parse("acme").expect("a tenant"),
            subscriptions: vec![BrokerSubscription {
                topic: "gemba/v1/acme/#".into(),
                qos: 1,
                decoder: BrokerDecoder::Native,
            }],
            ca: None,
            certificate: None,
            certificate_key: None,
        }
    }

    #[test]
    fn urls_are_read() {
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (url, tls, login, host, port) in [
            ("mqtt://127.0.0.1", false, None, "127.0.0.1", 1883),
            ("mqtts://broker.example/", true, None, "broker.example", 8883),
            (
                "mqtts://app:s3cret@broker.example:8884/",
                true,
                login("app", "s3cret"),
                "broker.example",
                8884,
            ),
            ("mqtt://app@broker", false, login("app", ""), "broker", 1883),
            (
                "mqtt://a%40b:c%3ad@broker",
                false,
                login("a@b", "c:d"),
                "broker",
                1883,
            ),
            ("mqtt://[::1]:1884", false, None, "[::1]", 1884),
            ("mqtt://[::1]", false, None, "[::1]", 1883),
        ] {
            assert_eq!(
                Url::parse(url),
                Ok(Url {
                    tls,
                    login,
                    host,
                    port
                }),
                "{url}"
            );
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_at_once() {
        let problem = |change: fn(&mut BrokerSettings)| {
            let mut settings = settings("mqtt://broker");
            change(&mut settings);
            of(&settings)
                .err()
                .map(|invalid| invalid.to_string())
                .unwrap_or_default()
        };
        assert_eq!(problem(|_| {}), "");
        for url in [
            "http://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://broker:many",
            "mqtt://::1",
            "mqtt://%ff@broker",
        ] {
            assert!(of(&settings(url)).is_err(), "{url}");
        }
        assert!(problem(|settings| settings.client_id.clear()).contains("client_id"));
        assert!(problem(|settings| settings.subscriptions.clear()).contains("subscription"));
        assert!(
            problem(|settings| settings.subscriptions[0].topic = "a/#/b".into()).contains("topic filter")
        );
        assert!(problem(|settings| settings.ca = Some("ca.pem".into())).contains("mqtts://"));
        let missing = problem(|settings| {
            settings.url = "mqtts://broker".into();
            settings.ca = Some("/no/such/ca.pem".into());
        });
        assert!(missing.starts_with("broker plant: /no/such/ca.pem"), "{missing}");
    }
}
