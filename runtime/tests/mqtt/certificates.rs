//! TLS: the listener's own certificate, and devices that show one instead of a password.

use std::{fs, path::Path, sync::Arc, time::Duration};

use gemba_runtime::{
    keyring::{Keyring, Role},
    mqtt::TlsFiles,
};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rumqttc::{AsyncClient, ConnectionError, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::{
    site::{Site, keys},
    within,
};

/// Who signs the certificates of a test.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for a name, and its key.
    fn certificate_for(&self, name: SanType) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(name);
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// A listener's files, which take devices' certificates of this authority.
    fn files(&self, folder: &Path) -> TlsFiles {
        let (certificate, key) = self.certificate_for(SanType::IpAddress([127, 0, 0, 1].into()));
        let write = |name: &str, pem: String| {
            let file = folder.join(name);
            fs::write(&file, pem).expect("written");
            file
        };
        TlsFiles {
            certificate: write("certificate.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            client_ca: Some(write("ca.pem", self.certificate.pem())),
        }
    }

    /// How a device that trusts this authority connects.
    fn device(&self, port: u16, shown: Option<(Certificate, KeyPair)>) -> MqttOptions {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder
                    .with_client_auth_cert(vec![certificate.der().clone()], key)
                    .expect("a client certificate")
            }
        };
        let mut options = MqttOptions::new("device", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5));
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(config))));
        options
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("a URI"))
}

/// Publishes a reading and waits until it is acknowledged, or the connection ends.
async fn publish(options: MqttOptions, topic: &str) -> Result<(), ConnectionError> {
    let (client, mut events) = AsyncClient::new(options, 10);
    client
        .publish(topic, QoS::AtLeastOnce, false, r#"{"metrics":{"rpm":1}}"#)
        .await
        .expect("asked");
    within("an answer", async {
        loop {
            if let Event::Incoming(Packet::PubAck(_)) = events.poll().await? {
                return Ok(());
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_who_its_certificate_says() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new());
    let files = authority.files(folder.path());
    let site = Site::with(keys(), |settings| settings.tls = Some(files)).await;
    let port = site.address.port();

    let shown = authority.certificate_for(uri("urn:gemba:acme:cnc-07"));
    publish(
        authority.device(port, Some(shown)),
        "gemba/v1/acme/readings/cnc-07",
    )
    .await
    .expect("let in");
    assert_eq!(site.metric("cnc-07", "rpm"), Some(1.0));
    // Its tenant is the certificate's, whatever the topic says.
    let shown = authority.certificate_for(uri("urn:gemba:acme:cnc-07"));
    publish(
        authority.device(port, Some(shown)),
        "gemba/v1/globex/readings/cnc-07",
    )
    .await
    .expect_err("not its tenant");

    // A password does as well, over TLS.
    let mut options = authority.device(port, None);
    options.set_credentials("far", "far-token");
    publish(options, "gemba/v1/globex/readings/press-1")
        .await
        .expect("let in");

    publish(authority.device(port, None), "gemba/v1/acme/readings/x")
        .await
        .expect_err("neither certificate nor password");
    let shown = authority.certificate_for(uri("urn:other:acme:cnc-07"));
    publish(authority.device(port, Some(shown)), "gemba/v1/acme/readings/x")
        .await
        .expect_err("a name of another kind");
    let stranger = Authority::new().certificate_for(uri("urn:gemba:acme:cnc-07"));
    publish(authority.device(port, Some(stranger)), "gemba/v1/acme/readings/x")
        .await
        .expect_err("signed by a stranger");
    // A device that speaks without TLS is closed.
    let plain = MqttOptions::new("plain", "127.0.0.1", port);
    publish(plain, "gemba/v1/acme/readings/x")
        .await
        .expect_err("no TLS");
    assert_eq!(site.counts("acme", "mqtt").received, 1);
    assert_eq!(site.counts("globex", "mqtt").received, 1);
    site.stop().await;
}

#[test]
fn only_a_name_of_ours_makes_a_device() {
    let (authority, keyring) = (Authority::new(), Keyring::new(Vec::new()).expect("a keyring"));
    let device = |name| keyring.verify_certificate(authority.certificate_for(name).0.der());
    let principal = device(uri("urn:gemba:acme:cnc-07")).expect("a device");
    assert_eq!(
        (principal.tenant.as_str(), &*principal.name, principal.role),
        ("acme", "cnc-07", Role::Device)
    );
    for name in [
        "urn:gemba:acme",
        "urn:gemba:acme:",
        "urn:gemba::cnc",
        "urn:gemba:a/b:cnc",
        "urn:gemba:acme:+",
        "urn:x:acme:cnc",
    ] {
        assert_eq!(device(uri(name)), None, "{name}");
    }
    assert_eq!(device(SanType::DnsName("acme".try_into().expect("a name"))), None);
    assert_eq!(keyring.verify_certificate(b"not a certificate"), None);
}
