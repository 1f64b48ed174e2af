//! Three nodes on one machine: read by Compose, prepared by `setup.sh` with the real gemba in place of Docker, and each
//! node's settings as gemba reads them. No container is started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{
    asked, deploy,
    image::settings_of_image,
    in_force, is_understood, said_by, said_well_by, string, strings,
    support::{Node, command, free_port, http::Request, wait_until},
    text, yaml,
};

/// Stands in for Docker: what would run in a container of the image runs here, and the volume is a folder.
const DOCKER: &str = r#"#!/bin/sh
echo "docker $*" >>"$LOG"
[ "$1" = run ] || exit 0
while [ "$1" != gemba:local ]; do shift; done
shift
for argument; do
  shift
  [ "$argument" != /etc/gemba/certs ] || argument=$CERTIFICATES
  set -- "$@" "$argument"
done
exec "$GEMBA" "$@"
"#;

/// A copy of `deploy/` in which `setup.sh` was called.
struct Prepared {
    folder: tempfile::TempDir,
}

impl Prepared {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        said_well_by(
            Command::new("cp")
                .args(["-a"])
                .arg(deploy(""))
                .arg(root.join("deploy")),
        );
        let bin = root.join("bin");
        fs::create_dir(&bin).expect("made");
        fs::write(bin.join("docker"), DOCKER).expect("written");
        fs::set_permissions(bin.join("docker"), fs::Permissions::from_mode(0o755)).expect("set");
        let prepared = Self { folder };
        for made in [
            "deploy/.env",
            "deploy/compose/gemba.toml",
            "deploy/compose/viewer.token",
        ] {
            // A developer may have called it.
            let _ = fs::remove_file(prepared.path(made));
        }
        said_well_by(&mut prepared.setup());
        prepared
    }

    fn setup(&self) -> Command {
        let path = std::env::var("PATH").expect("a path");
        let mut setup = Command::new(self.path("deploy/compose/setup.sh"));
        setup
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("GEMBA", env!("CARGO_BIN_EXE_gemba"))
            .env("CERTIFICATES", self.path("certificates"))
            .env("LOG", self.path("docker.log"))
            .env_remove("GEMBA_IMAGE");
        setup
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A variable of `.env`.
    fn variable(&self, name: &str) -> String {
        let all = text(&self.path("deploy/.env"));
        let line = all
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in .env")).to_owned()
    }
}

fn services(compose: &Value) -> BTreeMap<&str, &Value> {
    let services = compose["services"].as_object().expect("services");
    services
        .iter()
        .map(|(name, service)| (name.as_str(), service))
        .collect()
}

/// The nodes among the services, by name.
fn nodes(compose: &Value) -> BTreeMap<&str, &Value> {
    let mut nodes = services(compose);
    nodes.retain(|name, _| name.starts_with("gemba-"));
    nodes
}

#[test]
fn setup_makes_all_that_compose_asks_for() {
    let prepared = Prepared::new();
    let file = prepared.path("deploy/compose.yaml");
    let config = |config: &mut Command| {
        said_by(
            config
                .arg("-f")
                .arg(&file)
                .args(["config", "-q"])
                .current_dir(prepared.path("deploy")),
        )
    };
    let has_plugin = Command::new("docker")
        .args(["compose", "version"])
        .output()
        .is_ok_and(|output| output.status.success());
    let compose = if has_plugin {
        config(Command::new("docker").arg("compose"))
    } else {
        config(&mut Command::new("docker-compose"))
    };
    compose.unwrap_or_else(|problem| panic!("{problem}"));
    asked(&["compose", file.to_str().expect("UTF-8")]).unwrap_or_else(|problem| panic!("{problem}"));
    // Files that a service reads are there now.
    let compose = yaml(&file);
    let mut read = 0;
    for (name, service) in services(&compose) {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume
                .as_str()
                .and_then(|volume| volume.split(':').next())
                .expect("a source");
            if source.starts_with('.') {
                assert!(
                    prepared.path("deploy").join(source).exists(),
                    "{name}: no {source}"
                );
                read += 1;
            } else {
                assert!(
                    compose["volumes"].get(source).is_some(),
                    "{name}: no volume {source}"
                );
            }
        }
    }
    assert!(read >= 8, "only {read} files are read");
    // A certificate for each node, and nobody else reads the tokens.
    for file in [
        "ca.crt",
        "node-1.crt",
        "node-1.key",
        "node-2.crt",
        "node-3.crt",
        "node-3.key",
    ] {
        assert!(prepared.path("certificates").join(file).exists(), "no {file}");
    }
    let mode = fs::metadata(prepared.path("deploy/.env"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        text(&prepared.path("deploy/compose/viewer.token")).trim(),
        prepared.variable("GEMBA_VIEWER_TOKEN")
    );
    // Called again it changes no key.
    let before = text(&prepared.path("deploy/.env"));
    let refused = said_by(&mut prepared.setup()).expect_err("keys are there");
    assert!(refused.contains("already"), "{refused}");
    assert_eq!(text(&prepared.path("deploy/.env")), before);
}

