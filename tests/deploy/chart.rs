//! The chart, rendered by Helm's own code and checked against the schemas of Kubernetes; then each pod's settings as gemba
//! reads them. `helm install` is not tried: there is no cluster to install into.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{asked, certificates, deploy, in_force, is_understood, string, strings};

/// A key, and what else an operator may have written.
const CONFIG: &str = "[[key]]\nname = \"me\"\ntenant = \"acme\"\nrole = \"admin\"\nhash = \"sha256:\
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n\n[limits]\nmessages = 1000\n";

fn rendered(values: Value) -> Result<Vec<Value>, String> {
    let mut all = json!({"config": CONFIG});
    for (key, value) in values.as_object().expect("values") {
        all[key] = value.clone();
    }
    let chart = deploy("helm/gemba");
    let manifests = asked(&["chart", chart.to_str().expect("UTF-8"), &all.to_string()])?;
    Ok(manifests.as_array().expect("manifests").clone())
}

fn with(values: Value) -> Vec<Value> {
    rendered(values).unwrap_or_else(|problem| panic!("{problem}"))
}

fn only<'m>(manifests: &'m [Value], kind: &str, suffix: &str) -> &'m Value {
    let name = format!("works-gemba{suffix}");
    let mut found = manifests
        .iter()
        .filter(|manifest| manifest["kind"] == kind && manifest["metadata"]["name"] == name.as_str());
    let first = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two of {kind} {name}");
    first
}

/// Whether a selector picks what has these labels.
fn picks(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().expect("a selector");
    !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
}

/// The variables of a pod, as Kubernetes fills them in.
fn variables(pod: &str, container: &Value) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for entry in container["env"].as_array().expect("variables") {
        let name = string(entry, "/name").to_owned();
        let value = match entry
            .pointer("/valueFrom/fieldRef/fieldPath")
            .and_then(Value::as_str)
        {
            Some("metadata.name") => pod.to_owned(),
            // A label that a pod does not have is the empty text.
            Some(path) if path.starts_with("metadata.labels[") => String::new(),
            Some(path) => panic!("{name} comes from {path}, which this test does not know"),
            None => string(entry, "/value").replace("$(POD_NAME)", pod),
        };
        assert!(!value.contains("$("), "{name}={value} is filled in by nobody");
        assert!(
            variables.insert(name.clone(), value).is_none(),
            "{name} stands twice"
        );
    }
    variables
}

#[test]
fn each_pod_is_told_who_it_is_and_only_the_first_may_make_the_cluster() {
    let manifests = with(json!({"nodes": 5, "cluster": {"certificates": "gemba-certs"}}));
    let set = only(&manifests, "StatefulSet", "");
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let arguments = strings(&container["args"]);
    is_understood("the chart", &arguments);
    let folder = tempfile::tempdir().expect("a folder");
    let here = certificates(5);
    let headless = string(set, "/spec/serviceName");
    for ordinal in 0..5 {
        let pod = format!("works-gemba-{ordinal}");
        let file = folder.path().join(format!("{pod}.toml"));
        let secret = only(&manifests, "Secret", "-config");
        std::fs::write(&file, string(secret, &format!("/stringData/{pod}.toml"))).expect("written");
        let mut variables = variables(&pod, container);
        // gemba looks into the folder, which is mounted elsewhere here.
        let certs = variables.insert("GEMBA_CLUSTER__CERTS".into(), here.path().display().to_string());
        let settings = in_force(&variables, Some(&file));
        let settings = settings.unwrap_or_else(|problem| panic!("{pod}: {problem}"));
        let is = |key: &str, value: &str| {
            assert_eq!(settings.get(key).map(String::as_str), Some(value), "{pod}: {key}");
        };
        is("cluster.node", &(ordinal + 1).to_string());
        is("cluster.found", if ordinal == 0 { "true" } else { "false" });
        is("cluster.advertise", &format!("{pod}.{headless}.plant.svc:7600"));
        is("cluster.listen", "0.0.0.0:7600");
        is("limits.messages", "1000");
        let join: Vec<_> = settings["cluster.join"].split(',').collect();
        let first_three: Vec<_> = (0..3)
            .map(|node| format!("works-gemba-{node}.{headless}.plant.svc:7600"))
            .collect();
        assert_eq!(join, first_three, "{pod}");
        // Where settings say that things are, volumes are.
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        for folder in [
            certs.as_deref(),
            settings.get("node.data_dir").map(String::as_str),
        ] {
            let folder = folder.expect("a folder");
            assert!(
                mounts.iter().any(|mount| mount["mountPath"] == folder),
                "nothing is mounted at {folder}"
            );
        }
        for (key, port) in [
            ("http.address", "http"),
            ("mqtt.address", "mqtt"),
            ("cluster.listen", "cluster"),
        ] {
            let number: u16 = settings[key]
                .rsplit(':')
                .next()
                .and_then(|port| port.parse().ok())
                .expect("a port");
            let ports = container["ports"].as_array().expect("ports");
            let declared = ports
                .iter()
                .find(|declared| declared["name"] == port)
                .expect(port);
            assert_eq!(declared["containerPort"], number, "{key}");
        }
    }
    assert!(
        mounts_config_by_pod(container),
        "each pod has to see its own file"
    );
}

