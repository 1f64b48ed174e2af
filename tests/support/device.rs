//! A device that speaks MQTT 3.1.1 by hand and writes down which of its messages were acknowledged.
//!
//! What was sent and not acknowledged when the connection broke is sent again, with the same message id, as a
//! device with a store of its own would do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Messages on their way at a time.
const WINDOW: usize = 50;

/// What a device wrote down.
pub(crate) struct Diary {
    pub(crate) sensor: String,
    /// A day before it began, in milliseconds since 1970: its scans are all in the past.
    began_ms: u128,
    /// Message ids in the order they were first sent.
    pub(crate) sent: u64,
    pub(crate) acknowledged: BTreeSet<u64>,
    /// How often something was sent again.
    pub(crate) sent_again: u64,
}

/// What all devices share.
#[derive(Default)]
pub(crate) struct Pace {
    /// Messages acknowledged so far.
    pub(crate) acknowledged: AtomicU64,
    /// Acknowledgements after which nothing new is sent until more are allowed.
    pub(crate) allowed: AtomicU64,
    /// Whether to send what is open, and end.
    pub(crate) stop: AtomicBool,
}

impl Pace {
    fn holds_back(&self) -> bool {
        self.stop.load(Ordering::Acquire)
            || self.acknowledged.load(Ordering::Acquire) >= self.allowed.load(Ordering::Acquire)
    }
}

#[expect(clippy::disallowed_methods, reason = "a device has a clock of its own")]
fn now_ms() -> u128 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.expect("after 1970").as_millis()
}

/// Publishes readings of one sensor until it is told to stop, reconnecting as often as it takes; answers its diary.
pub(crate) fn publish_until(pace: &Pace, port: u16, sensor: &str) -> Diary {
    let mut diary = Diary {
        sensor: sensor.to_owned(),
        began_ms: now_ms() - 86_400_000,
        sent: 0,
        acknowledged: BTreeSet::new(),
        sent_again: 0,
    };
    let mut open: BTreeSet<u64> = BTreeSet::new();
    while !(pace.stop.load(Ordering::Acquire) && open.is_empty()) {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else {
            std::thread::park_timeout(Duration::from_millis(10));
            continue;
        };
        // An error means that the node was killed; whatever was open is sent again over the next connection.
        let _ = session(stream, pace, &mut diary, &mut open);
    }
    diary
}

fn session(
    mut stream: TcpStream,
    pace: &Pace,
    diary: &mut Diary,
    open: &mut BTreeSet<u64>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect(&diary.sensor))?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    if connack[3] != 0 {
        return Err(std::io::Error::other("refused"));
    }
    let mut by_packet: BTreeMap<u16, u64> = BTreeMap::new();
    let mut packet = 0_u16;
    let mut again: Vec<u64> = open.iter().copied().collect();
    diary.sent_again += again.len() as u64;
    again.reverse();
    let mut received = Vec::new();
    loop {
        let mut out = Vec::new();
        while by_packet.len() < WINDOW {
            let number = match again.pop() {
                Some(number) => number,
                None if pace.holds_back() => break,
                None => {
                    diary.sent += 1;
                    diary.sent
                }
            };
            packet = packet.checked_add(1).unwrap_or(1);
            while by_packet.contains_key(&packet) {
                packet = packet.checked_add(1).unwrap_or(1);
            }
            open.insert(number);
            by_packet.insert(packet, number);
            out.extend_from_slice(&publish(&diary.sensor, number, packet, diary.began_ms));
        }
        stream.write_all(&out)?;
        if by_packet.is_empty() {
            if !pace.stop.load(Ordering::Acquire) {
                std::thread::park_timeout(Duration::from_millis(1));
                continue;
            }
            stream.write_all(&[0xe0, 0])?;
            return Ok(());
        }
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..length]);
        while received.len() >= 4 {
            assert_eq!((received[0], received[1]), (0x40, 2), "only PUBACKs are expected");
            let acknowledged = u16::from_be_bytes([received[2], received[3]]);
            received.drain(..4);
            let number = by_packet.remove(&acknowledged).expect("a packet of ours");
            open.remove(&number);
            diary.acknowledged.insert(number);
            pace.acknowledged.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The message id of a device's message.
pub(crate) fn message_id(sensor: &str, number: u64) -> String {
    format!("{sensor}-{number}")
}

/// Where the reader of a job sees it.
pub(crate) const CELLS: u64 = 4;

/// Whether a device is a reader that follows a job of its name, from cell to cell.
pub(crate) fn is_reader(sensor: &str) -> bool {
    sensor.starts_with("job-")
}

/// The payload of a device's message: a value that occurs once, or a job that goes on to the next cell.
pub(crate) fn payload(sensor: &str, number: u64, began_ms: u128) -> String {
    if is_reader(sensor) {
        return format!(
            r#"{{"job_id":"{sensor}","location":"cell-{}","scan_timestamp":{},"message_id":"{}"}}"#,
            number % CELLS,
            began_ms + u128::from(number) * 10,
            message_id(sensor, number)
        );
    }
    format!(
        r#"{{"sensor_id":"{sensor}","sensor_type":"MACHINE","message_id":"{}","metrics":{{"execution":"producing","sequence":{number}}}}}"#,
        message_id(sensor, number)
    )
}

fn connect(client: &str) -> Vec<u8> {
    let mut body = vec![0, 4];
    body.extend_from_slice(b"MQTT");
    // Level 4, clean session, keep-alive of a minute.
    body.extend_from_slice(&[4, 2, 0, 60]);
    text(&mut body, client);
    packet(0x10, &body)
}

fn publish(sensor: &str, number: u64, id: u16, began_ms: u128) -> Vec<u8> {
    let mut body = Vec::new();
    let what = if is_reader(sensor) { "scans" } else { "readings" };
    text(&mut body, &format!("gemba/v1/default/{what}/{sensor}"));
    body.extend_from_slice(&id.to_be_bytes());
    body.extend_from_slice(payload(sensor, number, began_ms).as_bytes());
    packet(0x32, &body)
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
    into.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).expect("seven bits");
        length /= 128;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}