#[test]
fn the_keys_that_setup_makes_let_in_and_nothing_else_does() {
    let prepared = Prepared::new();
    let config = prepared.path("deploy/compose/gemba.toml");
    let node = Node::start(
        &prepared.path("data"),
        &["--config", config.to_str().expect("UTF-8")],
    );
    let status = |token: Option<&str>| {
        let mut asked = Request::new("GET", "/v1/twins");
        if let Some(token) = token {
            asked = asked.header("authorization", &format!("Bearer {token}"));
        }
        node.call(&asked).status
    };
    assert_eq!(status(None), 401);
    assert_eq!(status(Some("gemba_guessed")), 401);
    assert_eq!(status(Some(&prepared.variable("GEMBA_TOKEN"))), 200);
    assert_eq!(status(Some(&prepared.variable("GEMBA_VIEWER_TOKEN"))), 200);
    // What the image's health check asks needs no key.
    let url = format!("http://127.0.0.1:{}", node.http);
    let said = command::gemba(&["ready", "--url", &url]);
    assert_eq!((said.status, said.out.as_str()), (0, "ready\n"), "{}", said.err);
    let said = command::gemba(&["ready", "--url", &format!("http://127.0.0.1:{}", free_port())]);
    assert_eq!(said.status, 1, "{said:?}");
}

#[test]
fn each_node_is_told_who_it_is_and_only_the_first_may_make_the_cluster() {
    let prepared = Prepared::new();
    let compose = yaml(&deploy("compose.yaml"));
    let nodes = nodes(&compose);
    assert_eq!(nodes.len(), 3);
    let config = prepared.path("deploy/compose/gemba.toml");
    let image: BTreeMap<String, String> = settings_of_image();
    let mut folders = BTreeSet::new();
    for (index, (name, service)) in nodes.iter().enumerate() {
        let mut variables = image.clone();
        for (key, value) in service["environment"].as_object().expect("variables") {
            variables.insert(key.clone(), value.as_str().expect("a text").to_owned());
        }
        // gemba looks into the folder, which is a volume there.
        let here = prepared.path("certificates").display().to_string();
        let certs = variables
            .insert("GEMBA_CLUSTER__CERTS".into(), here)
            .expect("the image says where they are");
        let settings =
            in_force(&variables, Some(&config)).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(settings["cluster.node"], (index + 1).to_string(), "{name}");
        assert_eq!(settings["cluster.found"], (index == 0).to_string(), "{name}");
        assert_eq!(settings["cluster.advertise"], format!("{name}:7600"));
        let join: BTreeSet<_> = settings["cluster.join"].split(',').collect();
        let all: Vec<String> = nodes.keys().map(|name| format!("{name}:7600")).collect();
        assert_eq!(join, all.iter().map(String::as_str).collect(), "{name}");
        // Its own volume is where its data is.
        let data = format!(":{}", settings["node.data_dir"]);
        let volumes = strings(&service["volumes"]);
        let own = volumes.iter().find_map(|volume| volume.strip_suffix(&data));
        assert!(
            folders.insert(own.unwrap_or_else(|| panic!("{name}: nothing is kept"))),
            "{name}: shared data"
        );
        assert!(
            volumes
                .iter()
                .any(|volume| *volume == format!("certs:{certs}:ro"))
        );
        assert!(
            service["stop_grace_period"]
                .as_str()
                .is_some_and(|period| period == "60s"),
            "{name}"
        );
    }
}

