//! A model before it is loaded: what the checkpoint says, what was asked for, and the plan that
//! follows. Before a plan is made nothing is read but headers, a few rows of a layer that both forms
//! are timed on, and, where a choice depends on the link, as much as tells its rate.

use std::cell::OnceCell;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kernels::{CacheType, FormTimes, Timed};
use loader::{
    Access, Arrangement, BlockLayout, BlockSource, Checkpoint, DType, Encoding, Form, RopePairing,
    Whole,
};
use offload::{
    BlockCost, BufferBytes, Costs, DiskLink, FixedBytes, Home, HostRoom, LayerIndex, LinkInfo,
    OffloadError, Place, PlanError, PlanRequest, Prefetch, Rates, ReserveBytes, Residency,
    ResidencyPlan, predict,
};

use crate::blocks::Blocks;
use crate::compute::size::{ComputeSize, Needs, Run, Weights};
use crate::compute::{self, Kernels};
use crate::cores::{self, CoreWatch};
use crate::ends::{Ends, EndsPlan};
use crate::error::EngineError;
use crate::forms::{self, Choice, Forms};
use crate::glance;
use crate::memory::{self, Limit, LimitKind};
use crate::options::{ModelOptions, Source};
use crate::profile::LinkPeak;
use crate::reader::{STREAM_ACCESS, WeightReader};
use crate::reserve::{self, Sizes};
use crate::text::Tokenizer;
use crate::verification::Verification;

/// Two keep a link busy where the streamed layers are spread.
const SLOTS_DEFAULT: usize = 2;

/// One slot is taken where its plan is predicted to be faster by more than this: what the prediction
/// leaves out is never nothing.
const ONE_SLOT_GAIN: f64 = 1.03;

/// The context where none is asked for. Most models know far more positions than most uses need,
/// and the whole cache is paid for up front.
const CONTEXT_DEFAULT: usize = 4096;

/// Rates that can be emulated: from slower than a disk to faster than memory.
const LINK_GBPS: RangeInclusive<f64> = 0.001..=10_000.0;

/// More compute threads than any machine has cores: a typing error, not a wish.
const THREADS_MAX: usize = 1024;

/// How long measuring the link's peak may take.
const PEAK_BUDGET: Duration = Duration::from_millis(300);

