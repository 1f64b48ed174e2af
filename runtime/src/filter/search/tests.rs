//! Lists over a plant of 40 machines in 4 shards, page by page.

use std::collections::BTreeSet;

use gemba_twins::event::Value as Measured;
use tempfile::TempDir;

use super::{
    super::tests::{machine, reads},
    *,
};
use crate::{
    store::Store,
    table::{Entry, TwinSlot},
};

const MACHINES: usize = 40;

struct Plant {
    twins: Arc<Twins>,
    _folder: TempDir,
}

impl Plant {
    /// Machine `m05` turns at 5 rpm; every fourth was never heard of.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("state.redb"), 4, 1 << 20).expect("a store");
        let twins = Twins::new(4, Arc::new(store));
        for number in 0..MACHINES {
            let rpm = ("spindle_rpm".into(), Measured::Number((number % 10) as f64));
            let bodies = if number % 4 == 3 {
                Vec::new()
            } else {
                vec![reads(vec![rpm])]
            };
            let twin = machine(&format!("m{number:02}"), bodies);
            let shard = twins.shard_of(twin.id());
            twins.tables[shard].put(twin.id().clone(), Entry::Resident(TwinSlot::new(twin, 0)));
        }
        Self {
            twins: Arc::new(twins),
            _folder: folder,
        }
    }

    /// All pages of a list.
    async fn list(&self, filter: &str, sort: Option<&str>, limit: usize) -> Vec<String> {
        let mut query = query(filter, sort, limit);
        let mut names = Vec::new();
        loop {
            let page = search(&self.twins, &query, |twin| twin.id().id().to_owned())
                .await
                .expect("a page");
            assert!(page.items.len() <= limit);
            assert!(
                page.cursor.is_none() || page.items.len() == limit,
                "only the last page is short"
            );
            names.extend(page.items);
            query.cursor = page.cursor;
            if query.cursor.is_none() {
                return names;
            }
        }
    }
}

fn query(filter: &str, sort: Option<&str>, limit: usize) -> Query {
    Query {
        tenant: TenantId::parse("acme").expect("a tenant"),
        kind: None,
        filter: (!filter.is_empty()).then(|| Filter::compile(filter).expect("a filter")),
        sort: sort.map(str::to_owned),
        limit,
        cursor: None,
        now: "2026-11-23T08:00:00Z".parse().expect("a time"),
    }
}

#[tokio::test]
async fn pages_hold_each_twin_once_in_order() {
    let plant = Plant::new();
    let all: Vec<String> = (0..MACHINES).map(|number| format!("m{number:02}")).collect();
    for limit in [1, 7, 20, 40, 1_000] {
        assert_eq!(plant.list("", None, limit).await, all);
        assert_eq!(plant.list("kind == 'machine'", None, limit).await, all);
        assert_eq!(plant.list("kind == 'job'", None, limit).await, [""; 0]);
        let some = plant
            .list("state.metrics.spindle_rpm.value == 5", None, limit)
            .await;
        assert_eq!(some, ["m05", "m25"]);
    }
}

#[tokio::test]
async fn what_has_no_such_field_comes_last_whichever_way() {
    let plant = Plant::new();
    for limit in [3, 11, 100] {
        let rising = plant
            .list("", Some("state.metrics.spindle_rpm.value"), limit)
            .await;
        assert_eq!(rising[..5], ["m00", "m10", "m20", "m30", "m01"]);
        let falling = plant
            .list("", Some("-state.metrics.spindle_rpm.value"), limit)
            .await;
        assert_eq!(falling[..5], ["m09", "m29", "m08", "m18", "m28"]);
        for list in [&rising, &falling] {
            assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), MACHINES);
            assert_eq!(list[30..33], ["m03", "m07", "m11"]);
        }
    }
}

#[tokio::test]
async fn a_cursor_fits_only_its_own_list() {
    let plant = Plant::new();
    let first = query("", Some("rev"), 5);
    let page = search(&plant.twins, &first, |_| ()).await.expect("a page");
    for (filter, sort) in [("", None), ("", Some("-rev")), ("kind == 'machine'", Some("rev"))] {
        let other = Query {
            cursor: page.cursor.clone(),
            ..query(filter, sort, 5)
        };
        assert!(matches!(
            search(&plant.twins, &other, |_| ()).await,
            Err(SearchError::Cursor)
        ));
    }
    for garbage in ["", "x", "e30", "!!!", &"A".repeat(10_000)] {
        let other = Query {
            cursor: Some(garbage.to_owned()),
            ..query("", None, 5)
        };
        assert!(
            matches!(
                search(&plant.twins, &other, |_| ()).await,
                Err(SearchError::Cursor)
            ),
            "{garbage}"
        );
    }
    for sort in ["", "-", "a..b", "a.b.c.d.e.f.g.h.i"] {
        let unsorted = query("", Some(sort), 5);
        assert!(
            matches!(
                search(&plant.twins, &unsorted, |_| ()).await,
                Err(SearchError::Sort(_))
            ),
            "{sort}"
        );
    }
}
