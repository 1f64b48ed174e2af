//! Snowflake's own streaming client talks to the fake that gemba is tested against, so that the fake is not merely ours.
//!
//! `GEMBA_PYTHON` names a Python that has `snowpipe-streaming`; `./dev test` makes one in `target/python`.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

#[path = "support/snowpipe/mod.rs"]
mod snowpipe;
mod support;

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use snowpipe::{Faults, Snowpipe};

const ROWS: u64 = 100;

/// A certificate for this machine, and who signed it (PEM).
fn certificate() -> (rustls::ServerConfig, String) {
    let mut of_ca = CertificateParams::new(Vec::new()).expect("parameters");
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = of_ca.self_signed(&key).expect("signed").pem();
    let issuer = Issuer::from_params(&of_ca, &key);
    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let of_server = CertificateParams::new(names).expect("parameters");
    let server = of_server.signed_by(&key, &issuer).expect("signed");
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key.into())
        .expect("a certificate");
    (config, ca)
}

#[test]
fn the_official_client_opens_sends_and_sees_its_offset_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, ca) = certificate();
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, ca).expect("written");
    let fake = Snowpipe::start_tls(29, tls);
    fake.set_faults(Faults {
        commit_ms: 200,
        ..Faults::default()
    });
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    let output = Command::new(std::env::var("GEMBA_PYTHON").unwrap_or_else(|_| made.into()))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/checkpoint_sdk.py"))
        .arg(format!("https://127.0.0.1:{}", fake.port))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/keys/plain.p8"
        ))
        .arg(ROWS.to_string())
        .env("SSL_CERT_FILE", &trusted)
        .output()
        .expect("a Python with snowpipe-streaming (./dev test makes one in target/python)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{:?}", fake.violations());
    let rows = fake.rows("JOB_TRACKING");
    let seqs: Vec<u64> = rows.iter().filter_map(|row| row["SEQ"].as_u64()).collect();
    assert_eq!(seqs, (1..=ROWS).collect::<Vec<_>>(), "{said}");
    assert_eq!(fake.violations(), Vec::<String>::new());
}
