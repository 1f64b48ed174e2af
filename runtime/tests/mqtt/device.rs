//! A device that speaks MQTT byte by byte, so that it can do what no client library would.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::within;

/// A connection to a listener.
pub(crate) struct Device {
    stream: TcpStream,
}

/// A string as MQTT writes it.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A packet of a first byte and a body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// What a CONNECT says.
pub(crate) struct Hello<'a> {
    pub(crate) level: u8,
    pub(crate) client_id: &'a str,
    pub(crate) keep_alive_s: u16,
    pub(crate) login: Option<(&'a str, &'a str)>,
    /// Topic and payload.
    pub(crate) will: Option<(&'a str, &'a str)>,
}

impl<'a> Hello<'a> {
    pub(crate) fn new(level: u8, client_id: &'a str) -> Self {
        Self {
            level,
            client_id,
            keep_alive_s: 60,
            login: None,
            will: None,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let properties: &[u8] = if self.level == 5 { &[0] } else { &[] };
        let mut flags = 0x02;
        let mut rest = text(self.client_id);
        if let Some((topic, payload)) = self.will {
            flags |= 0x04;
            rest.extend_from_slice(properties);
            rest.extend_from_slice(&text(topic));
            rest.extend_from_slice(&text(payload));
        }
        if let Some((user, password)) = self.login {
            flags |= 0xc0;
            rest.extend_from_slice(&text(user));
            rest.extend_from_slice(&text(password));
        }
        let mut body = text("MQTT");
        body.extend_from_slice(&[self.level, flags]);
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        body.extend_from_slice(properties);
        body.extend_from_slice(&rest);
        packet(0x10, &body)
    }
}

/// A PUBLISH; with packet id 0 at QoS 0, else at QoS 1.
pub(crate) fn publish(level: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if id > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(if id > 0 { 0x32 } else { 0x30 }, &body)
}

impl Device {
    /// A connection on which nothing has been said.
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        Self {
            stream: within("a connection", TcpStream::connect(address))
                .await
                .expect("connected"),
        }
    }

    /// A connection that stands.
    pub(crate) async fn connect(address: SocketAddr, hello: &Hello<'_>) -> Self {
        let mut device = Self::dial(address).await;
        device.send(&hello.bytes()).await;
        let connack = device.next().await.expect("a CONNACK");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:x?}");
        device
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within("a write", self.stream.write_all(bytes))
            .await
            .expect("written");
    }

    /// The next packet; `None` where the listener has closed.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 2];
        within("an answer", self.stream.read_exact(&mut packet))
            .await
            .ok()?;
        // The listener's answers in these tests are below 128 bytes.
        let mut rest = vec![0; usize::from(packet[1])];
        within("the rest of an answer", self.stream.read_exact(&mut rest))
            .await
            .ok()?;
        packet.extend_from_slice(&rest);
        Some(packet)
    }

    /// All that comes until the listener closes.
    pub(crate) async fn last_words(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        // A reset closes as well.
        let _ = within("the close", self.stream.read_to_end(&mut words)).await;
        words
    }

    /// Goes without a word.
    pub(crate) async fn vanish(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Publishes and waits for the PUBACK; answers its reason.
    pub(crate) async fn publish(&mut self, level: u8, topic: &str, id: u16, payload: &str) -> u8 {
        self.send(&publish(level, topic, id, payload.as_bytes())).await;
        let answer = self.next().await.expect("a PUBACK");
        assert_eq!(
            (answer[0], &answer[2..4]),
            (0x40, &id.to_be_bytes()[..]),
            "{answer:x?}"
        );
        answer.get(4).copied().unwrap_or(0)
    }
}
