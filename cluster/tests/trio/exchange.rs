//! Short messages through an exchange, over real TLS on loopback.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use gemba_cluster::{
    Boxed, Courier, Errand, ShardId, Undelivered,
    net::{AddressBook, Answers, Lines, PeerName, Port, PortLimits, Refusal},
};
use tokio::runtime::Runtime;

use crate::node::{Site, until};

const LONG: Duration = Duration::from_secs(20);

/// Answers what it is told after as many milliseconds as it says, or refuses it.
#[derive(Default)]
struct Parrot {
    under_way: Arc<AtomicU64>,
}

struct UnderWay(Arc<AtomicU64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Answers for Parrot {
    fn answer(
        &self,
        from: PeerName,
        errand: Errand,
        shard: ShardId,
        body: Bytes,
    ) -> Boxed<'static, Result<Bytes, Refusal>> {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        let under_way = UnderWay(self.under_way.clone());
        Box::pin(async move {
            let _under_way = under_way;
            let said = String::from_utf8_lossy(&body).into_owned();
            match said.as_str() {
                "never" => return Err(Refusal::Never("not that".into())),
                "later" => return Err(Refusal::NotNow("not now".into())),
                _ => {}
            }
            let ms = said.split(' ').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(format!("{} {errand:?} {shard} {said}", from.node).into())
        })
    }
}

struct Pair {
    runtime: Runtime,
    lines: Lines,
    site: Site,
    parrot: Arc<Parrot>,
    port: Option<Port>,
}

impl Pair {
    /// Node 2, and its line to node 1 with an exchange.
    fn new() -> Self {
        let site = Site::new();
        let runtime = Runtime::new().expect("a runtime");
        let (book, parrot) = (AddressBook::default(), Arc::new(Parrot::default()));
        let lines = Lines::new(site.credentials(2), book.clone());
        let mut pair = Self {
            runtime,
            lines,
            site,
            parrot,
            port: None,
        };
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        pair.open(any);
        book.set(1, pair.address().to_string());
        pair.exchange();
        pair
    }

    fn open(&mut self, address: SocketAddr) {
        let credentials = self.site.credentials(1);
        let opened = Port::open(address, credentials, PortLimits::default(), self.parrot.clone());
        self.port = Some(self.runtime.block_on(opened).expect("a port"));
    }

    fn address(&self) -> SocketAddr {
        self.port.as_ref().expect("open").address()
    }

    fn send(&self, said: &str, within: Duration) -> Boxed<'static, Result<Bytes, Undelivered>> {
        let body = Bytes::copy_from_slice(said.as_bytes());
        self.lines.send(1, Errand::Append, ShardId::new(7), body, within)
    }

    fn ask(&self, said: &str) -> Result<Bytes, Undelivered> {
        self.runtime.block_on(self.send(said, LONG))
    }

    /// Sends until the line has an exchange.
    fn exchange(&self) {
        until("an exchange has begun", || {
            // The node may not be reached yet.
            let _ = self.ask("0 calling");
            self.lines.exchanges_with(1)
        });
    }
}

#[test]
fn answers_go_to_whoever_asked_in_whatever_order_they_come() {
    let pair = Pair::new();
    let all = (0..500).map(|number| {
        let said = format!("{} number {number}", (500 - number) / 5);
        let sent = pair.send(&said, LONG);
        async move { (sent.await, format!("2 Append 7 {said}")) }
    });
    for (answer, expected) in pair.runtime.block_on(join_all(all)) {
        assert_eq!(answer, Ok(Bytes::from(expected)));
    }
    assert!(pair.lines.exchanges_with(1));
}

#[test]
fn who_is_slow_holds_up_nobody_and_is_let_go_of() {
    let pair = Pair::new();
    let slow = pair.send("600000 slow", Duration::from_millis(300));
    let slow = pair.runtime.spawn(slow);
    until("it is under way", || {
        pair.parrot.under_way.load(Ordering::Acquire) > 0
    });
    let quick = pair.ask("0 quick");
    assert!(!slow.is_finished(), "the quick one was held up");
    let slow = pair.runtime.block_on(slow).expect("no panic");
    assert!(
        matches!(slow, Err(Undelivered::Late { to: 1, within }) if within == Duration::from_millis(300)),
        "{slow:?}"
    );
    assert_eq!(quick, Ok(Bytes::from_static(b"2 Append 7 0 quick")));
    until("the other end has let go of it too", || {
        pair.parrot.under_way.load(Ordering::Acquire) == 0
    });
}

#[test]
fn refusals_say_why() {
    let pair = Pair::new();
    assert_eq!(
        pair.ask("never"),
        Err(Undelivered::Refused {
            to: 1,
            reason: "not that".into()
        })
    );
    assert_eq!(
        pair.ask("later"),
        Err(Undelivered::Unreachable {
            to: 1,
            detail: "not now".into(),
            is_unsent: false
        })
    );
    // Long ones are called, past the exchange.
    let long = format!("0 {}", "x".repeat(100_000));
    assert_eq!(pair.ask(&long), Ok(Bytes::from(format!("2 Append 7 {long}"))));
    assert!(pair.lines.exchanges_with(1));
}

#[test]
fn a_node_that_goes_leaves_nobody_waiting_and_is_exchanged_with_again() {
    let mut pair = Pair::new();
    let (address, waiting) = (pair.address(), pair.send("600000 in vain", LONG * 30));
    let waiting = pair.runtime.spawn(waiting);
    until("it is under way", || {
        pair.parrot.under_way.load(Ordering::Acquire) > 0
    });
    drop(pair.port.take());
    until("it has ended", || waiting.is_finished());
    let ended = pair.runtime.block_on(waiting).expect("no panic");
    assert!(
        matches!(
            ended,
            Err(Undelivered::Unreachable {
                to: 1,
                is_unsent: false,
                ..
            })
        ),
        "{ended:?}"
    );
    // With nobody there a message is known not to have been sent.
    let unsent = pair.ask("0 nobody");
    assert!(
        matches!(unsent, Err(Undelivered::Unreachable { is_unsent: true, .. })),
        "{unsent:?}"
    );
    assert!(!pair.lines.exchanges_with(1));
    pair.open(address);
    pair.exchange();
    assert_eq!(pair.ask("0 again"), Ok(Bytes::from_static(b"2 Append 7 0 again")));
}
