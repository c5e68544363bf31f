//! Each part of the service by name, as `/readyz?verbose` shows it, and whether one of them keeps traffic away.
//!
//! Nothing is probed for it but the user state, which readiness reads in any case. `failing` is what another
//! replica may do better: a stop that was asked for, user state that cannot be read. What only bends answers (a tier
//! stepped down, items or a stream behind) is `degraded` and leaves the service ready: taking every replica away for it
//! would end what still works.

use crate::serving::Serving;
use crate::stream::StreamStatus;
use crate::tiers::Tier;
use serde::Serialize;

/// What is said once a stop was asked for.
pub(crate) const STOPPING: &str = "the service is stopping; send requests to another one";

/// How a part is doing. Only `failing` makes the service unready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckStatus {
    Ok,
    Degraded,
    Failing,
}

/// The parts of the service.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct Checks {
    draining: DrainingCheck,
    bundle: BundleCheck,
    user_state: UserStateCheck,
    item_changes: ItemChangesCheck,
    tiers: TiersCheck,
    /// Of a service with a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamCheck>,
}

/// Whether a stop was asked for.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct DrainingCheck {
    status: CheckStatus,
    /// What is failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// The Bundle that is served. It is verified before it is, so this check does not fail.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct BundleCheck {
    status: CheckStatus,
    bundle_id: String,
    /// Trained dims, ascending.
    dims: Vec<usize>,
    /// Items that it was trained on.
    items: usize,
    /// When it was read from its folder, in milliseconds since the Unix epoch.
    loaded_ms: i64,
}

/// Whether users' histories can be read.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct UserStateCheck {
    status: CheckStatus,
    /// `folder`, which this process has alone, or `server`, which several share.
    kind: &'static str,
    /// Users with state; null where they cannot be read.
    users: Option<u64>,
    /// What is failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Items that came or went since the Bundle was trained, which are looked for several times a second.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct ItemChangesCheck {
    /// Degraded where the last look failed: items are served as they were before it.
    status: CheckStatus,
    /// Items served that came after training.
    added_items: usize,
    /// Stored items that the Bundle cannot place.
    left_out_items: usize,
}

/// The tiers: degraded while one of them is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct TiersCheck {
    status: CheckStatus,
    /// In the config's order.
    tiers: Vec<TierCheck>,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct TierCheck {
    name: String,
    dim: usize,
    /// Dim that requests get now.
    dim_now: usize,
    /// Whether load made that dim smaller.
    degraded: bool,
}

/// The stream's consumer: degraded where it has not begun, ended, or its source does not answer. `stream` beside the checks has its
/// numbers.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct StreamCheck {
    status: CheckStatus,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Checks {
    /// Looks at what is there; `users` is what reading the user state gave, or why it gave nothing.
    pub(crate) fn look(serving: &Serving, users: Result<u64, String>, stream: Option<&StreamStatus>) -> Checks {
        let (view, table) = (serving.bundle.view(), serving.tiers.current());
        let bundle = BundleCheck {
            status: CheckStatus::Ok,
            bundle_id: view.bundle.id().to_owned(),
            dims: view.dims().to_vec(),
            items: view.bundle.items().len(),
            loaded_ms: view.loaded_ms,
        };
        let item_changes = ItemChangesCheck {
            status: if serving.items_stale() { CheckStatus::Degraded } else { CheckStatus::Ok },
            added_items: view.added().len(),
            left_out_items: view.added().left_out(),
        };
        Checks {
            draining: DrainingCheck::of(serving.draining()),
            bundle,
            user_state: UserStateCheck::of(serving.store.store().shared(), users, serving.store.writes_fail()),
            item_changes,
            tiers: TiersCheck::of(table.tiers().iter().map(|tier| TierCheck::of(tier, view.dims())).collect()),
            stream: stream.map(StreamCheck::of),
        }
    }

    /// Bundle that is served.
    pub(crate) fn bundle_id(&self) -> &str {
        &self.bundle.bundle_id
    }

    /// Users with state, where they could be read.
    pub(crate) fn users(&self) -> Option<u64> {
        self.user_state.users
    }

    /// Which parts are failing and why; none if the service is ready.
    pub(crate) fn failing(&self) -> Option<String> {
        let (draining, state) = (&self.draining, &self.user_state);
        let parts = [("draining", draining.status, &draining.detail), ("user_state", state.status, &state.detail)];
        let failing = parts.into_iter().filter(|(_, status, _)| *status == CheckStatus::Failing);
        let why: Vec<String> =
            failing.map(|(name, _, detail)| format!("{name}: {}", detail.as_deref().unwrap_or_default())).collect();
        (!why.is_empty()).then(|| why.join(", and "))
    }
}

impl DrainingCheck {
    fn of(draining: bool) -> DrainingCheck {
        let detail = draining.then(|| STOPPING.to_owned());
        DrainingCheck { status: if draining { CheckStatus::Failing } else { CheckStatus::Ok }, detail }
    }
}

