//! Calls about saved dashboards.

use std::sync::Arc;

use gemba_twins::id::TenantId;

use super::{CommandError, Node, commands::refuse_long};
use crate::{
    dashboards::{CONTENT_MAX, Dashboard, PutDashboard},
    decode::Rejection,
    shard::{CommandKind, router::control_number},
};

impl Node {
    /// The dashboards of a tenant, by their ids.
    #[must_use]
    pub fn dashboards(&self, tenant: &TenantId) -> Vec<Arc<Dashboard>> {
        self.inner.plants.dashboards.of_tenant(tenant)
    }

    /// One dashboard.
    #[must_use]
    pub fn dashboard(&self, tenant: &TenantId, id: &str) -> Option<Arc<Dashboard>> {
        self.inner.plants.dashboards.get(tenant, id)
    }

    /// Saves a dashboard's JSON; `if_version` makes it conditional, 0 for one that is not there yet.
    pub async fn put_dashboard(
        &self,
        tenant: &TenantId,
        id: &str,
        by: &str,
        content: &str,
        if_version: Option<u64>,
    ) -> Result<u64, CommandError> {
        refuse_long("dashboard", "dashboard.too_large", content, CONTENT_MAX)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
            let detail = format!("{id:?} is not an id of a dashboard (1 to 64 letters, digits, - _ .)");
            return Err(CommandError::Invalid(Rejection::new(
                "dashboard.id_invalid",
                detail,
            )));
        }
        let wish = PutDashboard {
            tenant: tenant.clone(),
            id: id.into(),
            by: by.into(),
            content: content.into(),
            if_version,
        };
        self.command(
            control_number(),
            tenant,
            CommandKind::PutDashboard(Box::new(wish)),
        )
        .await
    }

    /// Removes a dashboard.
    pub async fn remove_dashboard(
        &self,
        tenant: &TenantId,
        id: &str,
        by: &str,
        if_version: Option<u64>,
    ) -> Result<u64, CommandError> {
        self.put_dashboard(tenant, id, by, "", if_version).await
    }
}