/// The plan with one slot that was taken, and the one with two that was not; both predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneSlot {
    pub token_ms: f64,
    pub two_token_ms: f64,
    pub two_resident: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Blueprint {
    pub checkpoint: Checkpoint,
    pub options: ModelOptions,
    pub config: Arc<loader::ModelConfig>,
    /// Where its layers' weights are, and how they lie.
    pub blocks: Blocks,
    pub context: usize,
    /// What keys and values are rounded to.
    pub cache_type: CacheType,
    pub plan: ResidencyPlan,
    pub link: LinkInfo,
    /// The memory the plan was made for, if any limit is known.
    pub memory_bytes: Option<u64>,
    /// What limits it.
    pub limit: Option<LimitKind>,
    /// What `auto` leaves of that limit for others.
    pub spare_bytes: u64,
    /// What weights are held against, where that was asked for.
    pub verification: Option<Verification>,
    /// What plain numbers become; `None`: they stay as they are stored.
    pub(crate) dtype: Option<DType>,
    /// Of the weights outside the layers, what can stay on disk.
    can_be_left: u64,
    /// Where it computes.
    pub(crate) place: Arc<dyn Place>,
    /// Threads that compute there, if that is the host.
    pub(crate) threads: usize,
    /// What computes, and how large it is.
    pub(crate) compute: ComputeSize,
    pub(crate) request: PlanRequest,
    sizes: Sizes,
    /// Where one slot was taken instead of two: what either was predicted to give.
    pub one_slot: Option<OneSlot>,
    /// What both forms of resident matrices give here, where either could be taken.
    pub forms: Option<FormTimes>,
    /// The same where one of them was asked for, too: slots depend on it, and how memory is asked for.
    times: Option<FormTimes>,
    pub(crate) tokenizer: OnceCell<Option<Tokenizer>>,
}

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
        let times = match are_timed && options.residency != Residency::Layers(0) {
            true => forms::time(&checkpoint, &options, &limits)?,
            false => None,
        };
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
        let sizes = sizes(&options, threads, &checkpoint, &blocks, &link)?;
        // A checksum is of the whole.
        let can_be_left = match options.verify || on_device {
            true => 0,
            false => Ends::can_be_left(&checkpoint, dtype)?,
        };
        let head = Ends::head_encoding(&checkpoint)?;
        let mut encodings = blocks.encodings().into_iter().map(|(encoding, _)| encoding);
        let compute = ComputeSize::of(
            Arc::clone(&config),
            Run {
                kernels: options.kernels,
                context,
                cache_type,
                threads,
                of_device: on_device.then_some(dtype.unwrap_or(DType::Bf16)),
                weights: Weights {
                    blocks: &blocks,
                    head,
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
                ends: Ends::bytes(&checkpoint, dtype, arrangement(on_device))?,
                cache,
                scratch: scratch + kept,
            },
            residency: options.residency,
            spread: options.spread,
            slots: options.slots.unwrap_or(SLOTS_DEFAULT),
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
            tokenizer: OnceCell::new(),
        };
        if too_large.is_none() {
            blueprint.prefer_faster_form()?;
            blueprint.prefer_one_slot()?;
        }
        Ok((blueprint, too_large))
    }

    /// Bytes that the cache would take less in two bytes a number, where it is in four by choice.
    pub fn smaller_cache_saves(&self) -> Option<u64> {
        self.compute.smaller_cache_saves()
    }

    /// What computing takes, as the plan counts it.
    pub fn needs(&self) -> Needs {
        self.compute.needs()
    }

    /// Where both forms were timed: resident blocks are plain if that gives more tokens a second,
    /// with as many of them as then fit.
    fn prefer_faster_form(&mut self) -> Result<(), EngineError> {
        let Some(times) = self.forms else {
            return Ok(());
        };
        let plain_blocks = self.blocks.plain();
        let request = PlanRequest {
            costs: costs(
                &plain_blocks,
                &self.link,
                self.on_device(),
                self.can_be_left,
            ),
            ..self.request.clone()
        };
        let Ok(plain) = ResidencyPlan::new(&request) else {
            return Ok(());
        };
        let streams = plain.streamed_count() + self.plan.streamed_count() > 0;
        let link_gbps = match streams {
            true => self.glance_at_link()?,
            false => f64::INFINITY,
        };
        let prefetch = self.options.prefetch == Prefetch::Ahead;
        let is_plain = forms::plain_is_faster(&times, &plain, &self.plan, link_gbps, prefetch);
        if is_plain {
            self.blocks = plain_blocks;
            self.request = request;
            self.plan = plain;
        }
        Ok(())
    }

    /// About what the link reaches, for choices that are made before a plan is.
    fn glance_at_link(&self) -> Result<f64, EngineError> {
        match self.link.emulated_gbps {
            Some(gbps) => Ok(gbps),
            None => glance::link_gbps(&self.checkpoint, self.link.home, self.place.as_ref()),
        }
    }

    /// Where `auto` may choose the slots as well: one, if the layer that stays in place of the other
    /// gains more than its slot did. That is so where few layers are streamed and a copy takes much
    /// longer than a layer: one slot idles the link for a layer's compute and a start at each visit,
    /// and the other way there is a whole copy more in a token.
    fn prefer_one_slot(&mut self) -> Result<(), EngineError> {
        let chooses = self.options.residency == Residency::Auto && self.options.slots.is_none();
        let (true, Some(times), Some(timed)) = (chooses, self.times, self.timed_form()) else {
            return Ok(());
        };
        let request = PlanRequest {
            slots: 1,
            ..self.request.clone()
        };
        let Ok(one) = ResidencyPlan::new(&request) else {
            return Ok(());
        };
        if self.plan.slots() < 2 || one.resident_count() <= self.plan.resident_count() {
            return Ok(());
        }
        let link_gbps = self.glance_at_link()?;
        let prefetch = self.options.prefetch == Prefetch::Ahead;
        let predicted = |plan: &ResidencyPlan, start_ms: f64| {
            let rates = Rates {
                start_ms,
                ..forms::rates(&times, timed, plan, link_gbps, prefetch)
            };
            predict(plan, &rates).token_ms
        };
        // What takes time to find out is asked for only where it decides.
        if predicted(&one, 0.0) * ONE_SLOT_GAIN > predicted(&self.plan, 0.0) {
            return Ok(());
        }
        let start_ms = self.measure_start_ms(link_gbps)?;
        let (one_ms, two_ms) = (predicted(&one, start_ms), predicted(&self.plan, start_ms));
        if one_ms * ONE_SLOT_GAIN < two_ms {
            self.one_slot = Some(OneSlot {
                token_ms: one_ms,
                two_token_ms: two_ms,
                two_resident: self.plan.resident_count(),
            });
            self.request = request;
            self.plan = one;
        }
        Ok(())
    }

    /// What a copy takes longer on its own than its bytes do at this rate.
    fn measure_start_ms(&self, link_gbps: f64) -> Result<f64, EngineError> {
        match self.link.emulated_gbps {
            // One thread copies, and begins at once.
            Some(_) => Ok(0.0),
            None => {
                let block_bytes = self.plan.link_bytes_each() as u64;
                glance::start_ms(&self.checkpoint, self.link.home, block_bytes, link_gbps)
            }
        }
    }

    /// What was timed of the form in use, and how memory is best asked for with it.
    pub(crate) fn timed_form(&self) -> Option<Timed> {
        let times = self.times?;
        match self.resident_form() {
            Form::Plain => Some(times.plain),
            Form::Compact => times.compact,
        }
    }

    /// Slots that are asked for, or were chosen; fewer are in use where fewer layers are streamed.
    pub fn slots(&self) -> usize {
        self.request.slots
    }

    /// The plan for another number of resident layers, whether it fits or not.
    pub fn plan_for(&self, resident: usize) -> ResidencyPlan {
        ResidencyPlan::with_resident(&self.request, resident)
    }

    /// What blocks would take with their homes there.
    pub(crate) fn costs_in(&self, home: Home) -> Arc<Costs> {
        let link = LinkInfo {
            home,
            ..self.link.clone()
        };
        costs(&self.blocks, &link, self.on_device(), self.can_be_left)
    }

    /// How a layer's weights lie where a visit finds them.
    pub fn layout(&self, layer: LayerIndex) -> &Arc<BlockLayout> {
        match self.plan.is_streamed(layer) && !self.on_device() {
            true => self.blocks.streamed(layer, self.link.home).layout(),
            false => self.blocks.resident(layer),
        }
    }

    /// What a device takes slabs for; the host does not ask.
    pub(crate) fn slab_dtype(&self) -> DType {
        self.dtype.unwrap_or(DType::Bf16)
    }

    /// What brings its weights.
    pub(crate) fn reader(&self) -> WeightReader<'_> {
        WeightReader {
            place: self.place.as_ref(),
            checkpoint: &self.checkpoint,
            verification: self.verification.as_ref(),
        }
    }

    /// How the weights outside the layers are read, and lie.
    pub(crate) fn ends(&self) -> EndsPlan {
        EndsPlan {
            dtype: self.dtype,
            arrangement: arrangement(self.on_device()),
            // Where layers are streamed from disk, every token takes longer than these take from
            // there: then they need no second copy in the page cache.
            access: match (self.link.home, self.plan.streamed_count()) {
                (Home::Disk, 1..) => STREAM_ACCESS,
                _ => Access::Buffered,
            },
            leaves_embedding: self.leaves_embedding(),
        }
    }

    /// Whether the embedding stays on disk, with the streamed layers.
    pub(crate) fn leaves_embedding(&self) -> bool {
        self.plan.ends_left() > 0
    }

    /// Whether it computes on a device with memory of its own.
    pub fn on_device(&self) -> bool {
        !self.place.device().is_cpu()
    }

    /// One resident layer fewer, where the device had less room than it said.
    pub(crate) fn lower(&mut self) -> Result<(), EngineError> {
        let fewer = self.plan.resident_count().saturating_sub(1);
        self.plan = ResidencyPlan::new(&PlanRequest {
            residency: Residency::Layers(fewer),
            ..self.request.clone()
        })?;
        self.one_slot = None;
        Ok(())
    }

    /// Asks the system for as much memory as loading will, and gives it back. Limits that count
    /// what is asked for show themselves before anything is read.
    pub(crate) fn try_memory(&self) -> Result<(), EngineError> {
        Ok(self.try_memory_for(&self.plan)?)
    }

    fn try_memory_for(&self, plan: &ResidencyPlan) -> Result<(), OffloadError> {
        if self.on_device() {
            return Ok(());
        }
        offload::try_memory(usize::try_from(self.asked_bytes(plan)).unwrap_or(usize::MAX))
    }

    /// What loading asks of the system's memory.
    fn asked_bytes(&self, plan: &ResidencyPlan) -> u64 {
        let beside = match memory::limits()
            .iter()
            .any(|limit| limit.kind.counts_untouched())
        {
            true => plan.reserved(&self.sizes.asked()),
            false => 0,
        };
        plan.planned_bytes_with_homes() + beside
    }

    /// Where the system refused memory: the plan that makes the most of what it does give, by
    /// trying. `None` where no smaller one is given either.
    fn roomier(&self) -> Option<ResidencyPlan> {
        let asked_bytes = self.asked_bytes(&self.plan);
        (0..=self.plan.layers())
            .rev()
            .map(|resident| self.plan.resized(resident))
            .find(|plan| {
                let smaller = self.asked_bytes(plan) < asked_bytes;
                smaller && plan.fits() && self.try_memory_for(plan).is_ok()
            })
    }

    /// After a refusal: plans with fewer layers, if it was `auto` that chose them, or says how many
    /// would do.
    pub(crate) fn after_refusal(&mut self, refused: EngineError) -> Result<(), EngineError> {
        let roomier = self.roomier();
        match (self.options.residency, roomier) {
            (Residency::Auto, Some(plan)) => {
                self.plan = plan;
                // It compared other plans.
                self.one_slot = None;
            }
            (_, roomier) => {
                return Err(EngineError::MemoryRefused {
                    asked: self.plan.resident_count(),
                    asked_bytes: self.asked_bytes(&self.plan),
                    fits: roomier.map(|plan| plan.resident_count()),
                    source: refused.into(),
                });
            }
        }
        Ok(())
    }

    /// The form of resident matrices.
    pub fn resident_form(&self) -> Form {
        self.blocks.form()
    }

    /// Plans anew with resident blocks as the checkpoint has them, for the reason given.
    pub(crate) fn keep_plain(&mut self, varied: EngineError) -> Result<(), EngineError> {
        self.blocks = self.blocks.plain();
        self.request.costs = self.costs_in(self.link.home);
        // One slot was chosen for compact layers: both are weighed again.
        if self.one_slot.take().is_some() {
            self.request.slots = SLOTS_DEFAULT;
        }
        self.plan =
            ResidencyPlan::new(&self.request).map_err(|source| EngineError::PlainTooLarge {
                varied: varied.into(),
                source,
            })?;
        self.prefer_one_slot()
    }

    /// Of most of the layers' bytes, as they are computed with.
    pub fn encoding(&self) -> Encoding {
        let encoding = self.checkpoint.encoding();
        match self.dtype.filter(|_| encoding.is_plain()) {
            Some(dtype) => dtype.encoding(),
            None => encoding,
        }
    }

    /// What the link reaches when it does nothing else: measured now, over the model's own bytes.
    /// For an emulated link it is the rate that was set.
    pub fn measure_peak(&self) -> Result<Option<LinkPeak>, EngineError> {
        if self.plan.streamed_count() == 0 {
            return Ok(None);
        }
        if let Some(gbps) = self.link.emulated_gbps {
            return Ok(Some(LinkPeak {
                gbps,
                lacking: None,
            }));
        }
        let mut watch = CoreWatch::start(std::iter::empty());
        let gbps = match self.link.home {
            Home::Disk => loader::measure_read_gbps(&self.checkpoint, PEAK_BUDGET)?.gbps,
            Home::Ram => self.place.measure_link_gbps(PEAK_BUDGET)?,
        };
        Ok(Some(LinkPeak {
            gbps,
            lacking: watch.finish().crowded(),
        }))
    }
}

