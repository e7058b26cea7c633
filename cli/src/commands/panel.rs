//! The panel of `--profile=live`, drawn: figures and a width in, lines of text out. Knows no
//! terminal and no clock.

use std::collections::BTreeMap;

use engine::profile::{Streaming, Window};
use loader::units::rate;
use offload::{LayerIndex, LoadKind, StackId};

use crate::output::{Console, Style, memory, tokens};

/// Waits that together are below this share of a token are called hidden, here as in the verdict.
const HIDDEN_SHARE: f64 = 0.05;

/// Labels are this wide, and what belongs to them is indented by it.
const LABEL: usize = 9;

/// What stands in a panel.
#[derive(Debug)]
pub struct Panel<'a> {
    pub tokens: usize,
    /// The last few tokens.
    pub now: &'a Window,
    /// Over the whole run; `None` before the second token.
    pub mean_tokens_per_s: Option<f64>,
    pub streaming: &'a Streaming,
    pub memory_bytes: Option<u64>,
}

/// What became of a layer in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Resident,
    /// Every load was ahead, and what was waited for it does not count.
    Ready,
    /// Every load was ahead, and it was waited for all the same.
    Late,
    Sync,
    /// Not visited yet.
    Unseen,
}

impl Panel<'_> {
    /// At most `columns` wide, each.
    pub fn lines(&self, columns: usize, console: &Console) -> Vec<String> {
        // The last column is left alone: not every terminal wraps after it in the same way.
        let page = Page {
            width: columns.saturating_sub(1).max(1),
            console,
        };
        let mut lines = vec![page.rule(&self.heading())];
        if !self.now.is_empty() {
            for (label, text) in self.facts() {
                lines.extend(page.flow(label, words(&text)));
            }
        }
        let stacks = self.cells();
        for (stack, cells) in &stacks {
            if stacks.len() > 1 {
                let name = match self.streaming.names.name(*stack) {
                    Some(name) => name.to_owned(),
                    None => format!("stack {}", stack.0),
                };
                lines.extend(page.flow("", vec![(None, name)]));
            }
            lines.extend(page.strip(cells));
        }
        lines.extend(page.flow("", legend()));
        lines
    }

    fn heading(&self) -> String {
        let emulated = match self.streaming.link.emulated_gbps {
            Some(_) => ", emulated link",
            None => "",
        };
        format!("token {}{emulated}", self.tokens)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Self { now, streaming, .. } = self;
        let mean = match self.mean_tokens_per_s {
            Some(rate) => format!(", {} mean", tokens(rate)),
            None => String::new(),
        };
        // A pass that serves several sequences gives each of them a token.
        let each = now.tokens_per_pass();
        let mut facts = vec![
            (
                "Speed:",
                format!("{} now{mean}", tokens(now.tokens_per_s())),
            ),
            (
                "Token:",
                format!(
                    "{:.1} ms = compute {:.1} + stalled {:.1} + other {:.1} ({:.0}% stalled)",
                    now.token_ms() / each,
                    now.compute_ms() / each,
                    now.stalled_ms() / each,
                    now.other_ms() / each,
                    now.stalled_ms() / now.token_ms() * 100.0,
                ),
            ),
            ("Link:", self.link()),
            ("Async:", self.ahead()),
        ];
        if let Some(bytes) = self.memory_bytes {
            facts.push(("Memory:", memory(bytes)));
        }
        let verdict = format!("{}{}", streaming.verdict(now), self.emulated());
        facts.push(("Verdict:", verdict));
        facts
    }

    fn link(&self) -> String {
        let Some(gbps) = self.now.link_gbps() else {
            return "nothing is streamed".into();
        };
        let (peak, emulated) = (self.streaming.peak_gbps, self.emulated());
        let found = match emulated {
            "" => "measured",
            _ => "set",
        };
        match peak.zip(self.streaming.link_percent(gbps)) {
            Some((peak, percent)) => format!(
                "{} GB/s, {percent} the {} GB/s {found}{emulated}",
                rate(gbps),
                rate(peak),
            ),
            None => format!("{} GB/s; its peak was not measured{emulated}", rate(gbps)),
        }
    }

    fn ahead(&self) -> String {
        let layers = self.now.layers().len();
        let ahead = (self.now.layers())
            .filter(|layer| layer.kind == LoadKind::Async)
            .count();
        match (ahead * 100).checked_div(layers) {
            Some(percent) => format!("{ahead}/{layers} layers ({percent}%)"),
            None => "no layer is streamed".into(),
        }
    }

    fn emulated(&self) -> &'static str {
        match self.streaming.link.emulated_gbps {
            Some(_) => " (emulated)",
            None => "",
        }
    }

    /// Of each stack. What stays is known of the one that the plan is for; of others, as many layers
    /// as were loaded.
    fn cells(&self) -> BTreeMap<StackId, Vec<Cell>> {
        let plan = &self.streaming.plan;
        let planned = LayerIndex::first(plan.layers()).map(|layer| match plan.is_streamed(layer) {
            true => Cell::Unseen,
            false => Cell::Resident,
        });
        let mut stacks = BTreeMap::from([(self.streaming.stack, planned.collect::<Vec<_>>())]);
        // A layer's part of what all of them may wait together: where every cell says `ready`, the
        // stalls of a token are hidden.
        let hidden_ms = self.now.token_ms() * HIDDEN_SHARE / plan.streamed_count().max(1) as f64;
        for layer in self.now.layers() {
            let cells = stacks.entry(layer.block.stack).or_default();
            let place = layer.block.layer.as_usize();
            cells.resize(cells.len().max(place + 1), Cell::Unseen);
            cells[place] = match layer.kind {
                LoadKind::Sync => Cell::Sync,
                LoadKind::Async if layer.pre_ms < hidden_ms => Cell::Ready,
                LoadKind::Async => Cell::Late,
            };
        }
        stacks
    }
}

