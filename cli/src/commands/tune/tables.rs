//! What tuning found, as text and as JSON.

use std::fmt::Write;

use engine::profile::files::Origin;
use engine::profile::{CoreShares, is_too_low};
use serde::Serialize;

use super::advice::{Advice, Gain};
use super::{Tuned, Verified};
use crate::output::{Align, Table, memory, tokens};

pub fn text(tuned: &Tuned) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text, tuned);
    text
}

fn write(to: &mut String, tuned: &Tuned) -> std::fmt::Result {
    let rates = &tuned.rates;
    writeln!(to, "{}", tuned.machine)?;
    if let Some(gbps) = tuned.emulated_gbps {
        writeln!(to, "  link      {gbps} GB/s (emulated)")?;
    } else {
        writeln!(
            to,
            "  disk      {:.2} GB/s, the model's own files; a layer alone takes {:.3} ms longer",
            rates.disk_gbps, rates.disk_start_ms
        )?;
        writeln!(to, "  memory    {:.2} GB/s, copied", rates.ram_gbps)?;
    }
    writeln!(
        to,
        "  compute   {:.3} ms a layer, {:.3} ms a token outside the layers",
        rates.layer_ms, rates.other_ms
    )?;
    let disturbed = tuned.disturbed();
    if let Some(shares) = disturbed {
        writeln!(
            to,
            "  disturbed The {shares} while this was measured: rates and predictions may be wrong, \
             and so may the recommendation. Run again when the machine is quiet."
        )?;
    }
    writeln!(to)?;
    let Some(advice) = &tuned.advice else {
        return writeln!(
            to,
            "Interrupted before a plan was run: there is nothing to recommend."
        );
    };
    writeln!(to, "{}", table(tuned))?;
    if (tuned.verified.iter()).any(|verified| Row::of(verified).floor_too_low) {
        writeln!(
            to,
            "over 100%: faster than the rates above allow, so they were measured too low. Run again \
             when the machine is quiet."
        )?;
    }
    if tuned.interrupted {
        writeln!(
            to,
            "\nInterrupted: this is what was measured until then. Plans without a row were not run."
        )?;
    }
    writeln!(to, "\nRecommended:\n  {}", advice.command)?;
    let emulated = match tuned.emulated_gbps {
        Some(_) => " (emulated)",
        None => "",
    };
    match (&advice.more_memory, &advice.faster_link) {
        (None, None) => writeln!(
            to,
            "Every layer is resident: only faster compute or fewer bytes a weight would help."
        )?,
        // Predicted from rates that are too low.
        _ if disturbed.is_some() => {}
        (more, faster) => {
            if let Some(gain) = more {
                writeln!(to, "One more GiB of memory: {}{emulated}", said(gain))?;
            }
            if let Some(gain) = &advice.smaller_cache {
                let said = said(gain);
                writeln!(to, "--cache-type f16 or bf16: {said}{emulated}")?;
            }
            if let Some(gain) = faster {
                writeln!(to, "A link twice as fast: {}{emulated}", said(gain))?;
            }
        }
    }
    if let Some(sweep) = &tuned.sweep {
        writeln!(to, "\n{}", sweep.text(tuned))?;
    }
    Ok(())
}

fn said(gain: &Gain) -> String {
    let Gain {
        resident,
        tokens_per_s,
        ratio,
    } = gain;
    match *ratio {
        ratio if ratio < 1.01 => "nothing".into(),
        _ => format!(
            "N = {resident}, {} predicted, {ratio:.2}x",
            tokens(*tokens_per_s)
        ),
    }
}