/// How the weights outside the layers lie: on the host as a disk brings them.
fn arrangement(on_device: bool) -> Arrangement {
    match on_device {
        true => Arrangement::Packed,
        false => Arrangement::Paged,
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

fn link_info(
    checkpoint: &Checkpoint,
    options: &ModelOptions,
    place: &dyn Place,
) -> Result<LinkInfo, EngineError> {
    let on_device = !place.device().is_cpu();
    if let Some(gbps) = options.link_gbps {
        if !LINK_GBPS.contains(&gbps) {
            return Err(EngineError::LinkRate { gbps });
        }
        if options.home == Some(Home::Disk) {
            return Err(EngineError::EmulatedDisk);
        }
        if on_device {
            return Err(EngineError::EmulatedOnDevice);
        }
    }
    let emulated_gbps = options.link_gbps;
    // On a CPU memory is what is scarce: a streamed layer then must not live in it.
    let home = match (options.home, emulated_gbps) {
        (Some(home), _) => home,
        (None, Some(_)) => Home::Ram,
        (None, None) if on_device => Home::Ram,
        (None, None) => Home::Disk,
    };
    Ok(link_to(home, checkpoint, place, emulated_gbps))
}

fn link_to(
    home: Home,
    checkpoint: &Checkpoint,
    place: &dyn Place,
    emulated_gbps: Option<f64>,
) -> LinkInfo {
    let access = match home {
        Home::Disk => checkpoint.access_report().to_string(),
        Home::Ram if place.device().is_cpu() => "memory copy".into(),
        // Whether all of it can be pinned shows when it is.
        Home::Ram => match place.near() {
            Some(node) => format!("the copy engine from pinned memory, on {node}"),
            None => "the copy engine from pinned memory".into(),
        },
    };
    LinkInfo {
        home,
        access,
        emulated_gbps,
    }
}

/// A request within a limit.
struct Limited {
    request: PlanRequest,
    limit: Option<LimitKind>,
    spare_bytes: u64,
}

/// The request within what was given, what the device has, or else the tightest limit that was
/// found; where homes are in other memory than that, that memory's tightest as well.
fn limited(
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

/// What decides the reserve.
fn sizes(
    options: &ModelOptions,
    threads: usize,
    checkpoint: &Checkpoint,
    blocks: &Blocks,
    link: &LinkInfo,
) -> Result<Sizes, EngineError> {
    let streamed = blocks
        .layers()
        .map(|layer| blocks.streamed(layer, link.home));
    let packed = blocks.layers().map(|layer| blocks.packed(layer));
    let head = checkpoint.weight(Whole::Embedding, options.dtype, Arrangement::Paged)?;
    let resident = blocks
        .layers()
        .map(|layer| blocks.resident(layer).slab_bytes());
    let slabs = streamed
        .clone()
        .map(BlockSource::slab_bytes)
        .chain(resident);
    Ok(Sizes {
        // One that cannot be read is the tokenizer's error, if it is asked for.
        tokenizer: checkpoint.vocabulary_bytes(),
        slab: slabs.max().unwrap_or(0),
        chunks: reserve::chunks(packed.chain([&head])),
        compute_threads: threads,
        stream_threads: match link.home {
            Home::Disk => DiskLink::threads(streamed, options.slots.unwrap_or(SLOTS_DEFAULT)),
            Home::Ram => 0,
        },
    })
}

/// What the blocks take in memory and over the link.
fn costs(blocks: &Blocks, link: &LinkInfo, on_device: bool, can_be_left: u64) -> Arc<Costs> {
    let cost = |layer| {
        let packed = blocks.packed(layer);
        let slot = match on_device {
            true => packed,
            false => blocks.streamed(layer, link.home),
        };
        BlockCost {
            slab: slot.slab_bytes() as u64,
            resident: blocks.resident(layer).slab_bytes() as u64,
            link: match link.home {
                Home::Disk => packed.stored_bytes(),
                Home::Ram => packed.slab_bytes() as u64,
            },
            home: match link.home {
                Home::Disk => 0,
                Home::Ram => packed.slab_bytes() as u64,
            },
            weights: packed.layout().weight_bytes() as u64,
        }
    };
    let fills_slots = link.home == Home::Disk && !on_device;
    Arc::new(Costs {
        blocks: blocks.layers().map(cost).collect(),
        packing: match blocks.form() {
            Form::Compact => blocks.largest_bytes() as u64,
            Form::Plain => 0,
        },
        // Of a link to a device buffers are the host's, and the plan is for the device's memory.
        buffers: match fills_slots {
            true => DiskLink::buffers(
                blocks
                    .layers()
                    .map(|layer| blocks.streamed(layer, link.home)),
            ),
            false => BufferBytes::default(),
        },
        ends_left: if fills_slots { can_be_left } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use loader::Family;
    use loader::synth::{self, SynthSpec};

    use super::*;
    use kernels::Level;

    /// 24 layers of 3 MB: enough that both forms are timed, where a processor may gain from it.
    fn timed_model() -> (tempfile::TempDir, Source) {
        let spec = SynthSpec {
            hidden_size: 512,
            intermediate_size: 1536,
            heads: 8,
            kv_heads: 2,
            head_dim: 64,
            dtype: DType::Bf16,
            ..SynthSpec::tiny(Family::LLAMA)
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        synth::write(&path, &spec.with_layers(24), &mut |_, _| {}).unwrap();
        (directory, Source::Directory(path))
    }

    #[test]
    fn auto_takes_one_slot_where_a_copy_less_gains_more_than_the_second_slot() {
        let (_directory, source) = timed_model();
        let options = |link_gbps| ModelOptions {
            link_gbps: Some(link_gbps),
            context: Some(64),
            resident_form: None,
            memory_bytes: Some(1 << 40),
            ..ModelOptions::default()
        };
        let whole = Blueprint::new(&source, options(1000.0)).unwrap();
        if whole.forms.is_none() {
            assert!(
                !Level::detect().may_gain_from_compact(),
                "large enough to be timed"
            );
            println!("nothing is timed on this processor: two slots, always");
            return;
        }
        // Room for 20 layers, as they are kept, and two slots.
        let limited = |link_gbps, slots| {
            let memory_bytes = Some(whole.plan_for(20).total_bytes());
            let options = ModelOptions {
                memory_bytes,
                slots,
                ..options(link_gbps)
            };
            Blueprint::new(&source, options).unwrap()
        };
        // Copies of 120 ms: three are faster than four.
        let slow = limited(0.05, None);
        assert_eq!(slow.plan.slots(), 1, "{:?}", slow.plan);
        let chosen = slow.one_slot.unwrap();
        assert_eq!(slow.slots(), 1);
        assert!(slow.plan.resident_count() > chosen.two_resident);
        assert!(chosen.token_ms < 0.9 * chosen.two_token_ms);
        assert!(slow.plan.fits());
        // What is typed counts; and copies that are hidden anyway gain nothing.
        assert_eq!(limited(0.05, Some(2)).plan.slots(), 2);
        let fast = limited(1000.0, None);
        assert_eq!((fast.plan.slots(), fast.one_slot), (2, None));
        // A form that is typed changes nothing of that.
        let typed = ModelOptions {
            resident_form: Some(slow.resident_form()),
            ..slow.options.clone()
        };
        let typed = Blueprint::new(&source, typed).unwrap();
        assert_eq!(typed.one_slot, slow.one_slot);
        assert_eq!((typed.slots(), typed.forms), (slow.slots(), None));
        assert_eq!(typed.plan.resident_count(), slow.plan.resident_count());
    }

    #[test]
    fn what_was_compared_for_one_slot_is_not_said_of_another_plan() {
        let (_directory, source) = timed_model();
        let options = |memory_bytes| ModelOptions {
            link_gbps: Some(0.05),
            context: Some(64),
            memory_bytes: Some(memory_bytes),
            resident_form: Some(Form::Compact),
            ..ModelOptions::default()
        };
        let whole = Blueprint::new(&source, options(1 << 40)).unwrap();
        let limited =
            || Blueprint::new(&source, options(whole.plan_for(20).total_bytes())).unwrap();
        let compared = limited().one_slot;
        assert_eq!(
            compared.is_some(),
            Level::detect().may_gain_from_compact(),
            "{compared:?}"
        );
        // From disk: where homes are in RAM as well, fewer resident layers take no less.
        let from_disk = ModelOptions {
            link_gbps: None,
            ..options(1 << 40)
        };
        let mut refused = Blueprint::new(&source, from_disk).unwrap();
        refused.one_slot = compared;
        refused.after_refusal(EngineError::Interrupted).unwrap();
        assert_eq!(refused.one_slot, None);
        // Plain layers are larger: fewer fit, and that is what is compared.
        let mut plain = limited();
        plain.keep_plain(EngineError::Interrupted).unwrap();
        let two = PlanRequest {
            slots: 2,
            ..plain.request.clone()
        };
        let two = ResidencyPlan::new(&two).unwrap().resident_count();
        match plain.one_slot {
            Some(one) => assert_eq!((one.two_resident, plain.slots()), (two, 1)),
            None => assert_eq!((plain.plan.resident_count(), plain.slots()), (two, 2)),
        }
    }

    #[test]
    fn the_forms_are_not_timed_in_more_memory_than_the_plan_may_take() {
        let (_directory, source) = timed_model();
        let timed = |memory_bytes| {
            let options = ModelOptions {
                residency: Residency::Layers(4),
                context: Some(64),
                memory_bytes: Some(memory_bytes),
                // Not in another test's memory.
                threads: Some(3),
                ..ModelOptions::default()
            };
            Blueprint::new(&source, options).unwrap().forms.is_some()
        };
        assert!(!timed(80 << 20));
        assert_eq!(timed(1 << 30), Level::detect().may_gain_from_compact());
    }
}