impl Cell {
    fn symbol(self) -> char {
        match self {
            Self::Resident => '.',
            Self::Ready => '=',
            Self::Late => '~',
            Self::Sync => '!',
            Self::Unseen => '?',
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Resident | Self::Unseen => Style::Faint,
            Self::Ready => Style::Green,
            Self::Late => Style::Yellow,
            Self::Sync => Style::Red,
        }
    }
}

/// A word is never broken where there is another way, and may have spaces inside.
type Word = (Option<Style>, String);

fn words(text: &str) -> Vec<Word> {
    text.split(' ')
        .map(|word| (None, word.to_owned()))
        .collect()
}

fn legend() -> Vec<Word> {
    let meanings = [
        (Cell::Resident, "resident,"),
        (Cell::Ready, "ready in time,"),
        (Cell::Late, "late (waited for),"),
        (Cell::Sync, "SYNC"),
    ];
    meanings
        .map(|(cell, is)| (Some(cell.style()), format!("{} {is}", cell.symbol())))
        .into()
}

struct Page<'a> {
    width: usize,
    console: &'a Console,
}

impl Page<'_> {
    fn rule(&self, heading: &str) -> String {
        let rule = format!("--- {heading} {}", "-".repeat(self.width));
        let cut: String = rule.chars().take(self.width).collect();
        self.console.paint(Style::Faint, &cut)
    }

    /// As many words to a line as go into it, under a label.
    fn flow(&self, label: &str, mut words: Vec<Word>) -> Vec<String> {
        let beside = !label.is_empty() && self.width > 2 * LABEL;
        if !beside && !label.is_empty() {
            words.insert(0, (Some(Style::Bold), label.to_owned()));
        }
        let (mut line, indent) = match beside {
            true => {
                let gap = " ".repeat(LABEL - label.len());
                (self.console.paint(Style::Bold, label) + &gap, LABEL)
            }
            false => (String::new(), 0),
        };
        let mut taken = indent;
        let mut lines = Vec::new();
        for (style, word) in words {
            let mut rest = word.as_str();
            while !rest.is_empty() {
                let gap = usize::from(taken > indent);
                if taken > indent && taken + gap + rest.chars().count() > self.width {
                    lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                    taken = indent;
                    continue;
                }
                let room = self.width - taken - gap;
                let end = rest
                    .char_indices()
                    .nth(room)
                    .map_or(rest.len(), |(byte, _)| byte);
                let (part, more) = rest.split_at(end);
                line.push_str(&" ".repeat(gap));
                line.push_str(&match style {
                    Some(style) => self.console.paint(style, part),
                    None => part.to_owned(),
                });
                taken += gap + part.chars().count();
                rest = more;
            }
        }
        lines.push(line);
        lines
    }

    /// One cell a layer, under the index of each row's first.
    fn strip(&self, cells: &[Cell]) -> Vec<String> {
        let index = match self.width {
            ..10 => 0,
            _ => cells.len().to_string().len(),
        };
        let room = match index {
            0 => self.width,
            index => self.width - index - 1,
        };
        let in_row = match room {
            ..10 => room,
            room => room / 10 * 10,
        };
        let row = |(row, cells): (usize, &[Cell])| {
            let label = match index {
                0 => String::new(),
                index => format!("{:index$} ", row * in_row),
            };
            label + &self.cells(cells)
        };
        cells.chunks(in_row).enumerate().map(row).collect()
    }

    fn cells(&self, cells: &[Cell]) -> String {
        let alike = cells.chunk_by(|one, other| one == other);
        alike
            .map(|run| {
                let symbols = run[0].symbol().to_string().repeat(run.len());
                self.console.paint(run[0].style(), &symbols)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