fn table(tuned: &Tuned) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(
        &[
            Right, Right, Left, Left, Right, Right, Right, Right, Right, Left,
        ],
        0,
    );
    table.row(
        [
            "N",
            "slots",
            "resident",
            "weights",
            "memory",
            "predicted",
            "measured",
            "error",
            "of floor",
            "",
        ]
        .map(str::to_owned),
    );
    for (index, verified) in tuned.verified.iter().enumerate() {
        let row = Row::of(verified);
        table.row([
            row.resident.to_string(),
            row.slots.to_string(),
            row.spread.into(),
            row.home.unwrap_or("-").into(),
            memory(row.memory_bytes),
            tokens(row.predicted_tokens_per_s),
            tokens(row.measured_tokens_per_s),
            format!("{:+.1}%", row.error * 100.0),
            match row.floor_too_low {
                true => "over 100%".into(),
                false => format!("{:.0}%", row.share_of_floor * 100.0),
            },
            match (Some(index) == tuned.best, tuned.emulated_gbps) {
                (true, Some(_)) => "<- best (emulated)".into(),
                (true, None) => "<- best".into(),
                (false, Some(_)) => "(emulated)".into(),
                (false, None) => String::new(),
            },
        ]);
    }
    table
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub resident: usize,
    pub slots: usize,
    pub spread: &'static str,
    /// `None`: nothing is streamed.
    pub home: Option<&'static str>,
    pub memory_bytes: u64,
    pub floor_tokens_per_s: f64,
    pub predicted_tokens_per_s: f64,
    pub measured_tokens_per_s: f64,
    /// Predicted over measured, less one.
    pub error: f64,
    /// Measured over what no schedule exceeds.
    pub share_of_floor: f64,
    /// Faster than that: its rates were measured too low.
    pub floor_too_low: bool,
    pub values: Vec<f64>,
}

impl Row {
    pub fn of(verified: &Verified) -> Self {
        let plan = &verified.candidate.plan;
        let predicted = verified.candidate.prediction.tokens_per_s();
        let measured = verified.tokens_per_s.median();
        let share_of_floor = measured * verified.candidate.prediction.floor_ms / 1000.0;
        Self {
            resident: plan.resident_count(),
            slots: plan.slots(),
            spread: plan.spread().name(),
            home: (plan.streamed_count() > 0).then(|| verified.candidate.home.name()),
            memory_bytes: plan.total_bytes(),
            floor_tokens_per_s: 1000.0 / verified.candidate.prediction.floor_ms,
            predicted_tokens_per_s: predicted,
            measured_tokens_per_s: measured,
            error: predicted / measured - 1.0,
            share_of_floor,
            floor_too_low: is_too_low(share_of_floor),
            values: verified.tokens_per_s.values().to_vec(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Json<'a> {
    model: &'a str,
    origin: &'a Origin,
    machine: String,
    emulated_gbps: Option<f64>,
    memory_bytes: Option<u64>,
    rates: Rates,
    verified: Vec<Row>,
    best: Option<usize>,
    advice: Option<&'a Advice>,
    sweep: Option<Vec<Row>>,
    interrupted: bool,
}

#[derive(Debug, Serialize)]
struct Rates {
    disk_gbps: f64,
    /// What a copy takes longer on its own.
    disk_start_ms: f64,
    ram_gbps: f64,
    layer_ms: f64,
    other_ms: f64,
    /// Not `null`: the cores were not free, and the rates are too low.
    cores_lacking: Option<CoreShares>,
}

pub fn json(tuned: &Tuned) -> impl Serialize + '_ {
    let rates = &tuned.rates;
    let rows = |verified: &[Verified]| verified.iter().map(Row::of).collect();
    Json {
        model: &tuned.name,
        origin: &tuned.origin,
        machine: tuned.machine.to_string(),
        emulated_gbps: tuned.emulated_gbps,
        memory_bytes: tuned.memory_bytes,
        rates: Rates {
            disk_gbps: rates.disk_gbps,
            disk_start_ms: rates.disk_start_ms,
            ram_gbps: rates.ram_gbps,
            layer_ms: rates.layer_ms,
            other_ms: rates.other_ms,
            cores_lacking: tuned.disturbed(),
        },
        verified: rows(&tuned.verified),
        best: tuned.best,
        advice: tuned.advice.as_ref(),
        sweep: tuned.sweep.as_ref().map(|sweep| rows(&sweep.points)),
        interrupted: tuned.interrupted,
    }
}
