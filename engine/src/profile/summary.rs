//! The offload summary of `--profile`: the format to the letter, below it what the tags hide.

use std::fmt;
use std::time::Duration;

use loader::units::{gigabytes, rate};
use offload::LoadKind;

use super::peak::PercentOf;
use super::window::{Streaming, Window};
use crate::machine::CoreShares;

/// A summary is due after this long even if its tokens have not all come.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(5);

/// A window, ready to be printed.
#[derive(Debug)]
pub struct Summary<'a> {
    pub token: usize,
    pub window: &'a Window,
    pub streaming: &'a Streaming,
}

/// What limits the run, without a line for each layer.
#[derive(Debug)]
pub struct Limits<'a>(pub Summary<'a>);

impl fmt::Display for Limits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.limits(f)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "=".repeat(80);
        writeln!(
            f,
            "{rule}\nPROFILING SUMMARY - Token {}\n{rule}",
            self.token
        )?;
        self.layers(f)?;
        self.limits(f)
    }
}

impl Summary<'_> {
    fn layers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = self.window.layers().len();
        if layers == 0 {
            return writeln!(f, "Async usage: no layer is streamed");
        }
        let ahead = self
            .window
            .layers()
            .filter(|layer| layer.kind == LoadKind::Async)
            .count();
        writeln!(
            f,
            "Async usage: {ahead}/{layers} layers ({}%)",
            ahead * 100 / layers
        )?;
        for layer in self.window.layers() {
            let mark = if layer.problem { "   <-- PROBLEM!" } else { "" };
            writeln!(
                f,
                "  Layer {:>2}: Pre={:6.2}ms  Post={:6.2}ms  [{}]{mark}",
                self.streaming.names.label(layer.block, self.has_stacks()),
                layer.pre_ms,
                layer.post_ms,
                layer.kind
            )?;
        }
        Ok(())
    }

    /// Whether layers are named with their stack.
    fn has_stacks(&self) -> bool {
        self.streaming.names.are_there() || self.window.has_stacks()
    }

    fn limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let means = self.window.means();
        let limit = self.streaming.limit(means);
        // A pass that serves several sequences gives each of them a token.
        let tokens = means.tokens_per_pass();
        let emulated = match self.streaming.link.emulated_gbps {
            Some(_) => " (emulated)",
            None => "",
        };
        if let Some(rate) = self.window.prompt_rate(self.streaming) {
            let lacking = self
                .streaming
                .arithmetic
                .as_ref()
                .and_then(|limit| limit.lacking);
            writeln!(f, "Prompt: {rate}{}{emulated}", measured_too_low(lacking))?;
        }
        if let Some(gbps) = self.window.link_gbps() {
            write!(
                f,
                "Link:  {}/token at {} GB/s",
                gigabytes((means.bytes_per_pass() / tokens) as u64),
                rate(gbps)
            )?;
            match self
                .streaming
                .peak_gbps
                .zip(self.streaming.link_percent(gbps))
            {
                Some((peak, percent)) if emulated.is_empty() => writeln!(
                    f,
                    ", {percent} the {} GB/s measured on this link{}",
                    rate(peak),
                    measured_too_low(self.streaming.peak_lacking)
                )?,
                Some((peak, percent)) => {
                    let slow = self.streaming.slow_bus_gbps(means);
                    let slow = slow.map(|gbps| {
                        format!(", whose copies in memory reach {} GB/s here", rate(gbps))
                    });
                    writeln!(
                        f,
                        ", {percent} the {} GB/s set on this link{}{emulated}",
                        rate(peak),
                        slow.unwrap_or_default()
                    )?;
                }
                None => writeln!(f, "; the link's peak was not measured{emulated}")?,
            }
        }
        if let Some(limit) = &self.streaming.memory
            && let Some(memory) = limit.utilisation(self.window)
        {
            writeln!(
                f,
                "Memory: weights and cache read at {} GB/s while computing, {} the {} GB/s measured{}",
                rate(memory.gbps),
                PercentOf(memory.share),
                rate(limit.gbps),
                measured_too_low(limit.lacking)
            )?;
        }
        if let Some(verify_ms) = means.verify_ms() {
            writeln!(
                f,
                "Verify: {:.2} ms/token for checksums, {:.1}% of a token, on a thread of its own",
                verify_ms / tokens,
                verify_ms / means.token_ms() * 100.0
            )?;
        }
        write!(
            f,
            "Token: {:.1} ms = compute {:.1} + stalled {:.1} + other {:.1}",
            means.token_ms() / tokens,
            means.compute_ms() / tokens,
            means.stalled_ms() / tokens,
            means.other_ms() / tokens,
        )?;
        let tokens_per_s = means.tokens_per_s(means.token_ms());
        match self.window.cores().lacking() {
            // The floor has the window's own compute in it, which was held up.
            Some(_) => writeln!(
                f,
                " | floor not known, the cores were not free | {} tok/s{emulated}",
                rate(tokens_per_s)
            )?,
            None => writeln!(
                f,
                " | floor {:.1} ms | {} tok/s of {} possible{emulated}",
                limit.floor_ms / tokens,
                rate(tokens_per_s),
                rate(means.tokens_per_s(limit.floor_ms)),
            )?,
        }
        writeln!(
            f,
            "Verdict: {}{emulated}",
            self.streaming.verdict(self.window)
        )
    }
}

/// What is added to a limit that was measured while the cores were not free.
fn measured_too_low(lacking: Option<CoreShares>) -> &'static str {
    match lacking {
        Some(_) => " (too low: the cores were not free)",
        None => "",
    }
}

#[cfg(test)]
mod tests;
