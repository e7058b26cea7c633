//! `timing.tsv`: the stages of the run, then its decode steps, as a table for scripts.

use std::io::{self, Write};
use std::time::Duration;

use super::super::timing::{StageNode, Timing};
use super::super::window::ms;
use super::{Row, RunRecord};

/// Writes the table.
pub fn write_tsv(run: &RunRecord<'_>, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "Stage\tTime(ms)\tCount\tAvg(ms)\tTotal(ms)")?;
    match run.rows {
        [] => stages(run.timing, to)?,
        rows => {
            for Row { name, time, count } in rows {
                row(to, name, *time, *count as u64, *time)?;
            }
        }
    }
    let mut total = Duration::ZERO;
    let steps = run.recording.steps.iter().skip(run.prompt_passes());
    for (index, step) in (1..).zip(steps) {
        total += step.timing.total;
        row(to, &format!("step[{index}]"), step.timing.total, 1, total)?;
    }
    if run.recording.left_out > 0 {
        let all = run.timing.totals().decode.total;
        let count = run.recording.left_out as u64;
        row(to, "steps_left_out", all.saturating_sub(total), count, all)?;
    }
    Ok(())
}

/// One row a stage, named by its path.
fn stages(timing: &Timing, to: &mut impl Write) -> io::Result<()> {
    let mut path: Vec<&str> = Vec::new();
    let tree = timing.tree();
    for (depth, StageNode { stage, time, .. }) in tree.walk() {
        path.truncate(depth);
        path.push(stage.name());
        row(to, &path.join("/"), time.wall, time.count, time.wall)?;
    }
    Ok(())
}

fn row(
    to: &mut impl Write,
    name: &str,
    time: Duration,
    count: u64,
    total: Duration,
) -> io::Result<()> {
    writeln!(
        to,
        "{name}\t{:.4}\t{count}\t{:.4}\t{:.4}",
        ms(time),
        ms(time) / count.max(1) as f64,
        ms(total)
    )
}
