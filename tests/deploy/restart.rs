//! `rolling-restart.sh` against nodes that are told what to say: it goes on only while the cluster is whole. With nodes that
//! are real it is called in `rolling.rs`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use super::{deploy, said_by, said_well_by};

/// Three nodes that answer what stands in their files `ready` and `metrics`.
struct Told {
    folder: tempfile::TempDir,
    nodes: Vec<String>,
}

impl Told {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut nodes = Vec::new();
        for name in ["a", "b", "c"] {
            let own = folder.path().join(name);
            fs::create_dir(&own).expect("made");
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            nodes.push(format!(
                "{name}=http://{}",
                listener.local_addr().expect("its address")
            ));
            std::thread::spawn(move || answer(&listener, &own));
        }
        let told = Self { folder, nodes };
        for name in ["a", "b", "c"] {
            told.says(name, true, 1, 0);
        }
        told
    }

    fn path(&self, node: &str) -> PathBuf {
        self.folder.path().join(node)
    }

    fn says(&self, node: &str, ready: bool, quorum: u8, lag: u32) {
        let metrics = format!(
            "# TYPE cluster_has_quorum gauge\ncluster_has_quorum {quorum}\n\
             cluster_shard_lag_entries{{shard=\"0\"}} 3\ncluster_shard_lag_entries{{shard=\"1\"}} {lag}\n"
        );
        fs::write(self.path(node).join("metrics"), metrics).expect("written");
        fs::write(self.path(node).join("ready"), if ready { "200" } else { "503" }).expect("written");
    }

    /// The script with a restart that notes whom it restarted, and does more.
    fn restart(&self, more: &str, wait_s: u32) -> Command {
        let mut script = Command::new(deploy("rolling-restart.sh"));
        script
            .args(["--restart", &format!("echo $NODE >>restarted; {more}")])
            .args(["--wait", &wait_s.to_string(), "--pause", "0.05"])
            .args(&self.nodes)
            .current_dir(self.folder.path());
        script
    }

    fn restarted(&self) -> String {
        fs::read_to_string(self.folder.path().join("restarted"))
            .unwrap_or_default()
            .replace('\n', " ")
    }
}

fn answer(listener: &TcpListener, folder: &Path) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        let asked = lines.next().and_then(Result::ok).unwrap_or_default();
        while lines
            .next()
            .and_then(Result::ok)
            .is_some_and(|line| !line.is_empty())
        {}
        let read = |name: &str| {
            fs::read_to_string(folder.join(name))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let (status, body) = match asked.split(' ').nth(1) {
            Some("/readyz") => (read("ready"), String::new()),
            Some("/metrics") => ("200".into(), read("metrics")),
            _ => ("404".into(), String::new()),
        };
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        // Whoever asked may be gone.
        let _ = stream.write_all(answer.as_bytes());
    }
}

#[test]
fn a_whole_cluster_is_restarted_node_by_node() {
    let told = Told::new();
    // While a node restarts it is not ready; a moment later it is.
    let more = "echo 503 >$NODE/ready; (sleep 0.3; echo 200 >$NODE/ready) & \
                for other in a b c; do [ $other = $NODE ] || [ \"$(cat $other/ready)\" = 200 ] || echo two >>twice; done";
    said_well_by(&mut told.restart(more, 30));
    assert_eq!(told.restarted(), "a b c ");
    assert!(!told.path("twice").exists(), "two nodes were away at a time");
}

#[test]
fn it_stops_where_the_cluster_does_not_become_whole() {
    // What a restart of b leaves behind, and what the script says of it.
    let cases = [
        ("echo 503 >b/ready", "b is not ready"),
        (
            "sed -i 's/quorum 1/quorum 0/' c/metrics",
            "c knows shards without an owner",
        ),
        (
            "sed -i 's/} 0$/} 5000/' a/metrics",
            "a copy of a shard of a is 5000 entries behind",
        ),
        (": >c/metrics", "c knows shards without an owner"),
        ("exit 7", "the restart of b failed"),
    ];
    std::thread::scope(|scope| {
        for (then, reason) in cases {
            scope.spawn(move || {
                let told = Told::new();
                let problem =
                    said_by(&mut told.restart(&format!("[ $NODE = a ] || {then}"), 1)).expect_err(reason);
                assert!(problem.contains(reason), "{problem}");
                assert_eq!(told.restarted(), "a b ", "{reason}: c was touched");
            });
        }
    });
    // And before the first.
    let told = Told::new();
    told.says("c", false, 1, 0);
    said_by(&mut told.restart("", 1)).expect_err("c is not ready");
    assert_eq!(told.restarted(), "");
}

#[test]
fn it_waits_until_copies_have_caught_up() {
    let told = Told::new();
    let more = "[ $NODE = c ] || { sed -i 's/} 0$/} 5000/' c/metrics; (sleep 0.5; date +%s.%N >caught; sed -i 's/} 5000$/} 0/' c/metrics) & }";
    said_well_by(&mut told.restart(&format!("date +%s.%N >$NODE/at; {more}"), 30));
    let at = |path: PathBuf| {
        fs::read_to_string(path)
            .expect("a time")
            .trim()
            .parse::<f64>()
            .expect("seconds")
    };
    assert_eq!(told.restarted(), "a b c ");
    assert!(
        at(told.path("c").join("at")) > at(told.path("caught")),
        "c was restarted too early"
    );
}

#[test]
fn shellcheck_finds_nothing_and_the_help_is_its_head() {
    let scripts = ["rolling-restart.sh", "compose/setup.sh"].map(deploy);
    said_well_by(Command::new("shellcheck").args(&scripts));
    let help = said_well_by(Command::new(&scripts[0]).arg("--help"));
    for option in ["--restart", "--wait", "--lag", "--pause"] {
        assert!(help.contains(option), "{option}");
    }
    for wrong in [
        vec![],
        vec!["--restart"],
        vec!["--bogus", "x"],
        vec!["a=http://a"],
    ] {
        let status = Command::new(&scripts[0])
            .args(&wrong)
            .output()
            .expect("it runs")
            .status;
        assert_eq!(status.code(), Some(2), "{wrong:?}");
    }
}
