//! What a node is asked to change: attributes of a twin, a tenant's plant model.
//!
//! Promises: a command is carried out when it returns: durable and visible; what is too long is refused before it
//! reaches a shard. Knows nothing of who may ask.

use std::sync::Arc;

use gemba_cluster::RECORD_MAX;
use gemba_twins::id::{TenantId, TwinId};
use tokio::sync::oneshot;

use super::{AppliedPlant, CommandError, Node};
use crate::{
    decode::Rejection,
    plant::PlantModel,
    shard::{Command, CommandKind, ShardMsg, router::control_number},
};

/// The longest text of a plant model: with tenant, author and time it has to fit into one record of the journal.
const PLANT_TEXT_MAX: usize = RECORD_MAX - 4_096;
/// The longest merge patch of attributes.
const PATCH_TEXT_MAX: usize = 32_768;

impl Node {
    /// Sets attributes by a JSON merge patch (RFC 7396) as text; `if_rev` makes it conditional. Answers the twin's
    /// new revision.
    pub async fn set_attributes(
        &self,
        id: &TwinId,
        patch: &str,
        by: &str,
        if_rev: Option<u64>,
    ) -> Result<u64, CommandError> {
        refuse_long("attributes", "attributes.too_large", patch, PATCH_TEXT_MAX)?;
        let recovered = self.recovered(id).await;
        recovered.map_err(|error| CommandError::Unavailable(error.to_string()))?;
        let kind = CommandKind::SetAttributes {
            twin: id.clone(),
            patch: patch.into(),
            by: by.into(),
            if_rev,
        };
        self.command(self.inner.router.shard_of(id), id.tenant(), kind)
            .await
    }

    /// Applies a plant model; it is in force, and journaled for its twins, when this returns.
    pub async fn apply_plant(
        &self,
        tenant: &TenantId,
        model: PlantModel,
        by: &str,
    ) -> Result<Arc<AppliedPlant>, CommandError> {
        let text = model.text();
        refuse_long("plant model", "plant.too_large", &text, PLANT_TEXT_MAX)?;
        let kind = CommandKind::ApplyPlant {
            tenant: tenant.clone(),
            text: text.into(),
            by: by.into(),
        };
        self.command(control_number(), tenant, kind).await?;
        self.plant(tenant).ok_or(CommandError::NotFound)
    }

    pub(super) async fn command(
        &self,
        shard: u16,
        tenant: &TenantId,
        kind: CommandKind,
    ) -> Result<u64, CommandError> {
        let _permit = self
            .inner
            .gate
            .try_enter(tenant, 1, 4_096)
            .ok_or(CommandError::Busy)?;
        if let Some(cluster) = &self.inner.cluster {
            return cluster.command(shard, kind).await;
        }
        let (reply, answer) = oneshot::channel();
        self.inner
            .router
            .send(shard, ShardMsg::Command(Command { kind, reply }));
        answer
            .await
            .unwrap_or_else(|_| Err(CommandError::Unavailable("the node is stopping".into())))
    }
}

pub(super) fn refuse_long(
    what: &str,
    code: &'static str,
    text: &str,
    most: usize,
) -> Result<(), CommandError> {
    if text.len() <= most {
        return Ok(());
    }
    let detail = format!(
        "the {what} take up {} bytes, at most {most} are kept (shorten or split)",
        text.len()
    );
    Err(CommandError::Invalid(Rejection::new(code, detail)))
}
