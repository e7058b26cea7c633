//! The results as people read them.

use std::fmt::Write;

use engine::TrialRun;
use engine::profile::{PromptRate, Sample, is_too_low};

use crate::output::{three_digits, tokens};

use super::results::{Parts, Results, Row, SideResults, prompt_rate, wall_ms};

pub fn text(results: &Results) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text, results);
    text
}

fn write(to: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(
        to,
        "{}, {}; {} tokens after each prompt, {} rounds after {} to warm up",
        results.date,
        results.machine,
        results.tokens,
        results.rounds(),
        results.warmup
    )?;
    writeln!(
        to,
        "engine {} ({}): {}",
        results.origin.version,
        results.origin.commit.as_deref().unwrap_or("commit unknown"),
        results.origin.command
    )?;
    if results.interrupted {
        writeln!(
            to,
            "Interrupted: these are the runs that were complete. The last round may lack some prompts."
        )?;
    }
    for side in &results.sides {
        if !side.name.is_empty() {
            writeln!(to, "\n{}: {}", side.name, flags(side))?;
        }
        if let Some(run) = side.rows.first().and_then(|row| row.runs.last()) {
            writeln!(to, "{}", setting(run))?;
        }
        table(to, side)?;
        spread(to, side)?;
        together(to, side)?;
        utilisation(to, side)?;
        aggregate(to, side)?;
    }
    comparison(to, results)
}

fn flags(side: &SideResults) -> &str {
    match side.flags.as_str() {
        "" => "(no further flags)",
        flags => flags,
    }
}

fn setting(run: &TrialRun) -> String {
    let plan = &run.streaming.plan;
    let link = match (plan.streamed_count(), run.streaming.link.emulated_gbps) {
        (0, _) => String::new(),
        (_, Some(gbps)) => format!(", over an emulated link of {gbps} GB/s"),
        (_, None) => format!(
            ", from {} ({})",
            run.streaming.link.home.name(),
            run.streaming.link.access
        ),
    };
    format!(
        "{} of {} layers resident, {} streamed through {} slots{link}",
        plan.resident_count(),
        plan.layers(),
        plan.streamed_count(),
        plan.slots()
    )
}

fn table(to: &mut String, side: &SideResults) -> std::fmt::Result {
    writeln!(
        to,
        "\n{:<9} {:>5} {:>10} {:>8} {:>9} {:>10} {:>10} {:>10}\n----",
        "Label", "Words", "Wall (ms)", "Tok/s", "Mem (MB)", "Prefill", "Generate", "Decode"
    )?;
    for row in &side.rows {
        let parts = row.parts();
        let part = |ms: f64| format!("{ms:.0}ms ({:.0}%)", ms / parts.wall_ms * 100.0);
        let Parts {
            wall_ms,
            prefill_ms,
            generate_ms,
            decode_ms,
        } = parts;
        writeln!(
            to,
            "{:<9} {:>5} {wall_ms:>10.1} {:>8} {:>9} {:>11} {:>12} {:>10}",
            row.label,
            row.words.map_or("-".into(), |words| words.to_string()),
            three_digits(row.tokens_per_s().median()),
            megabytes(row),
            part(prefill_ms),
            part(generate_ms),
            part(decode_ms),
        )?;
    }
    Ok(())
}

fn megabytes(row: &Row) -> String {
    match row.runs.iter().filter_map(|run| run.memory_bytes).max() {
        Some(bytes) => format!("{:.0}", bytes as f64 / 1e6),
        None => "-".into(),
    }
}

fn spread(to: &mut String, side: &SideResults) -> std::fmt::Result {
    writeln!(
        to,
        "\n{:<9} {:>32}   {:>32}",
        "", "Tok/s: mean  median  std dev", "Wall (ms): mean  median  std dev"
    )?;
    for row in &side.rows {
        let three = |mean: f64, sample: &Sample| {
            format!(
                "{:>14} {:>7} {:>8}",
                three_digits(mean),
                three_digits(sample.median()),
                three_digits(sample.std_dev())
            )
        };
        let (rates, times) = (row.tokens_per_s(), row.sample(wall_ms));
        writeln!(
            to,
            "{:<9} {:>32}   {:>32}",
            row.label,
            three(rates.over_total_time(), &rates),
            three(times.mean(), &times)
        )?;
    }
    Ok(())
}

/// Several sequences at once, beside one.
fn together(to: &mut String, side: &SideResults) -> std::fmt::Result {
    let measured = side
        .rows
        .iter()
        .filter_map(|row| Some((row, row.together()?)));
    for (index, (row, (streams, rates, ratios))) in measured.enumerate() {
        if index == 0 {
            writeln!(to)?;
        }
        writeln!(
            to,
            "Together, {}: {streams} streams, {} in all, {} each; {:.2}x one ({:.2} to {:.2})",
            row.label,
            tokens(rates.median()),
            tokens(rates.median() / streams as f64),
            ratios.median(),
            ratios.least(),
            ratios.most()
        )?;
    }
    Ok(())
}

