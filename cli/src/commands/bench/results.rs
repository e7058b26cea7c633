//! What the rounds came to, kept whole: every run of every prompt, and the samples taken from
//! them.

use engine::profile::files::Origin;
use engine::profile::{PromptRate, Sample, Stage, StageTimes};
use engine::{Machine, Together, TrialRun};
use serde::Serialize;

#[derive(Debug)]
pub struct Results {
    pub origin: Origin,
    pub date: String,
    pub machine: Machine,
    pub tokens: usize,
    pub warmup: usize,
    pub sides: Vec<SideResults>,
    /// It was ended before all of it was measured.
    pub interrupted: bool,
}

/// What one set of flags did.
#[derive(Debug)]
pub struct SideResults {
    /// Empty where there is only one.
    pub name: &'static str,
    pub flags: String,
    pub rows: Vec<Row>,
}

/// The runs of one prompt, round by round.
#[derive(Debug)]
pub struct Row {
    pub label: String,
    pub words: Option<usize>,
    pub runs: Vec<TrialRun>,
    /// Several sequences at once in the same rounds, where that was asked for.
    pub together: Vec<Together>,
}

/// The parts of a run's wall time, of the round in the middle; of two rounds in the middle, their
/// mean. So they add up, and `wall_ms` is the median.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Parts {
    pub wall_ms: f64,
    pub prefill_ms: f64,
    pub generate_ms: f64,
    /// Turning tokens into text.
    pub decode_ms: f64,
}

impl Results {
    /// Leaves out the prompts that were never continued, of both sides where one lacks it.
    pub fn keep_measured(&mut self) {
        let rows = self.sides.first().map_or(0, |side| side.rows.len());
        let measured: Vec<bool> = (0..rows)
            .map(|row| {
                self.sides
                    .iter()
                    .all(|side| !side.rows[row].runs.is_empty())
            })
            .collect();
        for side in &mut self.sides {
            let mut kept = measured.iter();
            side.rows.retain(|_| kept.next().copied().unwrap_or(false));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sides.iter().all(|side| side.rows.is_empty())
    }

    pub fn rounds(&self) -> usize {
        let rows = self.sides.iter().flat_map(|side| &side.rows);
        rows.map(|row| row.runs.len()).min().unwrap_or(0)
    }
}

impl Row {
    pub fn sample(&self, of: impl Fn(&TrialRun) -> f64) -> Sample {
        self.runs.iter().map(of).collect()
    }

    pub fn tokens_per_s(&self) -> Sample {
        self.sample(tokens_per_s)
    }

    /// Sequences at once, their tokens a second in all, and how many times those of one.
    pub fn together(&self) -> Option<(usize, Sample, Sample)> {
        let streams = self.together.first()?.streams;
        let rate = |run: &Together| run.tokens_per_s().unwrap_or(f64::NAN);
        let rates = self.together.iter().map(rate).collect();
        let pairs = self.together.iter().zip(&self.runs);
        let ratios = pairs.map(|(many, one)| rate(many) / tokens_per_s(one));
        Some((streams, rates, ratios.collect()))
    }

    /// The run in the middle by its wall time, or the two.
    fn middle(&self) -> Vec<&TrialRun> {
        let mut runs: Vec<&TrialRun> = self.runs.iter().collect();
        runs.sort_by(|a, b| wall_ms(a).total_cmp(&wall_ms(b)));
        match runs.len() {
            0 => runs,
            count => runs[(count - 1) / 2..=count / 2].to_vec(),
        }
    }

    pub fn parts(&self) -> Parts {
        let middle = self.middle();
        let mean = |of: fn(&TrialRun) -> f64| {
            let values: Sample = middle.iter().map(|run| of(run)).collect();
            values.mean()
        };
        Parts {
            wall_ms: mean(wall_ms),
            prefill_ms: mean(|run| {
                run.timing.prefill_ms - text_ms(&run.timing.totals().prompt.stages)
            }),
            generate_ms: mean(|run| {
                run.timing.generate_ms - text_ms(&run.timing.totals().decode.stages)
            }),
            decode_ms: mean(|run| {
                let totals = run.timing.totals();
                text_ms(&totals.prompt.stages) + text_ms(&totals.decode.stages)
            }),
        }
    }
}

/// The prompt's pass beside the processor's limit.
pub fn prompt_rate(run: &TrialRun) -> Option<PromptRate> {
    run.prompt.prompt_rate(&run.streaming)
}

/// The time from the start of the prompt's pass to the last token.
pub fn wall_ms(run: &TrialRun) -> f64 {
    run.timing.prefill_ms + run.timing.generate_ms
}

/// A generation of one token has no decode pass, and no rate.
pub fn tokens_per_s(run: &TrialRun) -> f64 {
    run.tokens_per_s().unwrap_or(f64::NAN)
}

fn text_ms(times: &StageTimes) -> f64 {
    times[Stage::Decode].wall.as_secs_f64() * 1e3
}

#[derive(Debug, Serialize)]
struct JsonResults<'a> {
    origin: &'a Origin,
    date: &'a str,
    machine: JsonMachine<'a>,
    tokens: usize,
    warmup: usize,
    rounds: usize,
    interrupted: bool,
    sides: Vec<JsonSide<'a>>,
    /// B over A, by prompt; with `--compare`.
    ratios: Vec<JsonRatio<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonMachine<'a> {
    processor: &'a str,
    cores: usize,
    memory_bytes: Option<u64>,
    kernels: &'a str,
}

