//! The report for programs: the same numbers, with their units in their names.

use engine::diagnosis::Symptoms;
use engine::profile::Sample;
use engine::{CheckupRun, LeftOut};
use serde_json::{Value, json};

use super::text::first_middle_last;
use super::{Report, why};

pub fn of(report: &Report) -> Value {
    let (facts, machine, run) = (&report.facts, &report.machine, &report.runs.as_given);
    let budget = report.runs.budget();
    let row = |row: &engine::diagnosis::BudgetRow| {
        json!({
            "part": row.part,
            "layers": row.layers,
            "predicted_ms": row.predicted_ms,
            "measured_ms": row.measured_ms,
            "error": row.error(),
        })
    };
    json!({
        "model": facts.model,
        "origin": super::super::origin::of_this_run(None),
        "layers": facts.layers,
        "block_bytes": facts.block_bytes,
        "dtype": facts.dtype,
        "prompt_tokens": facts.prompt_tokens,
        "new_tokens": facts.new_tokens,
        "repeats": facts.repeats,
        "rounds": report.rounds,
        "interrupted": report.interrupted,
        "emulated": report.emulated_gbps().is_some(),
        "emulated_gbps": report.emulated_gbps(),
        "machine": {
            "processor": machine.processor,
            "cores": machine.cores,
            "memory_bytes": machine.memory_bytes,
            "kernels": machine.kernels,
            "access": run.streams().then_some(&run.streaming.link.access),
            "link_peak_gbps": run.streaming.peak_gbps,
            "memory_copy_gbps": report.memory_copy_gbps,
        },
        "left_out": report.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "runs": report.named_runs().into_iter().map(one_run).collect::<Vec<_>>(),
        "metrics": run.metrics().iter().map(|metric| json!({
            "name": metric.name,
            "value": metric.value,
            "guide": metric.guide.name(),
            "measured": metric.measured.name(),
        })).collect::<Vec<_>>(),
        "stages": run.tree.walk().into_iter().map(|(depth, node)| json!({
            "name": node.stage.name(),
            "depth": depth,
            "wall_ms": node.time.wall.as_secs_f64() * 1000.0,
            "count": node.time.count,
            "share": node.share,
        })).collect::<Vec<_>>(),
        "budget": {
            "independent": budget.independent,
            "parts": budget.rows.iter().map(row).collect::<Vec<_>>(),
            "total": row(&budget.total),
        },
        "diagnoses": report.runs.diagnose().iter().map(|diagnosis| json!({
            "name": diagnosis.name(),
            "weight_ms": diagnosis.weight_ms(),
            "text": diagnosis.to_string(),
        })).collect::<Vec<_>>(),
        "comparisons": report.runs.compare().iter().map(|comparison| json!({
            "name": comparison.name(),
            "cause": match comparison {
                engine::diagnosis::Comparison::Overhead { cause, .. } => Some(cause.name()),
                _ => None,
            },
            "ratio": sample(comparison.ratio()),
            "noise": comparison.ratio().is_noise(),
            "text": comparison.to_string(),
        })).collect::<Vec<_>>(),
        "report_back": {
            "async_percent": run.async_percent(),
            "layers_async": run.layers_ahead(),
            "layers_sync": run.layers.len() - run.layers_ahead(),
            "layers": first_middle_last(&run.layers).into_iter().map(|(which, layer)| json!({
                "which": which,
                "layer": layer.block.layer.as_usize(),
                "pre_ms": layer.pre_ms,
                "post_ms": layer.post_ms,
                "tag": layer.kind.to_string(),
            })).collect::<Vec<_>>(),
            "token_ms_with_offload": run.token_ms.median(),
            "token_ms_without_offload":
                report.runs.no_offload.as_ref().map(|run| run.token_ms.median()),
        },
    })
}

fn one_run((which, run): (CheckupRun, &Symptoms)) -> Value {
    let plan = &run.streaming.plan;
    json!({
        "run": which.name(),
        "resident": plan.resident_count(),
        "streamed": plan.streamed_count(),
        "slots": plan.slots(),
        "plan_bytes": plan.total_bytes(),
        "memory_bytes": run.memory_bytes,
        "tokens_per_s": sample(&run.tokens_per_s()),
        "token_ms": sample(&run.token_ms),
        "first_token_ms": sample(&run.first_token_ms),
        "compute_ms": run.token.compute_ms,
        "stalled_ms": run.token.stalled_ms,
        "other_ms": run.token.other_ms,
        "async_percent": run.async_percent(),
        "link_gbps": run.link_gbps(),
        "link_peak_gbps": run.streaming.peak_gbps,
        "link_share": run.link_share(),
        "memory_gbps": run.memory_read.map(|read| read.gbps),
        "memory_peak_gbps": run.streaming.memory.map(|limit| limit.gbps),
        "memory_share": run.memory_read.map(|read| read.share),
        "emulated": run.emulated_gbps().is_some(),
    })
}

fn sample(sample: &Sample) -> Value {
    json!({
        "median": sample.median(),
        "least": sample.least(),
        "most": sample.most(),
        "rounds": sample.values(),
    })
}

fn left_out(left_out: &LeftOut) -> Value {
    match *left_out {
        LeftOut::TooLarge {
            which,
            resident,
            needed_bytes,
            memory_bytes,
        } => json!({
            "run": which.name(),
            "reason": "too_large",
            "resident": resident,
            "needed_bytes": needed_bytes,
            "memory_bytes": memory_bytes,
            "text": why(left_out),
        }),
        LeftOut::SameAs { which, other } => json!({
            "run": which.name(),
            "reason": "same_as",
            "other": other.name(),
            "text": why(left_out),
        }),
    }
}
