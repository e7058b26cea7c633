//! What was asked for becomes a plan, or why it cannot.

use std::cell::OnceCell;
use std::sync::Arc;

use loader::{Checkpoint, DType, RopePairing};
use offload::{
    FixedBytes, Home, PlanError, PlanRequest, ReserveBytes, Residency, ResidencyPlan, StackId,
};

use super::choice::{self, SLOTS_DEFAULT};
use super::limited::{Limited, limited};
use super::link::{link_info, link_to};
use super::sizes::{costs, sizes};
use super::{Blueprint, arrangement, ends_kept};
use crate::compute::size::{ComputeSize, Needs, Setup, Weights};
use crate::compute::{self, Kernels};
use crate::error::EngineError;
use crate::machine::cores;
use crate::machine::memory;
use crate::model::forms::{self, Choice, Forms};
use crate::model::options::{ModelOptions, Source};
use crate::weights::blocks::Blocks;
use crate::weights::ends::Ends;
use crate::weights::verification::Verification;

/// The context where none is asked for. Most models know far more positions than most uses need,
/// and the whole cache is paid for up front.
const CONTEXT_DEFAULT: usize = 4096;

/// More compute threads than any machine has cores: a typing error, not a wish.
const THREADS_MAX: usize = 1024;

impl Blueprint {
    pub fn new(source: &Source, options: ModelOptions) -> Result<Self, EngineError> {
        match Self::draft(source, options)? {
            (blueprint, None) => Ok(blueprint),
            (_, Some(too_large)) => Err(too_large.into()),
        }
    }

