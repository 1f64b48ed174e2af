//! What a cluster's nodes make of a damaged disk, and of strangers at their door.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use support::{
    Node,
    cluster::{hashes, seats, wait_until_settled},
    command::gemba,
    free_port, request, wait_until,
};

/// Flips a bit within a text wherever it stands in the segment files of a folder; answers how often it did.
fn damage(data: &Path, text: &str) -> usize {
    let mut flipped = 0;
    for file in std::fs::read_dir(data.join("journal")).expect("a folder") {
        let path = file.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("a segment");
        let places: Vec<usize> = bytes
            .windows(text.len())
            .enumerate()
            .filter_map(|(at, window)| (window == text.as_bytes()).then_some(at))
            .collect();
        flipped += places.len();
        for at in places {
            bytes[at + text.len() / 2] ^= 0x10;
        }
        std::fs::write(&path, bytes).expect("written");
    }
    flipped
}

#[test]
fn a_node_with_a_damaged_frame_heals_from_its_peers_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let seats = seats(folder.path(), 3);
    let mut nodes: Vec<Node> = seats.iter().map(|seat| seat.start()).collect();
    wait_until_settled(&nodes[0], 3);
    for number in 0..60 {
        let reading = json!({"sensor_id": "m-1", "message_id": format!("to-be-damaged-{number:04}"), "metrics": {"number": number}});
        wait_until("a reading is taken", || {
            let (status, _) =
                nodes[0].post("/v1/readings", "application/json", reading.to_string().as_bytes());
            (status == 200).then_some(())
        });
    }
    wait_until("all replicas are alike", || {
        let all: Vec<_> = nodes.iter().map(hashes).collect();
        (all[0] == all[1] && all[1] == all[2]).then_some(())
    });
    // A node that is killed has no snapshot of it, so that it reads the frame again.
    nodes.remove(1).kill();
    assert!(
        damage(seats[1].data(), "to-be-damaged-0030") > 0,
        "nothing to damage"
    );
    let log = folder.path().join("log");
    let healed = seats[1].start_logging(&log);
    nodes.insert(1, healed);
    wait_until_settled(&nodes[0], 3);
    wait_until("all replicas are alike again", || {
        let all: Vec<_> = nodes.iter().map(hashes).collect();
        (all[0].len() == 16 && all[0] == all[1] && all[1] == all[2]).then_some(())
    });
    let said = std::fs::read_to_string(&log).expect("a log");
    for words in [
        "a replica is damaged; it is replaced from the others",
        "a damaged replica begins anew",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert_eq!(
        nodes[1].get("/v1/twins/machine/m-1")["state"]["metrics"]["number"]["value"],
        json!(59.0)
    );
    // What is on its disk now is whole.
    assert!(nodes.remove(1).stop());
    let checked = gemba(&["verify", "--data-dir", &seats[1].data().display().to_string()]);
    assert_eq!(checked.status, 0, "{} {}", checked.out, checked.err);
}

/// Runs a node that must not become a member to its end, and answers what it said.
fn stranger(data: &Path, certs: &Path, number: &str, member: &str) -> String {
    let at = || format!("127.0.0.1:{}", free_port());
    let (http, listen) = (at(), at());
    let output = Command::new(env!("CARGO_BIN_EXE_gemba"))
        .args([
            "serve",
            "--mqtt",
            "off",
            "--http",
            &http,
            "--cluster-listen",
            &listen,
            "--cluster-node",
            number,
        ])
        .args(["--join", member, "--data-dir"])
        .arg(data)
        .arg("--cluster-certs")
        .arg(certs)
        .stdin(Stdio::null())
        .output()
        .expect("gemba runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Connections that a node's cluster port has refused.
fn refused_by(node: &Node) -> f64 {
    let (_, text) = request(node.http, "GET", "/metrics", &[], b"");
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("cluster_connections_refused "));
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[test]
fn strangers_are_told_why_and_silent_ones_harm_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let seats = seats(folder.path(), 2);
    let nodes: Vec<Node> = seats.iter().map(|seat| seat.start()).collect();
    wait_until_settled(&nodes[0], 2);
    let member = format!("127.0.0.1:{}", seats[0].port);
    for (cluster, name) in [("plant", "another-authority"), ("other", "another-cluster")] {
        let certs = folder.path().join(name);
        let made = gemba(&[
            "certs",
            "--cluster",
            cluster,
            "--node",
            "3",
            "--out",
            &certs.display().to_string(),
        ]);
        assert_eq!(made.status, 0, "{}", made.err);
        let said = stranger(&folder.path().join(format!("{name}-data")), &certs, "3", &member);
        assert!(
            said.contains("certificate") && said.contains(&member),
            "{name}: {said}"
        );
        assert!(
            said.contains("are both certificates of this cluster's authority?"),
            "{name}: {said}"
        );
    }
    let silent: Vec<TcpStream> = (0..500)
        .map(|_| TcpStream::connect(("127.0.0.1", seats[0].port)).expect("connected"))
        .collect();
    for number in 0..20 {
        let reading = json!({"sensor_id": format!("m-{number}"), "metrics": {"a": 1}}).to_string();
        wait_until("a reading is taken", || {
            let (status, _) = nodes[1].post("/v1/readings", "application/json", reading.as_bytes());
            (status == 200).then_some(())
        });
    }
    for node in &nodes {
        assert_eq!(node.get("/v1/cluster")["has_quorum"], true);
    }
    wait_until("most of them were refused", || {
        (refused_by(&nodes[0]) >= 400.0).then_some(())
    });
    drop(silent);
}
