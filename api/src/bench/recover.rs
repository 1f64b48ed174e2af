//! `recover`: a node with many twins and events is killed with `kill -9`; how soon does it answer, how soon is all
//! folded?

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use gemba_runtime::clock;

use super::{BenchArgs, Case, client, query};

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let folder = tempfile::Builder::new()
        .prefix("gemba-bench")
        .tempdir_in(args.data_dir.clone().unwrap_or_else(std::env::temp_dir));
    let folder = folder.context("failed to make a folder for the data")?;
    let (twins, events) = (args.scaled(args.twins), args.scaled(args.events));
    let port = free_port()?;
    let start = || {
        Command::new(std::env::current_exe()?)
            .args([
                "serve",
                "--mqtt",
                "off",
                "--http",
                &format!("127.0.0.1:{port}"),
                "--data-dir",
            ])
            .arg(folder.path())
            .env("GEMBA_LOG__LEVEL", "error")
            .stdout(Stdio::null())
            .spawn()
            .context("failed to start a node")
    };
    let mut node = start()?;
    let began = clock::instant();
    wait(port, "/readyz").await?;
    fill(port, twins, events).await?;
    let filled_s = began.elapsed().as_secs_f64();
    node.kill()?;
    node.wait()?;
    let killed = clock::instant();
    let mut node = start()?;
    wait(port, &format!("/v1/twins/machine/m-{:07}", twins / 2)).await?;
    let first_ms = killed.elapsed().as_secs_f64() * 1_000.0;
    wait(port, "/readyz").await?;
    let all_ms = killed.elapsed().as_secs_f64() * 1_000.0;
    node.kill()?;
    node.wait()?;
    let case = |name: &str, ms: f64, limit: f64| {
        Case::new(name)
            .with("ms", ms.round())
            .with("limit", "the aim")
            .with("limit_ms", limit)
            .with("twins", twins)
            .with("events", events)
    };
    Ok(vec![
        case("first_answer", first_ms, 1_000.0),
        case("all_folded", all_ms, 20_000.0).with("filled_in_s", filled_s.round()),
    ])
}

pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks until the answer is 200.
async fn wait(port: u16, path: &str) -> anyhow::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes();
    for _ in 0..60_000 {
        if let Ok(mut http) = client::Http::connect(port).await
            && let Ok((200, _)) = http.get(&request).await
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    anyhow::bail!("{path} was never answered")
}

async fn fill(port: u16, twins: usize, events: usize) -> anyhow::Result<()> {
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            tokio::spawn(async move {
                let mut http = client::Http::connect(port).await?;
                let mut number = sender * 1_000;
                while number < events {
                    let mut body = String::with_capacity(320_000);
                    for event in number..(number + 1_000).min(events) {
                        body.push_str(&query::machine(event % twins, (event / twins) as u64));
                        body.push('\n');
                    }
                    let status = http
                        .post("/v1/readings", "application/x-ndjson", body.as_bytes())
                        .await?;
                    ensure!(status == 200 || status == 429, "the node answered {status}");
                    if status == 200 {
                        number += 4_000;
                    }
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for sender in senders {
        sender.await??;
    }
    Ok(())
}
