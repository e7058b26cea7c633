//! What a generation came to: one line for people, one object for programs.

use std::time::Duration;

use engine::profile::RunUtilisation;
use engine::profile::files::Origin;
use engine::{Ended, Model, Report, memory};
use serde::Serialize;

use super::executed::Executed;
use crate::args::Idle;
use crate::output::{self, milliseconds, seconds};

/// A finished run. `model` and the plan are kept apart from the model itself, which the session
/// has borrowed until the end.
#[derive(Debug)]
pub struct Finished {
    pub facts: Facts,
    pub report: Report,
    pub utilisation: RunUtilisation,
    /// Where it is written.
    pub origin: Option<Origin>,
    pub text: String,
    pub logprobs: Option<Vec<Likely>>,
}

/// A token and how likely it was.
#[derive(Debug, Serialize)]
pub struct Likely {
    pub token: u32,
    /// As the vocabulary spells it.
    pub piece: Option<String>,
    pub logprob: f32,
    /// The likeliest in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<Vec<Likely>>,
}

/// What is known before the first token.
#[derive(Debug)]
pub struct Facts {
    pub model: String,
    resident: usize,
    streamed: usize,
    slots: usize,
    home: Option<&'static str>,
    emulated_gbps: Option<f64>,
    /// With `--verify`: the reference of streamed loads, and whether there is a manifest.
    verify: Option<(Option<&'static str>, bool)>,
    load: Duration,
    executed: Executed,
}

#[derive(Debug, Serialize)]
struct Json<'a> {
    model: &'a str,
    origin: Option<&'a Origin>,
    text: &'a str,
    tokens: &'a [u32],
    /// There with `--logprobs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [Likely]>,
    prompt_tokens: usize,
    ended: Option<&'static str>,
    timing: Timing,
    plan: &'a Executed,
    offload: Offload,
    /// Rates beside their limits, where these were measured: with `--profile` and report files.
    utilisation: RunUtilisation,
    peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Timing {
    load_ms: f64,
    prefill_ms: f64,
    time_to_first_token_ms: Option<f64>,
    decode_ms: f64,
    tokens_per_s: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Offload {
    resident: usize,
    streamed: usize,
    slots: usize,
    home: Option<&'static str>,
    emulated_gbps: Option<f64>,
    loads_async: u64,
    loads_sync: u64,
    async_percent: Option<u64>,
    bytes: u64,
    stalled_ms: f64,
    /// `null` without `--verify`.
    verify: Option<Verify>,
}

#[derive(Debug, Serialize)]
struct Verify {
    /// What streamed loads were held against; `null` where nothing was streamed.
    reference: Option<&'static str>,
    manifest: bool,
    ms: f64,
    ms_per_pass: Option<f64>,
    share_of_passes: Option<f64>,
}

impl Facts {
    pub fn of(model: &Model, idle: Option<&Idle>) -> Self {
        let blueprint = model.blueprint();
        let plan = &blueprint.plan;
        let streams = plan.streamed_count() > 0;
        Self {
            model: blueprint.checkpoint.location().to_owned(),
            resident: plan.resident_count(),
            streamed: plan.streamed_count(),
            slots: plan.slots(),
            home: streams.then(|| blueprint.link.home.name()),
            emulated_gbps: blueprint.link.emulated_gbps.filter(|_| streams),
            verify: blueprint.verification.as_ref().map(|verification| {
                let reference = verification.reference(blueprint.link.home).name();
                (streams.then_some(reference), verification.has_manifest())
            }),
            load: model.loaded().time,
            executed: Executed::of(model, idle),
        }
    }
}

impl Finished {
    pub fn json(&self) -> impl Serialize + '_ {
        let Self {
            facts,
            report,
            origin,
            text,
            ..
        } = self;
        let totals = &report.totals;
        Json {
            origin: origin.as_ref(),
            model: &facts.model,
            text,
            tokens: &report.tokens,
            logprobs: self.logprobs.as_deref(),
            prompt_tokens: report.prompt_tokens,
            ended: report.ended.map(ended),
            timing: Timing {
                load_ms: milliseconds(facts.load),
                prefill_ms: milliseconds(totals.prompt.total),
                time_to_first_token_ms: report.time_to_first_token.map(milliseconds),
                decode_ms: milliseconds(totals.decode.total),
                tokens_per_s: totals.tokens_per_s(),
            },
            plan: &facts.executed,
            offload: Offload {
                resident: facts.resident,
                streamed: facts.streamed,
                slots: facts.slots,
                home: facts.home,
                emulated_gbps: facts.emulated_gbps,
                loads_async: totals.loads_async,
                loads_sync: totals.loads_sync,
                async_percent: totals.async_percent(),
                bytes: totals.bytes,
                stalled_ms: milliseconds(totals.stalled),
                verify: facts.verify.map(|(reference, manifest)| Verify {
                    reference,
                    manifest,
                    ms: milliseconds(totals.verify),
                    ms_per_pass: totals.verify_per_pass().map(|(ms, _)| ms),
                    share_of_passes: totals.verify_per_pass().map(|(_, share)| share),
                }),
            },
            utilisation: self.utilisation,
            peak_memory_bytes: memory::peak_bytes(),
        }
    }

    /// Tokens, tok/s, time to first token, async usage, peak memory.
    pub fn line(&self) -> String {
        let Self { facts, report, .. } = self;
        let totals = &report.totals;
        let mut parts = vec![match report.tokens.len() {
            1 => "1 token".to_owned(),
            tokens => format!("{tokens} tokens"),
        }];
        parts.push(match totals.tokens_per_s() {
            Some(rate) => output::tokens(rate),
            None => "- tok/s".into(),
        });
        parts.push(match report.time_to_first_token {
            Some(time) => format!("first token after {}", seconds(time)),
            None => "no first token".into(),
        });
        parts.push(match totals.async_percent() {
            Some(percent) => format!("async usage {percent}%"),
            None => "nothing streamed".into(),
        });
        if let Some((ms, share)) = totals.verify_per_pass() {
            parts.push(format!(
                "verified in {ms:.2} ms a pass ({:.1}%)",
                share * 100.0
            ));
        }
        if let Some(bytes) = memory::peak_bytes() {
            parts.push(format!("peak memory {}", output::memory(bytes)));
        }
        if let Some(gbps) = facts.emulated_gbps {
            parts.push(format!("emulated link of {gbps} GB/s"));
        }
        if let Some(ended) = report.ended {
            parts.push(why(ended).into());
        }
        parts.join(", ")
    }
}

/// The same for people.
pub fn why(ended: Ended) -> &'static str {
    match ended {
        Ended::EndOfText => "ended: end of text",
        Ended::GrammarComplete => "ended: grammar complete",
        Ended::StopString => "ended: stop string",
        Ended::MaxNewTokens => "ended: max new tokens reached",
        Ended::ContextFull => "ended: context full",
        Ended::Interrupted => "interrupted",
        Ended::Failed => "failed",
    }
}

/// The word of the reports.
pub fn ended(ended: Ended) -> &'static str {
    match ended {
        Ended::EndOfText => "end_of_text",
        Ended::GrammarComplete => "grammar_complete",
        Ended::StopString => "stop_string",
        Ended::MaxNewTokens => "max_new_tokens",
        Ended::ContextFull => "context_full",
        Ended::Interrupted => "interrupted",
        Ended::Failed => "failed",
    }
}