    /// The same, and one whose plan does not fit as well, with why: for tables over every N.
    pub fn draft(
        source: &Source,
        options: ModelOptions,
    ) -> Result<(Self, Option<PlanError>), EngineError> {
        if let Some(asked) = options.threads.filter(|&asked| asked > THREADS_MAX) {
            return Err(EngineError::TooManyThreads {
                asked,
                most: THREADS_MAX,
            });
        }
        if options.threads.is_some() && options.kernels == Kernels::Clear {
            return Err(EngineError::ThreadsOfClear);
        }
        // Before anything of a model is in memory.
        memory::note_program();
        let checkpoint = source.open()?;
        let config = Arc::new(checkpoint.config.clone());
        let context = context(&options, config.max_positions)?;
        let place = offload::open(options.device)?;
        let on_device = !place.device().is_cpu();
        let dtype = numbers(&checkpoint, options.dtype, on_device)?;
        check_tf32(&options, on_device, dtype)?;
        let cache_type = compute::cache_type(options.cache_type, dtype.filter(|_| on_device))?;
        let plain = Blocks::of(&checkpoint, dtype)?;
        let Forms { choice, are_timed } = forms::forms(&options, &plain, on_device)?;
        let limits = memory::limits();
        // Where nothing stays there is no form to choose.
        let trial = match are_timed && options.residency != Residency::Layers(0) {
            true => forms::time(&checkpoint, &options, &limits)?,
            false => None,
        };
        let times = trial.map(|trial| trial.times);
        let trial_bytes = trial.map_or(0, |trial| trial.bytes);
        let forms = times.filter(|_| matches!(choice, Choice::Either(_)));
        let blocks = match choice {
            Choice::Compact(compact) | Choice::Either(compact) => compact,
            Choice::Plain => plain,
        };
        let verification = match options.verify {
            true if on_device => return Err(EngineError::VerifyOnDevice),
            true => Some(Verification::new(&checkpoint, dtype)?),
            false => None,
        };
        let mut link = link_info(&checkpoint, &options, place.as_ref())?;
        let threads = options.threads.unwrap_or_else(cores::physical);
        let slots = choice::slots(&options, &blocks, &link);
        let sizes = sizes(&options, (threads, slots), &checkpoint, &blocks, &link)?;
        // A checksum is of the whole.
        let can_be_left = match options.verify || on_device || !options.logits {
            true => 0,
            false => Ends::can_be_left(&checkpoint, dtype)?,
        };
        let head = Ends::head_encoding(&checkpoint)?;
        let mut encodings = blocks.encodings().into_iter().map(|(encoding, _)| encoding);
        let compute = ComputeSize::of(
            Arc::clone(&config),
            Setup {
                kernels: options.kernels,
                room: options.room(context),
                cache_type,
                threads,
                of_device: on_device.then_some(dtype.unwrap_or(DType::Bf16)),
                weights: Weights {
                    blocks: &blocks,
                    head: options.logits.then_some(head),
                    quantised: !head.is_plain() || encodings.any(|encoding| !encoding.is_plain()),
                },
            },
        );
        let Needs {
            cache,
            scratch,
            kept,
        } = compute.needs();
        let base = PlanRequest {
            costs: costs(&blocks, &link, on_device, can_be_left),
            fixed: FixedBytes {
                ends: Ends::bytes(
                    &checkpoint,
                    dtype,
                    arrangement(on_device),
                    ends_kept(&options, on_device),
                )?,
                cache: cache + options.kept_bytes,
                scratch: scratch + kept,
            },
            residency: options.residency,
            spread: options.spread,
            slots,
            memory_bytes: None,
            reserve: ReserveBytes::default(),
            host: None,
        };
        let Limited {
            mut request,
            limit,
            spare_bytes,
        } = limited(&base, &options, place.free_bytes(), &limits, &sizes);
        let plan = match ResidencyPlan::new(&request) {
            // What streams to a device lives in RAM, if RAM has room for it.
            Err(PlanError::HomesTooLarge { .. }) if on_device && options.home.is_none() => {
                link = link_to(Home::Disk, &checkpoint, place.as_ref(), None);
                request.costs = costs(&blocks, &link, on_device, can_be_left);
                ResidencyPlan::new(&request)
            }
            // A slot that was not asked for is given up first.
            Err(PlanError::TooLarge { .. })
                if options.slots.is_none() && request.slots > SLOTS_DEFAULT =>
            {
                request.slots = SLOTS_DEFAULT;
                ResidencyPlan::new(&request)
            }
            plan => plan,
        };
        let (plan, too_large) = match plan {
            Ok(plan) => (plan, None),
            Err(
                error @ (PlanError::TooLarge { resident, .. }
                | PlanError::HomesTooLarge { resident, .. }),
            ) => (
                ResidencyPlan::with_resident(&request, resident),
                Some(error),
            ),
            Err(wrong) => return Err(wrong.into()),
        };
        let mut blueprint = Self {
            checkpoint,
            options,
            config,
            stack: StackId(0),
            blocks,
            dtype,
            can_be_left,
            context,
            cache_type,
            plan,
            link,
            memory_bytes: request.memory_bytes,
            limit,
            spare_bytes,
            verification,
            place,
            threads,
            compute,
            request,
            sizes,
            one_slot: None,
            forms,
            times,
            trial_bytes,
            tokenizer: OnceCell::new(),
            tokenizer_bytes: OnceCell::new(),
        };
        if too_large.is_none() {
            blueprint.prefer_faster_form()?;
            blueprint.prefer_one_slot()?;
        }
        Ok((blueprint, too_large))
    }
}

/// TF32 is a way to multiply f32 matrices on a device: anywhere else it would be ignored.
fn check_tf32(
    options: &ModelOptions,
    on_device: bool,
    dtype: Option<DType>,
) -> Result<(), EngineError> {
    match options.tf32 && !(on_device && dtype == Some(DType::F32)) {
        true => Err(EngineError::IdleTf32),
        false => Ok(()),
    }
}

/// What plain numbers become. On the host they may stay as they are stored, each tensor in its own
/// format; a device computes in one.
fn numbers(
    checkpoint: &Checkpoint,
    asked: Option<DType>,
    on_device: bool,
) -> Result<Option<DType>, EngineError> {
    let encoding = checkpoint.encoding();
    if on_device && checkpoint.config.rope.pairing == RopePairing::Neighbours {
        return Err(EngineError::PairingOnDevice);
    }
    match (asked, on_device) {
        (None, true) => DType::of(encoding)
            .map(Some)
            .ok_or(EngineError::EncodedOnDevice { encoding }),
        (asked, _) => Ok(asked),
    }
}

fn context(options: &ModelOptions, max_positions: usize) -> Result<usize, EngineError> {
    match options.context {
        Some(0) => Err(EngineError::NoContext),
        Some(asked) if asked > max_positions => Err(EngineError::ContextTooLong {
            asked,
            max_positions,
        }),
        Some(asked) => Ok(asked),
        None => Ok(CONTEXT_DEFAULT.min(max_positions)),
    }
}