fn mounts_config_by_pod(container: &Value) -> bool {
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    mounts.iter().any(|mount| {
        mount["mountPath"] == "/etc/gemba/gemba.toml" && mount["subPathExpr"] == "$(POD_NAME).toml"
    })
}

#[test]
fn selectors_find_the_pods_and_the_budget_keeps_a_majority() {
    let manifests = with(json!({"monitoring": {"enabled": true}, "ingress": {"enabled": true}}));
    let set = only(&manifests, "StatefulSet", "");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert!(picks(&set["spec"]["selector"]["matchLabels"], labels));
    for (kind, suffix, selector) in [
        ("Service", "", "/spec/selector"),
        ("Service", "-cluster", "/spec/selector"),
        ("PodDisruptionBudget", "", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "", "/spec/podSelector/matchLabels"),
    ] {
        let manifest = only(&manifests, kind, suffix);
        assert!(
            picks(manifest.pointer(selector).expect(selector), labels),
            "{kind}{suffix} picks no pod"
        );
    }
    let nodes = set["spec"]["replicas"].as_u64().expect("a number");
    let away = only(&manifests, "PodDisruptionBudget", "")["spec"]["maxUnavailable"]
        .as_u64()
        .expect("a number");
    assert!(
        away >= 1 && nodes - away > nodes / 2,
        "{away} of {nodes} away leave no majority"
    );

    let headless = only(&manifests, "Service", "-cluster");
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(
        headless["spec"]["publishNotReadyAddresses"], true,
        "nodes have to meet before they are ready"
    );
    assert_eq!(set["spec"]["serviceName"], headless["metadata"]["name"]);
    assert_eq!(
        set["spec"]["podManagementPolicy"], "Parallel",
        "after a power cut one node alone is never ready"
    );

    // The port between nodes is in no Service for clients, and the policy opens it to nodes only.
    let service = only(&manifests, "Service", "");
    let ports = container_ports(set);
    for port in service["spec"]["ports"].as_array().expect("ports") {
        let target = string(port, "/targetPort");
        assert!(ports.contains(target) && target != "cluster", "{target}");
    }
    let policy = only(&manifests, "NetworkPolicy", "");
    for rule in policy["spec"]["ingress"].as_array().expect("rules") {
        let opens = rule["ports"]
            .as_array()
            .expect("ports")
            .iter()
            .any(|port| port["port"] == "cluster");
        let from = rule.pointer("/from/0/podSelector/matchLabels");
        assert!(!opens || from.is_some_and(|from| picks(from, labels)), "{rule}");
    }
    let backend = only(&manifests, "Ingress", "")
        .pointer("/spec/rules/0/http/paths/0/backend/service")
        .expect("a backend");
    assert_eq!(backend["name"], service["metadata"]["name"]);

    // Prometheus's operator finds the same, and has the same rules.
    let monitor = only(&manifests, "ServiceMonitor", "");
    assert!(picks(
        &monitor["spec"]["selector"]["matchLabels"],
        &service["metadata"]["labels"]
    ));
    assert_eq!(
        only(&manifests, "PrometheusRule", "")["spec"]["groups"],
        super::yaml(&deploy("alerts.yml"))["groups"]
    );
}

