//! `capacity`: what a twin takes in memory, and a million of them with passivation.

use gemba_twins::{
    id::{Kind, TenantId, TwinId},
    twin::Twin,
};

use super::{BenchArgs, Case, Stand, query, resident_bytes};

pub(super) async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Case>> {
    let twins = args.scaled(args.twins);
    let stand = Stand::start(args, |settings| settings.resident_twins = 10 * twins).await?;
    let before = resident_bytes();
    query::fill(&stand, twins, 1).await?;
    let after = resident_bytes();
    let id = TwinId::new(TenantId::parse("default")?, Kind::Machine, "m-0000001")?;
    let own = stand
        .node
        .twins()
        .with(&id, Twin::heap_bytes)?
        .unwrap_or_default();
    stand.stop().await;
    let machine = Case::new("machine_8_metrics")
        .with("bytes_per_twin", after.saturating_sub(before) / twins as u64)
        .with("bytes_of_its_state", own)
        .with("limit", "the aim")
        .with("limit_bytes", 4_096)
        .with("twins", twins);
    let million = args.scaled(1_000_000);
    let stand = Stand::start(args, |settings| settings.resident_twins = million / 10).await?;
    query::fill(&stand, million, 1).await?;
    let known = stand.node.twins().known();
    let case = Case::new("million")
        .with("twins", known)
        .with("resident_at_most", million / 10)
        .with("rss_bytes", resident_bytes());
    stand.stop().await;
    Ok(vec![machine, case])
}