#[derive(Debug, Serialize)]
struct JsonSide<'a> {
    name: &'a str,
    flags: &'a str,
    prompts: Vec<JsonRow<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    label: &'a str,
    words: Option<usize>,
    prompt_tokens: usize,
    resident: usize,
    streamed: usize,
    emulated_gbps: Option<f64>,
    parts: Parts,
    tokens_per_s: JsonSample,
    time_to_first_token_ms: JsonSample,
    wall_ms: JsonSample,
    link_gbps: JsonSample,
    link_peak_gbps: JsonSample,
    memory_gbps: JsonSample,
    memory_peak_gbps: JsonSample,
    prompt_gflops: JsonSample,
    prompt_peak_gflops: JsonSample,
    memory_bytes: Option<u64>,
    /// There with `--parallel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel: Option<JsonTogether>,
}

#[derive(Debug, Serialize)]
struct JsonTogether {
    streams: usize,
    /// The rate of all streams.
    tokens_per_s: JsonSample,
    tokens_per_s_each: JsonSample,
    /// Over one stream, round by round.
    ratio: JsonSample,
}

#[derive(Debug, Serialize)]
struct JsonRatio<'a> {
    label: &'a str,
    tokens_per_s: JsonSample,
    noise: bool,
}

/// Not-a-number (a rate of nothing) becomes `null`. The mean of rates is all work over all time.
#[derive(Debug, Serialize)]
struct JsonSample {
    mean: f64,
    median: f64,
    std_dev: f64,
    values: Vec<f64>,
}

impl JsonSample {
    fn of_times(sample: &Sample) -> Self {
        Self::with_mean(sample.mean(), sample)
    }

    fn of_rates(sample: &Sample) -> Self {
        Self::with_mean(sample.over_total_time(), sample)
    }

    fn with_mean(mean: f64, sample: &Sample) -> Self {
        Self {
            mean,
            median: sample.median(),
            std_dev: sample.std_dev(),
            values: sample.values().to_vec(),
        }
    }
}

impl Results {
    pub fn json(&self) -> impl Serialize + '_ {
        JsonResults {
            origin: &self.origin,
            date: &self.date,
            machine: JsonMachine {
                processor: &self.machine.processor,
                cores: self.machine.cores,
                memory_bytes: self.machine.memory_bytes,
                kernels: self.machine.kernels,
            },
            tokens: self.tokens,
            warmup: self.warmup,
            rounds: self.rounds(),
            interrupted: self.interrupted,
            sides: self.sides.iter().map(SideResults::json).collect(),
            ratios: self
                .ratios()
                .map(|(label, ratio)| JsonRatio {
                    label,
                    tokens_per_s: JsonSample::of_rates(&ratio),
                    noise: ratio.is_noise(),
                })
                .collect(),
        }
    }

    /// Tokens per second of the second side over the first, for each prompt.
    pub fn ratios(&self) -> impl Iterator<Item = (&str, Sample)> {
        let pairs = match self.sides.as_slice() {
            [a, b] => a.rows.iter().zip(b.rows.iter()).collect(),
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(a, b)| {
            let ratio = b.tokens_per_s().over(&a.tokens_per_s());
            (a.label.as_str(), ratio)
        })
    }
}

impl SideResults {
    fn json(&self) -> JsonSide<'_> {
        JsonSide {
            name: self.name,
            flags: &self.flags,
            prompts: self.rows.iter().filter_map(Row::json).collect(),
        }
    }
}

impl Row {
    fn json(&self) -> Option<JsonRow<'_>> {
        let last = self.runs.last()?;
        let plan = &last.streaming.plan;
        let times = |of: fn(&TrialRun) -> f64| JsonSample::of_times(&self.sample(of));
        let rates = |of: fn(&TrialRun) -> f64| JsonSample::of_rates(&self.sample(of));
        Some(JsonRow {
            label: &self.label,
            words: self.words,
            prompt_tokens: last.timing.totals().prompt.rows,
            resident: plan.resident_count(),
            streamed: plan.streamed_count(),
            emulated_gbps: last
                .streaming
                .link
                .emulated_gbps
                .filter(|_| plan.streamed_count() > 0),
            parts: self.parts(),
            tokens_per_s: rates(tokens_per_s),
            time_to_first_token_ms: times(|run| {
                run.timing.time_to_first_token_ms.unwrap_or(f64::NAN)
            }),
            wall_ms: times(wall_ms),
            link_gbps: rates(|run| run.decode.link_gbps().unwrap_or(f64::NAN)),
            link_peak_gbps: rates(|run| run.streaming.peak_gbps.unwrap_or(f64::NAN)),
            memory_gbps: rates(|run| {
                let limit = run.streaming.memory.as_ref();
                let used = limit.and_then(|limit| limit.utilisation(&run.decode));
                used.map_or(f64::NAN, |used| used.gbps)
            }),
            memory_peak_gbps: rates(|run| {
                (run.streaming.memory.as_ref()).map_or(f64::NAN, |limit| limit.gbps)
            }),
            prompt_gflops: rates(|run| prompt_rate(run).map_or(f64::NAN, |rate| rate.gflops)),
            prompt_peak_gflops: rates(|run| {
                prompt_rate(run).map_or(f64::NAN, |rate| rate.peak.gflops)
            }),
            memory_bytes: last.memory_bytes,
            parallel: self.together().map(|(streams, rates, ratios)| {
                let each = rates.values().iter().map(|rate| rate / streams as f64);
                JsonTogether {
                    streams,
                    tokens_per_s_each: JsonSample::of_rates(&each.collect()),
                    tokens_per_s: JsonSample::of_rates(&rates),
                    ratio: JsonSample::of_rates(&ratios),
                }
            }),
        })
    }
}
