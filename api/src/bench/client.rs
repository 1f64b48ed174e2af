//! Lean clients for the benches: what they cost is taken from the same cores as the node.

use std::time::Duration;

use anyhow::{Context, ensure};
use gemba_runtime::clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A native reading of about 200 bytes, with a message id of its own.
pub(super) fn reading(sensor: &str, number: u64) -> String {
    format!(
        r#"{{"sensor_id":"{sensor}","sensor_type":"MACHINE","message_id":"{sensor}-{number:012}","metrics":{{"execution":"producing","cycle_count":{number},"power_kw":{}.5,"spindle_rpm":{},"temperature_c":41.25}}}}"#,
        number % 20,
        8_000 + number % 500
    )
}

/// Publishes readings by MQTT 3.1.1 with QoS 1 for a while; answers messages acknowledged, and their times in ms.
pub(super) async fn mqtt_publisher(
    port: u16,
    sensor: String,
    window: usize,
    time: Duration,
) -> anyhow::Result<(u64, Vec<f64>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .context("failed to connect by MQTT")?;
    stream.set_nodelay(true)?;
    let mut hello = vec![
        0x10,
        u8::try_from(12 + sensor.len())?,
        0,
        4,
        b'M',
        b'Q',
        b'T',
        b'T',
        4,
        2,
        0,
        60,
        0,
        u8::try_from(sensor.len())?,
    ];
    hello.extend_from_slice(sensor.as_bytes());
    stream.write_all(&hello).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    ensure!(connack[3] == 0, "the listener refused the connection");
    let topic = format!("gemba/v1/default/readings/{sensor}");
    let (began, mut sent, mut acknowledged, mut latencies) = (clock::instant(), 0_u64, 0_u64, Vec::new());
    let mut sent_at = vec![began; window + 1];
    let (mut out, mut buffer, mut held) = (Vec::with_capacity(64 << 10), vec![0; 16 << 10], 0);
    loop {
        out.clear();
        while sent - acknowledged < window as u64 && began.elapsed() < time {
            let payload = reading(&sensor, sent);
            let id = u16::try_from(sent % window as u64 + 1)?;
            let length = 2 + topic.len() + 2 + payload.len();
            out.extend_from_slice(&[
                0x32,
                (length % 128) as u8 | 0x80,
                (length / 128) as u8,
                0,
                u8::try_from(topic.len())?,
            ]);
            out.extend_from_slice(topic.as_bytes());
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(payload.as_bytes());
            sent_at[usize::from(id)] = clock::instant();
            sent += 1;
        }
        stream.write_all(&out).await?;
        if sent == acknowledged {
            return Ok((acknowledged, latencies));
        }
        let read = stream.read(&mut buffer[held..]).await?;
        ensure!(read > 0, "the listener closed the connection");
        held += read;
        let whole = held - held % 4;
        for puback in buffer[..whole].chunks_exact(4) {
            let id = u16::from_be_bytes([puback[2], puback[3]]);
            if acknowledged % 16 == 0 {
                latencies.push(sent_at[usize::from(id)].elapsed().as_secs_f64() * 1_000.0);
            }
            acknowledged += 1;
        }
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
}

/// One keep-alive connection of HTTP/1.1.
pub(super) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(super) async fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .context("failed to connect by HTTP")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 << 10),
        })
    }

    pub(super) async fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<u16> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body).await?;
        Ok(self.answer().await?.0)
    }

    pub(super) async fn get(&mut self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<(u16, Vec<u8>)> {
        self.buffer.clear();
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = str::from_utf8(&self.buffer[..end])?;
                let status = head.split(' ').nth(1).context("no status")?.parse()?;
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .context("no length")?;
                let whole = end + 4 + length.trim().parse::<usize>()?;
                while self.buffer.len() < whole {
                    ensure!(
                        self.stream.read_buf(&mut self.buffer).await? > 0,
                        "the node closed the connection"
                    );
                }
                return Ok((status, self.buffer[end + 4..whole].to_vec()));
            }
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the node closed the connection"
            );
        }
    }
}
