//! What gemba asks of others by HTTP: one way to make the client for it.
//!
//! Promises: no redirect is followed, so that an answer cannot lead elsewhere; each request has a time limit; the
//! server's certificate is held against those the system trusts, or against a file of one's own. Knows no protocol
//! beyond HTTP.

use std::{path::Path, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use ureq::{
    Agent, Proxy,
    tls::{Certificate, RootCerts, TlsConfig},
};

/// Connections that are kept for the next request.
const IDLE: usize = 16;

/// A client for servers that `ca` (PEM) signed, or whom the system trusts; through `proxy`, or the one that the
/// environment names.
pub(crate) fn agent(ca: Option<&Path>, proxy: Option<&str>, timeout: Duration) -> Result<Agent, String> {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots(ca)?)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let mut config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(timeout))
        // As many as ask at once: a new connection costs handshakes and a thread that looks its address up.
        .max_idle_connections(IDLE)
        .max_idle_connections_per_host(IDLE)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("gemba/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = proxy {
        // The address may hold a password, so it is not repeated.
        let proxy = Proxy::new(proxy).map_err(|_| "the proxy's address cannot be read".to_owned())?;
        config = config.proxy(Some(proxy));
    }
    Ok(config.build().into())
}

fn roots(ca: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    if let Some(file) = ca {
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = read.map_err(|error| format!("ca {}: {error}", file.display()))?;
        return Ok(certificates
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect());
    }
    let trusted = rustls_native_certs::load_native_certs();
    Ok(trusted
        .certs
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect())
}