impl UserStateCheck {
    fn of(shared: bool, users: Result<u64, String>, writes_fail: bool) -> UserStateCheck {
        let kind = if shared { "server" } else { "folder" };
        match users {
            Ok(users) if writes_fail => {
                let detail = "the last event could not be stored; the service's log says why".to_owned();
                UserStateCheck { status: CheckStatus::Degraded, kind, users: Some(users), detail: Some(detail) }
            }
            Ok(users) => UserStateCheck { status: CheckStatus::Ok, kind, users: Some(users), detail: None },
            Err(detail) => UserStateCheck { status: CheckStatus::Failing, kind, users: None, detail: Some(detail) },
        }
    }
}

impl TiersCheck {
    fn of(tiers: Vec<TierCheck>) -> TiersCheck {
        let degraded = tiers.iter().any(|tier| tier.degraded);
        TiersCheck { status: if degraded { CheckStatus::Degraded } else { CheckStatus::Ok }, tiers }
    }
}

impl TierCheck {
    fn of(tier: &Tier, trained: &[usize]) -> TierCheck {
        let (dim, dim_now) = (tier.config.dim, tier.dim_now(trained, tier.config.dim));
        TierCheck { name: tier.config.name.clone(), dim, dim_now, degraded: dim_now < dim }
    }
}

impl StreamCheck {
    fn of(stream: &StreamStatus) -> StreamCheck {
        let detail = match (stream.running, stream.connected) {
            (true, true) => None,
            (true, false) => Some("its broker or log does not answer".to_owned()),
            (false, _) => Some(stream.error.clone().unwrap_or_else(|| "its consumer has not begun yet".to_owned())),
        };
        StreamCheck { status: if detail.is_none() { CheckStatus::Ok } else { CheckStatus::Degraded }, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn checks(draining: bool, users: Result<u64, String>, writes_fail: bool) -> Checks {
        Checks {
            draining: DrainingCheck::of(draining),
            bundle: BundleCheck {
                status: CheckStatus::Ok,
                bundle_id: "b".into(),
                dims: vec![4],
                items: 1,
                loaded_ms: 0,
            },
            user_state: UserStateCheck::of(true, users, writes_fail),
            item_changes: ItemChangesCheck { status: CheckStatus::Degraded, added_items: 0, left_out_items: 0 },
            tiers: TiersCheck::of(Vec::new()),
            stream: None,
        }
    }

    #[test]
    fn what_fails_is_named_and_what_is_degraded_is_ready() {
        let check = |draining: bool, users: Result<u64, &str>, expect: Option<&str>| {
            let checks = checks(draining, users.map_err(str::to_owned), false);
            assert_eq!(checks.failing().as_deref(), expect);
        };
        let stopping = "draining: the service is stopping; send requests to another one";
        check(false, Ok(3), None);
        check(true, Ok(3), Some(stopping));
        check(false, Err("gone"), Some("user_state: gone"));
        check(true, Err("gone"), Some(&format!("{stopping}, and user_state: gone")));
        // Recommendations go on where events cannot be stored.
        let full = checks(false, Ok(3), true);
        assert_eq!((full.failing(), full.user_state.status), (None, CheckStatus::Degraded));
        let unread = serde_json::to_value(checks(false, Err("gone".into()), true)).unwrap();
        let expect = serde_json::json!({"status": "failing", "kind": "server", "users": null, "detail": "gone"});
        assert_eq!(unread["user_state"], expect);
    }

    #[test]
    fn one_tier_that_is_stepped_down_degrades_the_tiers() {
        let tier = |dim_now: usize| TierCheck { name: "t".into(), dim: 8, dim_now, degraded: dim_now < 8 };
        let check = |dims: &[usize], expect: CheckStatus| {
            let tiers = dims.iter().map(|&dim| tier(dim)).collect();
            assert_eq!(TiersCheck::of(tiers).status, expect, "{dims:?}");
        };
        check(&[], CheckStatus::Ok);
        check(&[8, 8], CheckStatus::Ok);
        check(&[8, 4], CheckStatus::Degraded);
    }

    #[test]
    fn a_stream_that_does_not_run_or_lost_its_source_is_degraded_and_says_so() {
        let check = |running: bool, connected: bool, error: Option<&str>, expect: Option<&str>| {
            let status = StreamStatus {
                running,
                error: error.map(str::to_owned),
                connected,
                lag: 0,
                lag_by_partition: BTreeMap::new(),
                checkpoint_age_s: 0.0,
                freshness_s: None,
                invalid: 0,
                rebalances: 0,
            };
            let found = StreamCheck::of(&status);
            assert_eq!(found.detail.as_deref(), expect);
            assert_eq!(found.status == CheckStatus::Ok, expect.is_none());
        };
        check(true, true, None, None);
        check(true, false, None, Some("its broker or log does not answer"));
        check(false, false, None, Some("its consumer has not begun yet"));
        check(false, true, Some("the disk is full"), Some("the disk is full"));
    }
}
