//! `gemba key new`: makes an API key; only its hash goes into the configuration.

use std::{fs::File, io::Read};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use gemba_runtime::keyring::{Role, hash_token};
use gemba_twins::id::TenantId;

#[derive(Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Makes a key: prints its token once, and the entry for gemba.toml
    New {
        /// Whose twins it sees
        #[arg(long)]
        tenant: String,
        /// device, viewer, operator, engineer or admin
        #[arg(long)]
        role: String,
        /// What it is called; also the user name for MQTT
        #[arg(long)]
        name: String,
    },
}

pub(super) fn run(args: &KeyArgs) -> anyhow::Result<()> {
    let KeyCommand::New { tenant, role, name } = &args.command;
    TenantId::parse(tenant)?;
    gemba_twins::id::check_id("key name", name, 128)?;
    Role::parse(role)
        .with_context(|| format!("role {role:?} is none of device, viewer, operator, engineer, admin"))?;
    let mut random = [0_u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("failed to read /dev/urandom")?;
    let token = format!("gemba_{}", URL_SAFE_NO_PAD.encode(random));
    println!("token (shown only now): {token}\n");
    println!(
        "[[key]]\nname = \"{name}\"\ntenant = \"{tenant}\"\nrole = \"{role}\"\nhash = \"{}\"",
        hash_token(&token)
    );
    Ok(())
}
