//! Who is who: the cluster's authority, the nodes' certificates, and TLS that takes nothing else.
//!
//! Promises: a node's certificate names its cluster and its number; a peer is the node that its certificate says, so a
//! wrong node at an address and a node of another cluster are refused before a message is read. TLS 1.3 only.

use std::{fmt, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use thiserror::Error;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The end of each name in a certificate; no real domain.
const SUFFIX: &str = "gemba.internal";

/// What is wrong with certificates.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// A name that cannot stand in a certificate.
    #[error(
        "cluster name {0:?} is not made of lower-case letters, digits and hyphens (1 to 40, not at its ends)"
    )]
    Name(String),
    /// A file is not what it should be.
    #[error("{what}: {detail}")]
    Unusable {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
}

fn unusable(what: &'static str, detail: impl fmt::Display) -> CertificateError {
    CertificateError::Unusable {
        what,
        detail: detail.to_string(),
    }
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName {
    /// The cluster.
    pub cluster: String,
    /// The node's number.
    pub node: u64,
}

impl PeerName {
    /// A node of a cluster.
    pub fn new(cluster: &str, node: u64) -> Result<Self, CertificateError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=40).contains(&cluster.len())
            && cluster.bytes().all(fits)
            && !cluster.starts_with('-')
            && !cluster.ends_with('-');
        if !is_name {
            return Err(CertificateError::Name(cluster.into()));
        }
        Ok(Self {
            cluster: cluster.into(),
            node,
        })
    }

    /// The name of a node in its certificate.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("node-{}.{}", self.node, cluster_name(&self.cluster))
    }

    fn parse(name: &str) -> Option<Self> {
        let (node, rest) = name.strip_prefix("node-")?.split_once('.')?;
        let cluster = rest.strip_suffix(SUFFIX)?.strip_suffix('.')?;
        Self::new(cluster, node.parse().ok()?).ok()
    }

    /// Whom a peer's certificate is for.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Self::parse(name),
            _ => None,
        })
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {:?}", self.node, self.cluster)
    }
}

/// The name that all nodes of a cluster share, for a node that joins and does not know whom it will meet.
fn cluster_name(cluster: &str) -> String {
    format!("{cluster}.{SUFFIX}")
}

/// The authority of a cluster: whoever holds its key can make nodes.
pub struct Authority {
    certificate: String,
    key: String,
}

/// A node's certificate and key, as PEM.
pub struct Made {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// Makes an authority for a cluster. Its certificate does not run out before the year 4096, as rcgen's default is;
    /// a cluster changes its authority by trusting two for a while.
    pub fn make(cluster: &str) -> Result<Self, CertificateError> {
        PeerName::new(cluster, 0)?;
        let key = KeyPair::generate().map_err(|error| unusable("key", error))?;
        let params = authority_params(cluster);
        let certificate = params
            .self_signed(&key)
            .map_err(|error| unusable("certificate", error))?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The certificate, as PEM: what every node trusts.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key, as PEM: to be kept away from nodes.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Takes up an authority that was made earlier, for the same cluster.
    #[must_use]
    pub fn load(certificate: String, key: String) -> Self {
        Self { certificate, key }
    }

    /// Makes the certificate of a node.
    pub fn certify(&self, name: &PeerName) -> Result<Made, CertificateError> {
        let authority_key =
            KeyPair::from_pem(&self.key).map_err(|error| unusable("authority's key", error))?;
        let issuer = Issuer::new(authority_params(&name.cluster), authority_key);
        let key = KeyPair::generate().map_err(|error| unusable("key", error))?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, name.dns_name());
        for dns in [name.dns_name(), cluster_name(&name.cluster)] {
            let dns = dns.try_into().map_err(|error| unusable("name", error))?;
            params.subject_alt_names.push(SanType::DnsName(dns));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params
            .signed_by(&key, &issuer)
            .map_err(|error| unusable("certificate", error))?;
        Ok(Made {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn authority_params(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(
        DnType::CommonName,
        format!("authority of {}", cluster_name(cluster)),
    );
    params
}

/// A node's part in TLS: whom it trusts, and what it shows.
#[derive(Clone)]
pub struct Credentials {
    /// Whom the node's own certificate is for.
    pub name: PeerName,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Credentials {
    /// Reads PEM: the certificates of the authorities to trust, the node's certificate and its key.
    pub fn read(authorities: &str, certificate: &str, key: &str) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            let authority = authority.map_err(|error| unusable("authority's certificate", error))?;
            roots
                .add(authority)
                .map_err(|error| unusable("authority's certificate", error))?;
        }
        let roots = Arc::new(roots);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unusable("node's certificate", error))?;
        let first = chain
            .first()
            .ok_or_else(|| unusable("node's certificate", "there is none in it"))?;
        let name = PeerName::of(first)
            .ok_or_else(|| unusable("node's certificate", "it names no node of a cluster"))?;
        let key =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unusable("node's key", error))?;
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| unusable("authority's certificate", error))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable("TLS", error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| unusable("node's certificate", error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable("TLS", error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable("node's certificate", error))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            name,
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }

    /// The name that a peer has to show: a node's, or any of the cluster.
    pub(crate) fn expected(&self, node: Option<u64>) -> Result<ServerName<'static>, CertificateError> {
        let cluster = self.name.cluster.clone();
        let name = match node {
            Some(node) => PeerName { cluster, node }.dns_name(),
            None => cluster_name(&cluster),
        };
        ServerName::try_from(name).map_err(|error| unusable("name", error))
    }
}
