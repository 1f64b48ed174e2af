//! `gemba certs`: a cluster's authority, and the certificates of its nodes.
//!
//! Promises: an authority that is there is used and never replaced; keys are readable by their owner only; a node's
//! certificate that is there stays.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use gemba_runtime::certificates::{Authority, PeerName};

use super::serve::say;

#[derive(Args)]
pub(super) struct CertsArgs {
    /// The cluster's name: lower-case letters, digits, hyphens
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// Makes certificates for nodes 1 to N
    #[arg(long, value_name = "N", required_unless_present = "node")]
    nodes: Option<u64>,
    /// Makes the certificate of one node more
    #[arg(long, value_name = "N", conflicts_with = "nodes")]
    node: Option<u64>,
    /// Where the files are written
    #[arg(long, value_name = "DIR", default_value = "certs")]
    out: PathBuf,
}

pub(super) fn run(args: &CertsArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("failed to make {}", args.out.display()))?;
    let numbers = match (args.nodes, args.node) {
        (_, Some(node)) => node..=node,
        (nodes, None) => 1..=nodes.unwrap_or(0),
    };
    if numbers.is_empty() || *numbers.start() == 0 {
        bail!("nodes are numbered from 1 on");
    }
    let authority = authority(&args.out, &args.cluster)?;
    for number in numbers {
        let (certificate, key) = (
            args.out.join(format!("node-{number}.crt")),
            args.out.join(format!("node-{number}.key")),
        );
        if certificate.exists() && key.exists() {
            say(&format!("{} is there already", certificate.display()));
            continue;
        }
        let made = authority.certify(&PeerName::new(&args.cluster, number)?)?;
        write(&key, &made.key, true)?;
        write(&certificate, &made.certificate, false)?;
        say(&format!(
            "{}  node {number} of {}",
            certificate.display(),
            args.cluster
        ));
    }
    say("give each node ca.crt and its own two files; keep ca.key away from nodes");
    Ok(())
}

/// The authority of the folder, or a new one.
fn authority(folder: &Path, cluster: &str) -> anyhow::Result<Authority> {
    let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
    if certificate.exists() || key.exists() {
        let read = |path: &Path| {
            let hint = "an authority is a pair of files: remove both to make a new one";
            std::fs::read_to_string(path)
                .with_context(|| format!("failed to read {} ({hint})", path.display()))
        };
        return Ok(Authority::load(read(&certificate)?, read(&key)?));
    }
    let authority = Authority::make(cluster)?;
    write(&key, authority.key(), true)?;
    write(&certificate, authority.certificate(), false)?;
    say(&format!("{}  the authority of {cluster}", certificate.display()));
    Ok(authority)
}

fn write(path: &Path, text: &str, is_secret: bool) -> anyhow::Result<()> {
    let mode = if is_secret { 0o600 } else { 0o644 };
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("failed to write {}", path.display()))
}
