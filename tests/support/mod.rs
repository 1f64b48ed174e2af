//! Real processes for the system tests: a gemba node, a broker, an MQTT device that writes down what was
//! acknowledged, and HTTP.

#![expect(dead_code, reason = "each test binary uses its own part")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;

pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod device;
pub(crate) mod example;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod python;
pub(crate) mod schema;
pub(crate) mod socket;
pub(crate) mod wires;
pub(crate) mod workbook;

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    // Below the ports that the system gives to clients: one of those took a node's port before the node did.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mine = std::process::id().wrapping_mul(64);
    let port = (0..20_000).find_map(|_| {
        let number = mine.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = u16::try_from(10_000 + number).ok()?;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    });
    port.expect("a port")
}

/// A running `gemba serve`.
pub(crate) struct Node {
    child: Child,
    pub(crate) http: u16,
    pub(crate) mqtt: u16,
}

impl Node {
    /// Starts a node on a data folder and waits until it is ready. `extra` are further arguments.
    pub(crate) fn start(data_dir: &Path, extra: &[&str]) -> Self {
        Self::start_on(data_dir, free_port(), free_port(), extra)
    }

    /// As [`Node::start`], on ports of one's own.
    pub(crate) fn start_on(data_dir: &Path, http: u16, mqtt: u16, extra: &[&str]) -> Self {
        Self::run(Self::command(data_dir, http, mqtt, extra), http, mqtt)
    }

    /// The command that starts a node.
    pub(crate) fn command(data_dir: &Path, http: u16, mqtt: u16, extra: &[&str]) -> Command {
        // A limit on its files is to fail its writes, not to end it.
        let mut serve = Command::new("env");
        serve
            .args(["--ignore-signal=XFSZ", env!("CARGO_BIN_EXE_gemba")])
            .args(["serve", "--data-dir"])
            .arg(data_dir)
            .args([
                "--http",
                &format!("127.0.0.1:{http}"),
                "--mqtt",
                &format!("127.0.0.1:{mqtt}"),
            ])
            .args(extra)
            .env(
                "GEMBA_LOG__LEVEL",
                std::env::var("GEMBA_TEST_LOG").as_deref().unwrap_or("warn"),
            );
        serve
    }

    /// Runs a command that ends up as a node at these ports, and waits until it says that it is ready.
    pub(crate) fn run(command: Command, http: u16, mqtt: u16) -> Self {
        Self::run_telling(command, http, mqtt, |_| ())
    }

    /// As [`Node::run`]; `tell` hears the process's number before the node is ready.
    pub(crate) fn run_telling(mut command: Command, http: u16, mqtt: u16, tell: impl FnOnce(u32)) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("gemba starts");
        tell(child.id());
        // The node says when it listens; afterwards its output is read on, so that it never blocks on a full pipe.
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut node = Self { child, http, mqtt };
        let mut said = String::new();
        loop {
            match lines.next() {
                Some(Ok(line)) => {
                    said.push_str(&line);
                    said.push('\n');
                    if line.contains("ready") {
                        break;
                    }
                }
                _ => {
                    let status = node.child.wait();
                    panic!("gemba ended with {status:?} before it was ready; it said:\n{said}");
                }
            }
        }
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        node
    }

    /// The process's number, for looking at its memory.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that the process holds, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number") / 1_024
    }

    /// Sends a request.
    pub(crate) fn call(&self, request: &http::Request) -> http::Answer {
        request.send(self.http)
    }

    /// Kills the process with `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// Stops the process as an operator would; answers whether it ended well.
    pub(crate) fn stop(self) -> bool {
        self.stop_by("TERM")
    }

    /// As [`Node::stop`], by a signal of one's own.
    pub(crate) fn stop_by(mut self, signal: &str) -> bool {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill")
            .args([&format!("-{signal}"), pid.as_str()])
            .status()
            .expect("kill runs");
        assert!(asked.success());
        self.child.wait().expect("reaped").success()
    }

    /// `GET path`, expecting JSON with status 200.
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = request(self.http, "GET", path, &[], b"");
        assert_eq!(status, 200, "GET {path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// All items of a list, page by page.
    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                None => self.get(path),
                Some(cursor) => self.get(&format!("{path}{sign}cursor={cursor}")),
            };
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            match page["cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
        }
    }

    /// `POST path` with a JSON or NDJSON body.
    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> (u16, Value) {
        let (status, body) = request(self.http, "POST", path, &[("content-type", content_type)], body);
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Asserts that the counts of every source add up and nothing is under way; answers all of them summed.
    pub(crate) fn counts_that_add_up(&self) -> Counts {
        let mut sum = Counts::default();
        for source in self.get("/v1/ingest")["items"].as_array().expect("sources") {
            let count = |name: &str| {
                source[name]
                    .as_u64()
                    .unwrap_or_else(|| panic!("{name} in {source}"))
            };
            let ended = count("applied") + count("duplicate") + count("late") + count("rejected");
            assert_eq!(count("received"), ended + count("in_flight"), "{source}");
            sum.received += count("received");
            sum.applied += count("applied");
            sum.duplicate += count("duplicate");
            sum.late += count("late");
            sum.rejected += count("rejected");
        }
        sum
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that failed leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The counts of all sources.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) applied: u64,
    pub(crate) duplicate: u64,
    pub(crate) late: u64,
    pub(crate) rejected: u64,
}

/// One HTTP request over a connection of its own.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a limit");
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    // A server that refuses a large body may close before it has read all of it.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    (status, answer[end + 4..].to_vec())
}

/// A running mosquitto with the settings that the README asks for.
pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
}

impl Broker {
    pub(crate) fn start(folder: &Path) -> Self {
        let port = free_port();
        Self::start_on(folder, port)
    }

    pub(crate) fn start_on(folder: &Path, port: u16) -> Self {
        let config = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             autosave_interval 1\nmax_queued_messages 0\nmax_inflight_messages 1000\nuser root\n",
            folder.display()
        );
        std::fs::write(&config, text).expect("a configuration");
        let program = if Path::new("/usr/sbin/mosquitto").exists() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts (./dev test installs it)");
        let broker = Self { child, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        broker
    }

    /// Publishes with `mosquitto_pub`, QoS 1, and waits until the broker has it.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) {
        let mut publisher = Command::new("mosquitto_pub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-q",
                "1",
                "-t",
                topic,
                "-s",
            ])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub starts");
        publisher
            .stdin
            .take()
            .expect("its input")
            .write_all(payload)
            .expect("written");
        assert!(
            publisher.wait().expect("reaped").success(),
            "published on {topic}"
        );
    }

    pub(crate) fn stop(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is there; the test's own time limit ends a wait that never will.
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..12_000 {
        if let Some(answer) = ask() {
            return answer;
        }
        // Gives way to the processes under test; each ask is an event of its own.
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{what} did not come about");
}
