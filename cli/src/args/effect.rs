//! Options that the plan leaves without effect. Beside a number of layers that was typed they
//! contradict it, and are refused; beside `auto` they say what should happen if anything were
//! streamed, and the user is told that nothing is.

use offload::{Residency, ResidencyPlan};

use super::{LinkArgs, ModelArgs, ResidencyArgs};
use crate::failure::Usage;

/// What was typed for nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Idle {
    #[error("nothing is streamed, so {} has no effect", .options.join(", "))]
    NothingStreamed { options: Vec<&'static str> },
    #[error("--slots {asked} comes to {streamed}, because no more layers are streamed")]
    Slots { asked: usize, streamed: usize },
    #[error("nothing is resident, so --resident-form has no effect")]
    NothingResident,
}

impl Idle {
    pub fn options(&self) -> &[&'static str] {
        match self {
            Self::NothingStreamed { options } => options,
            Self::Slots { .. } => &["--slots"],
            Self::NothingResident => &["--resident-form"],
        }
    }
}

/// What to tell the user beside the plan, unless it is to be refused.
pub fn idle(
    model: &ModelArgs,
    residency: &ResidencyArgs,
    link: &LinkArgs,
    plan: &ResidencyPlan,
) -> Result<Option<Idle>, Usage> {
    let found = match plan.streamed_count() {
        0 => nothing_streamed(residency, link),
        streamed => link
            .slots
            .filter(|&asked| asked > streamed)
            .map(|asked| Idle::Slots { asked, streamed }),
    };
    let resident = plan.resident_count() > 0;
    let found = found.or_else(|| {
        let idle = model.room.resident_form.is_some() && !resident;
        idle.then_some(Idle::NothingResident)
    });
    match found {
        Some(idle) if residency.layers.residency() != Residency::Auto => Err(Usage::Idle(idle)),
        found => Ok(found),
    }
}

/// `--resident` is not among them: the first of all layers are all of them, and so they stay.
fn nothing_streamed(residency: &ResidencyArgs, link: &LinkArgs) -> Option<Idle> {
    let typed = [
        ("--no-prefetch", residency.layers.no_prefetch),
        ("--slots", link.slots.is_some()),
        ("--weights", link.weights.is_some()),
        ("--link-gbps", link.link_gbps.is_some()),
    ];
    let typed = typed.into_iter().filter(|(_, typed)| *typed);
    let options: Vec<_> = typed.map(|(name, _)| name).collect();
    (!options.is_empty()).then_some(Idle::NothingStreamed { options })
}
