//! `/stats`: how full the context is, and what the last answer took. It must not know what was
//! said.

use engine::Report;
use engine::profile::{Streaming, Window};

use crate::output::{self, gigabytes, seconds, three_digits};

/// The last answer.
#[derive(Debug)]
pub struct Last {
    pub report: Report,
    pub cached_tokens: usize,
}

/// A line for each matter. `held`: positions that are taken.
pub fn lines(
    (held, context): (usize, usize),
    last: Option<&Last>,
    window: &Window,
    streaming: &Streaming,
) -> Vec<String> {
    let mut lines = vec![format!("context    {held} of {context} positions")];
    let Some(last) = last else {
        lines.push("last turn  none yet".to_owned());
        return lines;
    };
    let (report, totals) = (&last.report, &last.report.totals);
    lines.push(format!(
        "last turn  {} tokens of prompt, {} of them cached; {} tokens of answer",
        report.prompt_tokens,
        last.cached_tokens,
        report.tokens.len()
    ));
    let rate = totals
        .tokens_per_s()
        .map_or("- tok/s".into(), output::tokens);
    lines.push(match report.time_to_first_token {
        Some(time) => format!("speed      {rate}, first token after {}", seconds(time)),
        None => format!("speed      {rate}, no first token"),
    });
    let passes = totals.prompt.total + totals.decode.total;
    lines.push(format!(
        "stalled    {} of {}",
        seconds(totals.stalled),
        seconds(passes)
    ));
    lines.push(match totals.async_percent() {
        None => "link       nothing streamed".to_owned(),
        Some(percent) => {
            let mut line = format!(
                "link       {}, async usage {percent}%",
                gigabytes(totals.bytes)
            );
            if let Some(gbps) = window.link_gbps() {
                line.push_str(&format!(", {} GB/s", three_digits(gbps)));
                if let Some(share) = streaming.link_percent(gbps) {
                    line.push_str(&format!(", {share} the link's peak"));
                }
            }
            line
        }
    });
    lines
}
