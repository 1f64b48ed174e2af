//! Connectors that run on one node of a cluster at a time: whose broker does not share, and whose device is asked.
//!
//! Promises: the owner of the control shard holds them, so there is one holder at a time but for a moment after a node
//! froze; what it took and did not acknowledge, the next holder is sent again. On a node that is alone they simply run.

use std::future::Future;

use gemba_runtime::{mqtt::BrokerSettings, node::Node};
use tokio::sync::watch;

/// Runs `work` whenever this node is the holder, until `told` turns true. `work` ends when what it is given turns true.
pub(super) async fn held<W: Future<Output = ()>>(
    node: &Node,
    mut told: watch::Receiver<bool>,
    work: impl Fn(watch::Receiver<bool>) -> W,
) {
    let mut holds = node.holds();
    loop {
        tokio::select! {
            // The node lives as long as its connectors.
            _ = holds.wait_for(|holds| *holds) => {}
            _ = told.wait_for(|stop| *stop) => return,
        }
        let (stop, stopped) = watch::channel(false);
        let mut working = std::pin::pin!(work(stopped));
        tokio::select! {
            () = &mut working => return,
            _ = holds.wait_for(|holds| !holds) => {}
            _ = told.wait_for(|stop| *stop) => {}
        }
        stop.send_replace(true);
        working.await;
        if *told.borrow() {
            return;
        }
    }
}

/// A broker's settings on this node of a cluster, where its subscriptions are shared among all nodes: a session of each
/// node's own. `None` where they are not, and one node has to hold them.
pub(super) fn shared(settings: &BrokerSettings, node: &Node) -> Option<BrokerSettings> {
    let number = node.number()?;
    let is_shared = settings
        .subscriptions
        .iter()
        .all(|subscription| subscription.topic.starts_with("$share/"));
    is_shared.then(|| BrokerSettings {
        client_id: format!("{}-node-{number}", settings.client_id),
        ..settings.clone()
    })
}
