//! A request within the memory there is.

use offload::{HostRoom, PlanRequest, Residency, ResidencyPlan};

use crate::machine::memory::{Limit, LimitKind};
use crate::model::options::ModelOptions;
use crate::model::reserve::Sizes;

/// A request within a limit.
pub(super) struct Limited {
    pub(super) request: PlanRequest,
    pub(super) limit: Option<LimitKind>,
    pub(super) spare_bytes: u64,
}

/// The request within what was given, what the device has, or else the tightest limit that was
/// found; where homes are in other memory than that, that memory's tightest as well.
pub(super) fn limited(
    base: &PlanRequest,
    options: &ModelOptions,
    device_bytes: Option<u64>,
    found: &[Limit],
    sizes: &Sizes,
) -> Limited {
    let given = options.memory_bytes.map(|bytes| (LimitKind::Given, bytes));
    let known = given.or(device_bytes.map(|bytes| (LimitKind::Device, bytes)));
    // A number of layers that was typed may take what there is.
    let spared = |limit: &Limit| match options.residency {
        Residency::Auto => limit.kind.spare_bytes(limit.left_bytes),
        Residency::Layers(_) | Residency::All => 0,
    };
    let Some((kind, bytes)) = known else {
        let within = |limit: &Limit| PlanRequest {
            memory_bytes: Some(limit.left_bytes - spared(limit)),
            reserve: sizes.reserve(limit.kind),
            ..base.clone()
        };
        return match tightest(found, within) {
            Some((limit, request)) => Limited {
                request,
                limit: Some(limit.kind),
                spare_bytes: spared(&limit),
            },
            None => Limited {
                request: base.clone(),
                limit: None,
                spare_bytes: 0,
            },
        };
    };
    let base = PlanRequest {
        memory_bytes: Some(bytes),
        ..base.clone()
    };
    let has_plan = options.link_gbps.is_some();
    let beside = |limit: &Limit| PlanRequest {
        host: Some(HostRoom {
            available_bytes: limit.left_bytes - spared(limit),
            has_plan,
            reserve: sizes.reserve(limit.kind),
        }),
        ..base.clone()
    };
    let request = match has_plan || device_bytes.is_some() {
        // Where nothing is known of the host, homes are still not in the other memory.
        true => tightest(found, beside).map_or_else(|| beside(&UNLIMITED), |(_, request)| request),
        false => base.clone(),
    };
    Limited {
        request,
        limit: Some(kind),
        spare_bytes: 0,
    }
}

const UNLIMITED: Limit = Limit {
    kind: LimitKind::Given,
    left_bytes: u64::MAX,
};

/// The limit within which the fewest layers fit; of those the one that leaves the least beside its
/// reserve.
fn tightest(
    limits: &[Limit],
    within: impl Fn(&Limit) -> PlanRequest,
) -> Option<(Limit, PlanRequest)> {
    let all = limits.iter().map(|limit| (*limit, within(limit)));
    all.min_by_key(|(limit, request)| {
        let smallest = ResidencyPlan::with_resident(request, 0);
        let reserved = smallest.reserve_bytes() + smallest.host_reserve_bytes();
        let left = limit.left_bytes.saturating_sub(reserved);
        (ResidencyPlan::most_that_fit(request), left)
    })
}
