//! TLS of our own listeners: certificate and key from files, client certificates where a CA is given.

use std::{fs, path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use thiserror::Error;

/// Files in PEM format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's chain, its own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs clients' certificates; with it, a client may show one instead of a password.
    pub client_ca: Option<PathBuf>,
}

/// Files that cannot be used.
#[derive(Debug, Error)]
#[error("failed to use {file}: {detail}")]
pub struct TlsError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub detail: String,
}

fn error(file: &std::path::Path, detail: impl ToString) -> TlsError {
    TlsError {
        file: file.display().to_string(),
        detail: detail.to_string(),
    }
}

fn certificates(file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(file).map_err(|problem| error(file, problem))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(error(file, "it holds no certificate (PEM is wanted)")),
        Err(problem) => Err(error(file, problem)),
    }
}

/// The TLS settings of a listener; `only_13` refuses TLS 1.2, which small devices may need.
pub fn server_config(files: &TlsFiles, only_13: bool, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[_] = if only_13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|problem| error(&files.key, problem))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|problem| error(&files.certificate, problem))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|problem| error(file, problem))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|problem| error(file, problem))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|problem| error(&files.certificate, problem))?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}
