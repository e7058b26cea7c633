//! Why a request has no plan that fits.

use loader::units;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{asked} resident layers were asked for, and the model has {layers}")]
    TooManyLayers { asked: usize, layers: usize },
    #[error("streaming needs at least one slot")]
    NoSlots,
    #[error(
        "{resident} resident layers need {}{}, {} are available",
        units::needed_of(*needed_bytes, *memory_bytes).0, reserved(*reserve_bytes),
        units::needed_of(*needed_bytes, *memory_bytes).1
    )]
    TooLarge {
        resident: usize,
        needed_bytes: u64,
        /// Of these, for the run itself.
        reserve_bytes: u64,
        memory_bytes: u64,
        /// The most layers that would fit, if any number does.
        fits: Option<usize>,
    },
    /// Of several stacks in one plan.
    #[error(
        "all models together need {}{}, {} are available",
        units::needed_of(*needed_bytes, *memory_bytes).0, reserved(*reserve_bytes),
        units::needed_of(*needed_bytes, *memory_bytes).1
    )]
    TooLargeTogether {
        needed_bytes: u64,
        reserve_bytes: u64,
        memory_bytes: u64,
    },
    #[error(
        "with {resident} resident layers the streamed ones need {} of RAM to be streamed from{}, \
         {} are available",
        units::needed_of(*home_bytes, *available_bytes).0, beside(*beside_bytes),
        units::needed_of(*home_bytes, *available_bytes).1
    )]
    HomesTooLarge {
        resident: usize,
        home_bytes: u64,
        /// Of the same RAM for the rest of the run.
        beside_bytes: u64,
        available_bytes: u64,
        fits: Option<usize>,
    },
}

impl PlanError {
    pub fn hint(&self) -> String {
        match self {
            Self::TooManyLayers { layers, .. } => {
                format!("use --num-gpu-layers {layers} or `all` to stream nothing")
            }
            Self::NoSlots => "use --slots 1 or more; 2 keep the link busy".into(),
            Self::TooLarge {
                fits: Some(fits), ..
            } => {
                format!("try --num-gpu-layers {fits}, or `auto`")
            }
            Self::TooLarge { fits: None, .. } => {
                "not even 0 resident layers fit: use a shorter --context, one slot (--slots 1), \
                 or raise the limit on memory (--memory, ulimit, the control group)"
                    .into()
            }
            Self::TooLargeTogether { .. } => {
                "keep fewer layers of each resident, or leave that to `auto`; use a shorter \
                 --context, one slot (--slots 1), or raise the limit on memory"
                    .into()
            }
            Self::HomesTooLarge {
                fits: Some(fits), ..
            } => {
                format!("try --num-gpu-layers {fits}, `auto`, or --weights disk")
            }
            Self::HomesTooLarge { fits: None, .. } => {
                "use --weights disk, which needs no RAM for them (and no --link-gbps)".into()
            }
        }
    }
}

fn reserved(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        _ => format!(
            " ({} of them for threads and the like)",
            units::memory(bytes)
        ),
    }
}

fn beside(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        _ => format!(" and the rest of the run {}", units::memory(bytes)),
    }
}
