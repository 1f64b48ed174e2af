//! A node with a listener, in a folder of its own.

use std::{net::SocketAddr, sync::Arc};

use gemba_runtime::{
    clock,
    keyring::{KeyEntry, Keyring, Role, hash_token},
    mqtt::{KpiSource, Listener, ListenerSettings, serve},
    node::{Node, SourceCounts},
    settings::NodeSettings,
};
use gemba_twins::id::{TenantId, TwinId};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

/// A running node and its listener.
pub(crate) struct Site {
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    listener: Listener,
    pub(crate) shutdown: watch::Sender<bool>,
    folder: TempDir,
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a tenant")
}

/// Two tenants: acme with a device and a viewer, globex with a device. Each token is its key's name and `-token`.
pub(crate) fn keys() -> Keyring {
    let entry = |name: &str, owner: &str, role| KeyEntry {
        name: name.into(),
        tenant: tenant(owner),
        role,
        hash: hash_token(&format!("{name}-token")),
    };
    let entries = vec![
        entry("edge", "acme", Role::Device),
        entry("wall", "acme", Role::Viewer),
        entry("far", "globex", Role::Device),
    ];
    Keyring::new(entries).expect("a keyring")
}

impl Site {
    /// Without keys: everybody is tenant `acme`.
    pub(crate) async fn open() -> Self {
        Self::with(Keyring::open(tenant("acme")), |_| {}).await
    }

    pub(crate) async fn with(keyring: Keyring, change: impl FnOnce(&mut ListenerSettings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = NodeSettings::new(folder.path().join("data"));
        settings.shards = 4;
        let node = Node::start(settings).await.expect("a node");
        let mut settings = ListenerSettings::new(([127, 0, 0, 1], 0).into());
        change(&mut settings);
        let (shutdown, told) = watch::channel(false);
        let kpis = KpiSource {
            hub: node.hub().clone(),
            twins: node.twins().clone(),
        };
        let listener = serve(settings, node.ingest().clone(), kpis, Arc::new(keyring), told)
            .await
            .expect("a listener");
        Self {
            node,
            address: listener.address,
            listener,
            shutdown,
            folder,
        }
    }

    /// What a field of a twin is, by its path in the twin's JSON.
    pub(crate) fn field(&self, owner: &str, kind: &str, id: &str, path: &str) -> Option<Value> {
        let id = TwinId::parse(tenant(owner), &format!("{kind}/{id}")).expect("a twin id");
        let now = clock::now();
        let json = self
            .node
            .twins()
            .with(&id, |twin| serde_json::to_value(twin.view(now)).expect("JSON"));
        json.expect("the store")
            .and_then(|json| json.pointer(path).cloned())
    }

    /// The newest value of a machine's metric, of tenant `acme`.
    pub(crate) fn metric(&self, machine: &str, metric: &str) -> Option<f64> {
        self.field(
            "acme",
            "machine",
            machine,
            &format!("/state/metrics/{metric}/value"),
        )?
        .as_f64()
    }

    /// The counts of a source; they add up, or this fails.
    pub(crate) fn counts(&self, owner: &str, source: &str) -> SourceCounts {
        let counts = self
            .node
            .counts(&tenant(owner))
            .into_iter()
            .find(|counts| &*counts.source == source);
        let counts = counts.unwrap_or_else(|| panic!("nothing came by {source}"));
        let ended = counts.applied + counts.duplicate + counts.late + counts.rejected;
        assert_eq!(counts.received, ended + counts.in_flight, "{counts:?}");
        counts
    }

    /// The codes of the rejected messages that are kept.
    pub(crate) async fn rejected(&self, owner: &str) -> Vec<String> {
        let (items, _) = self
            .node
            .rejected(&tenant(owner), None, 1_000)
            .await
            .expect("rejected messages");
        items.into_iter().map(|item| item.code.to_string()).collect()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.send(true).expect("somebody listens");
        super::within("the listener's end", self.listener.ended()).await;
        self.node.stop().await;
        drop(self.folder);
    }
}
