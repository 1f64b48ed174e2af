//! Who is let in at the cluster's port, and who is told why not.

use std::{io::Read, net::TcpStream, time::Duration};

use bytes::Bytes;
use gemba_cluster::{
    Courier, Errand, ShardId, Undelivered,
    net::{AddressBook, Authority, Lines},
};

use crate::node::{CLUSTER, NOW_MS, Site, credentials, until};

fn refused(node: &crate::node::Node, lines: &Lines) -> String {
    let address = node.address().to_string();
    let asked = lines.ask_at(&address, Errand::Hello, Bytes::new(), Duration::from_secs(3));
    node.run(asked).expect_err("refused").to_string()
}

#[test]
fn only_nodes_of_the_cluster_come_in() {
    let site = Site::new();
    let node = site.node(1);
    node.run(node.keeper.found(1, 3)).expect("founded");
    let book = AddressBook::default();
    let impostor = Authority::make(CLUSTER).expect("an authority");
    let strangers = [
        ("of another authority", credentials(&impostor, CLUSTER, 2)),
        (
            "of another cluster",
            credentials(&site.authority, "other-plant", 2),
        ),
    ];
    for (who, credentials) in strangers {
        let before = node.refused();
        let reason = refused(&node, &Lines::new(credentials, book.clone()));
        assert!(
            reason.contains("certificate") || reason.contains("reached"),
            "{who}: {reason}"
        );
        // A client that does not like the server ends the handshake itself, and the server counts that.
        until("the port has counted it", || node.refused() > before);
    }
    // The certificate is right, the hello is not.
    let lines = Lines::new(site.credentials(2), book.clone());
    let reason = refused(&node, &lines);
    assert!(reason.contains("refused"), "{reason}");
    // A wrong node at an address is found out by its certificate.
    book.set(7, node.address().to_string());
    let sent = lines.send(
        7,
        Errand::Hello,
        ShardId::MAP,
        Bytes::new(),
        Duration::from_secs(3),
    );
    let error = node.run(sent).expect_err("not node 7");
    assert!(
        matches!(error, Undelivered::Unreachable { is_unsent: true, .. })
            && error.to_string().contains("certificate"),
        "{error}"
    );
}

#[test]
fn a_release_that_is_too_old_is_told_so() {
    let site = Site::new();
    let node = site.node(1);
    node.run(node.keeper.found(1, 3)).expect("founded");
    let lines = Lines::speaking(site.credentials(2), AddressBook::default(), 0);
    let reason = refused(&node, &lines);
    assert!(
        reason.contains("protocol 0 is not spoken here") && reason.contains("upgrade the older node"),
        "{reason}"
    );
}

#[test]
fn a_node_whose_clock_is_an_hour_wrong_is_not_let_in() {
    let site = Site::new();
    let first = site.node(1);
    first.run(first.keeper.found(1, 3)).expect("founded");
    for (now_ms, said) in [
        (
            (|| NOW_MS + 3_600_000) as fn() -> i64,
            "3600 s ahead of that of node 1",
        ),
        (|| NOW_MS - 3_600_000, "3600 s behind that of node 1"),
    ] {
        let mut skewed = Site::new();
        skewed.authority = Authority::load(site.authority.certificate().into(), site.authority.key().into());
        skewed.now_ms = now_ms;
        let second = skewed.node(2);
        let address = first.address().to_string();
        let joined = second
            .keeper
            .join(&second.lines, &address, Duration::from_secs(5));
        let error = second.run(joined).expect_err("its clock is wrong").to_string();
        assert!(error.contains(said) && error.contains("NTP"), "{error}");
    }
}

#[test]
fn two_nodes_with_one_number_are_told_apart() {
    let site = Site::new();
    let first = site.node(1);
    first.run(first.keeper.found(1, 3)).expect("founded");
    let second = site.node(2);
    second.join(&first);
    let mut elsewhere = Site::new();
    elsewhere.authority = Authority::load(site.authority.certificate().into(), site.authority.key().into());
    let double = elsewhere.node(2);
    let address = first.address().to_string();
    let joined = double.run(
        double
            .keeper
            .join(&double.lines, &address, Duration::from_secs(5)),
    );
    let error = joined.expect_err("there is a node 2").to_string();
    assert!(error.contains("node 2 is a member already"), "{error}");
}

#[test]
fn another_nodes_folder_is_not_taken_up() {
    let site = Site::new();
    drop(site.node(1));
    let ballots = gemba_cluster::Ballots::open(&site.folder_of(1).join("raft.redb")).expect("ballots");
    for (cluster, node) in [(CLUSTER, 2), ("other", 1)] {
        let error = ballots.claim(cluster, node).expect_err("refused").to_string();
        assert!(
            error.contains("belongs to node 1 of cluster \"plant\""),
            "{error}"
        );
    }
    ballots.claim(CLUSTER, 1).expect("its own");
}

#[test]
fn five_hundred_silent_connections_harm_nobody() {
    let site = Site::new();
    let first = site.node(1);
    first.run(first.keeper.found(1, 3)).expect("founded");
    let silent: Vec<TcpStream> = (0..500)
        .map(|_| TcpStream::connect(first.address()).expect("connected"))
        .collect();
    let second = site.node(2);
    // Most of them are closed at once; the rest have their time, and then there is room.
    until("a node joins all the same", || {
        let address = first.address().to_string();
        let joined = second
            .keeper
            .join(&second.lines, &address, Duration::from_secs(2));
        second.run(joined).is_ok()
    });
    until("all silent ones are closed", || {
        silent.iter().all(|stream| {
            stream
                .set_read_timeout(Some(Duration::from_millis(1)))
                .expect("set");
            let mut byte = [0];
            matches!((&mut &*stream).read(&mut byte), Ok(0))
                || stream.peek(&mut byte).is_ok_and(|read| read == 0)
        })
    });
    assert!(first.refused() >= 500);
}