#[test]
fn commands_are_understood_and_ports_are_for_this_machine_only() {
    let compose = yaml(&deploy("compose.yaml"));
    let (mut commands, mut ports) = (0, BTreeSet::new());
    for (name, service) in services(&compose) {
        let is_gemba = string(service, "/image").contains("gemba");
        if is_gemba {
            is_understood(name, &strings(&service["command"]));
            commands += 1;
            if let Some(check) = service.pointer("/healthcheck/test") {
                is_understood(name, &strings(check)[2..]);
            }
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().expect("a text");
            let own = port
                .strip_prefix("127.0.0.1:")
                .and_then(|rest| rest.split(':').next());
            let own = own.unwrap_or_else(|| panic!("{name}: {port} is open to the network"));
            assert!(ports.insert(own.to_owned()), "{name}: {port} is taken");
            assert!(
                !port.ends_with(":7600"),
                "{name}: the port between nodes is shown"
            );
        }
    }
    assert!(commands >= 4, "only {commands} commands");
    // What Prometheus asks and what nodes connect to are services.
    let services = services(&compose);
    let targets = yaml(&deploy("compose/prometheus.yaml"));
    for target in strings(&targets["scrape_configs"][0]["static_configs"][0]["targets"]) {
        assert!(
            services.contains_key(target.trim_end_matches(":8080")),
            "{target}"
        );
    }
    assert_eq!(
        targets["scrape_configs"][0]["job_name"], "gemba",
        "the alerts look for this job"
    );
    let settings = text(&deploy("compose/gemba.in.toml"));
    assert!(settings.contains("mqtt://mosquitto:1883") && services.contains_key("mosquitto"));
}

#[test]
fn grafana_is_given_what_its_provisioning_asks_for() {
    let compose = yaml(&deploy("compose.yaml"));
    let grafana = services(&compose)["grafana"];
    let sources = text(&deploy("grafana/provisioning/datasources/gemba.yaml"));
    let mut given = 0;
    for variable in sources.split('$').skip(1) {
        let name: String = variable
            .chars()
            .take_while(|c| c.is_ascii_uppercase() || *c == '_')
            .collect();
        assert!(grafana["environment"].get(&name).is_some(), "nobody sets {name}");
        given += 1;
    }
    assert!(given >= 3, "only {given} variables");
    let folders = yaml(&deploy("grafana/provisioning/dashboards/gemba.yaml"));
    let folder = string(&folders, "/providers/0/options/path");
    let mounted = format!("./grafana/dashboards:{folder}:ro");
    assert!(
        strings(&grafana["volumes"]).contains(&mounted.as_str()),
        "no dashboards at {folder}"
    );
    // Dashboards draw from sources that there are.
    let sources = yaml(&deploy("grafana/provisioning/datasources/gemba.yaml"));
    let uids: BTreeSet<&str> = sources["datasources"]
        .as_array()
        .expect("sources")
        .iter()
        .map(|source| string(source, "/uid"))
        .collect();
    for dashboard in ["cluster", "node", "machine", "plant"] {
        let drawn = text(&deploy(&format!("grafana/dashboards/{dashboard}.json")));
        let drawn: Value = serde_json::from_str(&drawn).expect("JSON");
        for panel in drawn["panels"].as_array().expect("panels") {
            if let Some(uid) = panel.pointer("/datasource/uid").and_then(Value::as_str) {
                assert!(uids.contains(uid), "{dashboard}: {uid} is no source");
            }
        }
    }
}

struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn mosquitto_takes_its_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let settings = text(&deploy("compose/mosquitto.conf"))
        .replace("listener 1883", &format!("listener {port} 127.0.0.1"))
        .replace("/mosquitto/data/", &format!("{}/", folder.path().display()));
    let file = folder.path().join("mosquitto.conf");
    fs::write(&file, settings).expect("written");
    let mut mosquitto = Command::new(if Path::new("/usr/sbin/mosquitto").exists() {
        "/usr/sbin/mosquitto"
    } else {
        "mosquitto"
    });
    let child = mosquitto
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut broker = Broker(child.expect("mosquitto starts"));
    wait_until("mosquitto listens", || {
        let ended = broker.0.try_wait().expect("its state");
        assert!(ended.is_none(), "mosquitto does not take its settings: {ended:?}");
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
}