fn container_ports(set: &Value) -> BTreeSet<&str> {
    let ports = &set["spec"]["template"]["spec"]["containers"][0]["ports"];
    ports
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| string(port, "/name"))
        .collect()
}

#[test]
fn a_pod_may_do_little_and_has_time_to_hand_over() {
    for (values, scheme) in [
        (json!({}), "HTTP"),
        (json!({"tls": {"secret": "gemba-tls"}}), "HTTPS"),
    ] {
        let manifests = with(values);
        let set = only(&manifests, "StatefulSet", "");
        let pod = &set["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(
            container["securityContext"]["capabilities"]["drop"],
            json!(["ALL"])
        );
        assert!(pod["terminationGracePeriodSeconds"].as_u64().expect("a number") >= 60);
        let paths = [
            ("startupProbe", "/livez"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ];
        for (probe, path) in paths {
            let asked = &container[probe]["httpGet"];
            assert_eq!(asked["path"], path, "{probe}");
            assert_eq!(asked["scheme"], scheme, "{probe}");
            assert!(container_ports(set).contains(string(asked, "/port")), "{probe}");
        }
        // Every mount has its volume, every volume its use.
        let mut volumes: BTreeSet<&str> = pod["volumes"]
            .as_array()
            .expect("volumes")
            .iter()
            .map(|volume| string(volume, "/name"))
            .collect();
        volumes.insert(string(set, "/spec/volumeClaimTemplates/0/metadata/name"));
        let mounted: BTreeSet<&str> = container["volumeMounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .map(|mount| string(mount, "/name"))
            .collect();
        assert_eq!(volumes, mounted);
    }
}

#[test]
fn growing_beyond_three_restarts_nobody_and_other_settings_do() {
    let template = |values: Value| only(&with(values), "StatefulSet", "")["spec"]["template"].clone();
    assert_eq!(template(json!({"nodes": 3})), template(json!({"nodes": 5})));
    let other = CONFIG.replace("1000", "2000");
    assert_ne!(template(json!({})), template(json!({"config": other})));
}

#[test]
fn values_that_cannot_work_are_refused_with_the_reason() {
    let cluster = |rest: Value| {
        let mut cluster = json!({"certificates": "gemba-certs"});
        for (key, value) in rest.as_object().expect("values") {
            cluster[key] = value.clone();
        }
        json!({"cluster": cluster})
    };
    for (values, reason) in [
        (json!({"config": ""}), "[[key]]"),
        (
            json!({"config": "[[key]]\nname = \"me\"\n[cluster]\ncopies = 5\n"}),
            "[cluster]",
        ),
        (json!({"nodes": 2}), "/nodes"),
        (json!({"nodes": "three"}), "/nodes"),
        (json!({"replicas": 3}), "replicas"),
        (json!({"storage": {"size": "lots"}}), "/storage/size"),
        (cluster(json!({"zones": ["a", "b"]})), "cluster.zones"),
        (cluster(json!({"certificates": ""})), "/cluster/certificates"),
    ] {
        let refused = rendered(values.clone()).expect_err(&values.to_string());
        assert!(refused.contains(reason), "{values}: {refused}");
    }
    // As many zones as nodes are fine, and each node gets its own.
    let manifests = with(cluster(json!({"zones": ["a", "b", "c"]})));
    let secret = only(&manifests, "Secret", "-config");
    for (ordinal, zone) in ["a", "b", "c"].iter().enumerate() {
        let file = string(secret, &format!("/stringData/works-gemba-{ordinal}.toml"));
        assert!(file.contains(&format!("zone = \"{zone}\"")), "{file}");
    }
}
