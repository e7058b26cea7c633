//! What looking costs: `--profile` and, with the feature `profiling`, the spans. Both are switched
//! on and off within one run, a few tokens at a time, so that the machine's moods fall on both
//! sides alike: off, on, on, off is one round, and its ratio one value.
//! Being disturbed only ever adds time: where the machine is busy, the fastest tenth of each side
//! says more.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
#[cfg(feature = "profiling")]
use engine::profile::SpanLog;
use engine::profile::{Sample, Streaming, Summary, Window};
use engine::{Generation, GenerationOptions, Measured, Model, ModelOptions, Source};
use offload::Residency;

/// Tokens before the first round.
const WARM_UP: usize = 20;

/// As many as `--profile` puts into a summary.
const SUMMARY_TOKENS: usize = 10;

#[derive(Debug, Args)]
pub struct Overhead {
    /// A checkpoint folder; without it the demo model
    #[arg(long)]
    model: Option<PathBuf>,
    /// Resident layers; without it all
    #[arg(long)]
    num_gpu_layers: Option<usize>,
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Tokens of each of the four parts of a round
    #[arg(long, default_value_t = SUMMARY_TOKENS)]
    tokens: usize,
    #[arg(long)]
    threads: Option<usize>,
}

/// What is switched on and off.
trait Looking {
    fn switch(&mut self, on: bool);
    fn pass(&mut self, pass: &Measured);
}

pub fn run(args: &Overhead) -> Result<()> {
    let options = ModelOptions {
        residency: args
            .num_gpu_layers
            .map_or(Residency::All, Residency::Layers),
        threads: args.threads,
        ..ModelOptions::default()
    };
    let source = args.model.clone().map_or(Source::Demo, Source::Directory);
    #[cfg(feature = "profiling")]
    let mut spans = Spans(SpanLog::install()?);
    #[cfg(feature = "profiling")]
    spans.switch(false);
    let (mut model, peak) = engine::open_measured(&source, options)?;
    model.measure_memory()?;
    model.measure_arithmetic();
    let mut profile = Profile {
        streaming: model.streaming(peak),
        window: Window::default(),
        on: false,
        tokens: 0,
    };
    measure(args, &mut model, "--profile", &mut profile)?;
    #[cfg(feature = "profiling")]
    {
        let before = spans.0.len();
        measure(args, &mut model, "--spans", &mut spans)?;
        let tokens = 2 * args.rounds * args.tokens;
        println!(
            "{:.1} spans a token",
            (spans.0.len() - before) as f64 / tokens as f64
        );
    }
    Ok(())
}

fn measure(
    args: &Overhead,
    model: &mut Model,
    what: &str,
    looking: &mut impl Looking,
) -> Result<()> {
    let context = model.blueprint().context;
    let round_tokens = 4 * args.tokens;
    let (mut ratios, mut off_ms, mut extra_us) =
        (Sample::default(), Sample::default(), Sample::default());
    let mut parts_ms = [Sample::default(), Sample::default()];
    while ratios.len() < args.rounds {
        let options = GenerationOptions {
            max_new_tokens: context,
            ignore_eos: true,
            ..GenerationOptions::default()
        };
        let mut session = model.session()?;
        let mut generation = session.generate(vec![1, 2, 3], options)?;
        looking.switch(false);
        tokens(&mut generation, WARM_UP, looking)?;
        let rounds = (context - WARM_UP - 3) / round_tokens;
        for _ in 0..rounds.min(args.rounds - ratios.len()) {
            let [mut off, mut on] = [0.0; 2];
            for part in [false, true, true, false] {
                looking.switch(part);
                let seconds = tokens(&mut generation, args.tokens, looking)?;
                let token_ms = seconds * 1e3 / args.tokens as f64;
                parts_ms[usize::from(part)].push(token_ms);
                *if part { &mut on } else { &mut off } += token_ms / 2.0;
            }
            ratios.push(on / off);
            off_ms.push(off);
            extra_us.push((on - off) * 1e3);
        }
        anyhow::ensure!(rounds > 0, "the context of {context} holds no round");
    }
    let (least, most) = median_between(&ratios);
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    println!(
        "{what}: {:+.2} % of a token of {:.3} ms, {:+.1} us ({} rounds, {:+.1} to {:+.1} %; median within {:+.2} to {:+.2} % with 95 %)",
        percent(ratios.median()),
        off_ms.median(),
        extra_us.median(),
        ratios.len(),
        percent(ratios.least()),
        percent(ratios.most()),
        percent(least),
        percent(most),
    );
    let [off, on] = parts_ms.map(|ms| fastest_tenth(&ms));
    println!(
        "{what}, the fastest tenth: {:+.2} % of a token of {off:.3} ms, {:+.1} us",
        percent(on / off),
        (on - off) * 1e3
    );
    Ok(())
}

/// Seconds that these tokens took, looking included.
fn tokens(
    generation: &mut Generation<'_, '_>,
    count: usize,
    looking: &mut impl Looking,
) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..count {
        let Some(piece) = generation.next() else {
            anyhow::bail!("the generation ended early");
        };
        piece?;
        for pass in generation.measured() {
            looking.pass(pass);
        }
    }
    Ok(started.elapsed().as_secs_f64())
}

/// What a tenth of the parts stayed under.
fn fastest_tenth(sample: &Sample) -> f64 {
    let mut sorted = sample.values().to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 10]
}

/// Between which values the true median lies with 95 %: by ranks, whatever the distribution.
fn median_between(sample: &Sample) -> (f64, f64) {
    let mut sorted = sample.values().to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let rank = ((count - 1.96 * count.sqrt()) / 2.0).max(0.0) as usize;
    (sorted[rank], sorted[sorted.len() - 1 - rank])
}

/// What `engine generate --profile` does beside generating: its summaries go to stderr.
struct Profile {
    streaming: Streaming,
    window: Window,
    on: bool,
    tokens: usize,
}

impl Looking for Profile {
    fn switch(&mut self, on: bool) {
        self.on = on;
        self.tokens = 0;
        self.window.clear();
    }

    fn pass(&mut self, pass: &Measured) {
        if !self.on {
            return;
        }
        self.window.add(&pass.timing, &pass.loads);
        self.tokens += 1;
        if self.tokens.is_multiple_of(SUMMARY_TOKENS) {
            let summary = Summary {
                token: self.tokens,
                window: &self.window,
                streaming: &self.streaming,
            };
            eprint!("{summary}");
            self.window.clear();
        }
    }
}

#[cfg(feature = "profiling")]
struct Spans(SpanLog);

#[cfg(feature = "profiling")]
impl Looking for Spans {
    fn switch(&mut self, on: bool) {
        self.0.pause(!on);
    }

    fn pass(&mut self, _: &Measured) {}
}