/// What the link carried, beside what it can.
fn utilisation(to: &mut String, side: &SideResults) -> std::fmt::Result {
    for row in &side.rows {
        prompt_share(to, row)?;
        memory_share(to, row)?;
        let shares: Sample = row
            .runs
            .iter()
            // Of an emulated link some was under way before; another's peak is the best that is
            // known.
            .filter_map(|run| Some(run.decode.link_gbps()? / run.streaming.peak_gbps?))
            .map(|share| 100.0 * share.min(1.0))
            .collect();
        let rates: Sample = row
            .runs
            .iter()
            .filter_map(|run| run.decode.link_gbps())
            .collect();
        if shares.is_empty() {
            continue;
        }
        let emulated = match row.runs[0].streaming.link.emulated_gbps {
            Some(_) => " (emulated)",
            None => "",
        };
        writeln!(
            to,
            "Link, {}: {} GB/s, {:.0}% of its peak ({:.0} to {:.0}%){emulated}",
            row.label,
            three_digits(rates.median()),
            shares.median(),
            shares.least(),
            shares.most()
        )?;
    }
    Ok(())
}

/// What the prompt's pass computed, beside what the processor can.
fn prompt_share(to: &mut String, row: &Row) -> std::fmt::Result {
    let rates: Vec<PromptRate> = row.runs.iter().filter_map(prompt_rate).collect();
    let Some(last) = rates.last() else {
        return Ok(());
    };
    let sample = |of: fn(&PromptRate) -> f64| -> Sample { rates.iter().map(of).collect() };
    let (gflops, shares) = (
        sample(|rate| rate.gflops),
        sample(|rate| rate.share * 100.0),
    );
    writeln!(
        to,
        "Prompt, {}: {} tokens at {}, {:.1} GFLOP/s while computing, {:.0}% of its peak ({:.0} to {:.0}%; {}){}",
        row.label,
        last.rows,
        tokens(sample(|rate| rate.tokens_per_s).median()),
        gflops.median(),
        shares.median(),
        shares.least(),
        shares.most(),
        last.peak.products,
        match is_too_low(shares.most() / 100.0) {
            true => "; over 100%: the peak was measured too low",
            false => "",
        }
    )
}

fn memory_share(to: &mut String, row: &Row) -> std::fmt::Result {
    let used = row.runs.iter().filter_map(|run| {
        let limit = run.streaming.memory.as_ref()?;
        limit.utilisation(&run.decode)
    });
    let (rates, shares): (Vec<f64>, Vec<f64>) =
        used.map(|used| (used.gbps, used.share * 100.0)).unzip();
    let (rates, shares) = (Sample::from_iter(rates), Sample::from_iter(shares));
    if shares.is_empty() {
        return Ok(());
    }
    writeln!(
        to,
        "Memory, {}: {} GB/s while computing, {:.0}% of what it can be read at ({:.0} to {:.0}%)",
        row.label,
        three_digits(rates.median()),
        shares.median(),
        shares.least(),
        shares.most()
    )
}

/// Over all runs of all prompts. A text has no audio, and so no lines of it.
fn aggregate(to: &mut String, side: &SideResults) -> std::fmt::Result {
    let all = |of: fn(&TrialRun) -> f64| -> Sample {
        side.rows.iter().flat_map(|row| &row.runs).map(of).collect()
    };
    let first = all(|run| run.timing.time_to_first_token_ms.unwrap_or(f64::NAN) / 1e3);
    let generation = all(|run| wall_ms(run) / 1e3);
    writeln!(
        to,
        "\nAGGREGATE PERFORMANCE METRICS:\n   \
         Average time to first byte: {:.3}s\n   \
         Average generation time: {:.3}s\n   \
         TTFB std dev: {:.3}s",
        first.mean(),
        generation.mean(),
        first.std_dev()
    )
}

fn comparison(to: &mut String, results: &Results) -> std::fmt::Result {
    let [a, b] = results.sides.as_slice() else {
        return Ok(());
    };
    writeln!(
        to,
        "\nB over A, tok/s, round by round (A: {}; B: {})",
        flags(a),
        flags(b)
    )?;
    for (label, ratio) in results.ratios() {
        let said = match ratio.is_noise() {
            true => "noise",
            false if ratio.median() > 1.0 => "B is faster",
            false => "A is faster",
        };
        writeln!(
            to,
            "{label:<9} {:.2}x (median of {}, {:.2} to {:.2}): {said}",
            ratio.median(),
            ratio.len(),
            ratio.least(),
            ratio.most()
        )?;
    }
    Ok(())
}
