//! The panel of `--profile=live`, drawn: figures and a width in, lines of text out. Knows no
//! terminal and no clock.

use engine::profile::{Streaming, Window};
use loader::units::rate;
use offload::{LayerIndex, LoadKind};

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
        lines.extend(page.strip(&self.cells()));
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
        let mut facts = vec![
            (
                "Speed:",
                format!("{} now{mean}", tokens(1000.0 / now.token_ms())),
            ),
            (
                "Token:",
                format!(
                    "{:.1} ms = compute {:.1} + stalled {:.1} + other {:.1} ({:.0}% stalled)",
                    now.token_ms(),
                    now.compute_ms(),
                    now.stalled_ms(),
                    now.other_ms(),
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

    fn cells(&self) -> Vec<Cell> {
        let plan = &self.streaming.plan;
        let mut cells: Vec<Cell> = LayerIndex::first(plan.layers())
            .map(|layer| match plan.is_streamed(layer) {
                true => Cell::Unseen,
                false => Cell::Resident,
            })
            .collect();
        // A layer's part of what all of them may wait together: where every cell says `ready`, the
        // stalls of a token are hidden.
        let hidden_ms = self.now.token_ms() * HIDDEN_SHARE / plan.streamed_count().max(1) as f64;
        for layer in self.now.layers() {
            cells[layer.block.layer.as_usize()] = match layer.kind {
                LoadKind::Sync => Cell::Sync,
                LoadKind::Async if layer.pre_ms < hidden_ms => Cell::Ready,
                LoadKind::Async => Cell::Late,
            };
        }
        cells
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
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use engine::profile::{PassTiming, Stage};
    use offload::{
        BlockCost, BlockId, Costs, FixedBytes, Home, LinkInfo, LoadRecord, PlanRequest, Residency,
        ResidencyPlan, Spread, StackId,
    };

    use super::*;

    fn streaming(layers: usize, resident: usize, emulated_gbps: Option<f64>) -> Streaming {
        Streaming {
            plan: ResidencyPlan::new(&PlanRequest {
                costs: Arc::new(Costs::uniform(layers, BlockCost::of_slab(466_000_000))),
                fixed: FixedBytes::default(),
                residency: Residency::Layers(resident),
                spread: Spread::Even,
                slots: 2,
                memory_bytes: None,
                reserve: Default::default(),
                host: None,
            })
            .unwrap(),
            link: LinkInfo {
                home: Home::Ram,
                access: "memory copy".into(),
                emulated_gbps,
            },
            prefetch: true,
            peak_gbps: Some(25.6),
            peak_lacking: None,
            arithmetic: None,
            memory: None,
        }
    }

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    /// One token of 151.2 ms; `load` says what became of each streamed layer.
    fn window(streaming: &Streaming, load: impl Fn(usize) -> (LoadKind, f64)) -> Window {
        let now = Instant::now();
        let loads: Vec<LoadRecord> = (streaming.plan.streamed())
            .enumerate()
            .map(|(index, layer)| {
                let (kind, pre_ms) = load(index);
                LoadRecord {
                    block: BlockId::new(StackId(0), layer),
                    kind,
                    slot: 0,
                    bytes: 466_000_000,
                    issued_at: now,
                    copy_from: now,
                    copy_to: now + ms(18.8),
                    asked_at: now,
                    visit_to: now + ms(pre_ms),
                    pre: ms(pre_ms),
                    post: ms(0.1),
                    verify: Duration::ZERO,
                }
            })
            .collect();
        let mut pass = PassTiming {
            rows: 1,
            total: ms(151.2),
            ..PassTiming::default()
        };
        pass.stages[Stage::Mlp].wall = ms(19.8);
        pass.stages[Stage::Transfer].wall = ms(130.9);
        let mut window = Window::default();
        window.add(&pass, &loads);
        window
    }

    fn drawn(streaming: &Streaming, now: &Window, columns: usize, colour: bool) -> Vec<String> {
        let panel = Panel {
            tokens: 57,
            now,
            mean_tokens_per_s: Some(6.4),
            streaming,
            memory_bytes: Some(6 << 30),
        };
        panel.lines(columns, &Console::with_colour(colour))
    }

    fn without_colours(line: &str) -> String {
        let mut parts = line.split('\x1b');
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |line, part| line + part.split_once('m').unwrap().1)
    }

    fn mixed(index: usize) -> (LoadKind, f64) {
        match index {
            0 => (LoadKind::Sync, 45.0),
            1 | 2 => (LoadKind::Async, 40.0),
            _ => (LoadKind::Async, 0.9),
        }
    }

    #[test]
    fn a_panel_at_80_columns() {
        let streaming = streaming(28, 20, None);
        let lines = drawn(&streaming, &window(&streaming, mixed), 80, false);
        let expected = [
            "--- token 57 ------------------------------------------------------------------",
            "Speed:   6.61 tok/s now, 6.40 tok/s mean",
            "Token:   151.2 ms = compute 19.8 + stalled 130.9 + other 0.5 (87% stalled)",
            "Link:    24.7 GB/s, 96% of the 25.6 GB/s measured",
            "Async:   7/8 layers (87%)",
            "Memory:  6.00 GiB",
            "Verdict: link-bound. Some loads came late; 2 more resident layers would give",
            "         +2.3 tok/s.",
            " 0 !..~...~..=...=..=...=..=...",
            ". resident, = ready in time, ~ late (waited for), ! SYNC",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_cell_is_ready_when_its_part_of_the_stalls_is_hidden() {
        // 5 % of 151.2 ms over 8 layers: 0.945 ms each.
        let streaming = streaming(8, 0, None);
        let pre = |pre_ms| window(&streaming, move |_| (LoadKind::Async, pre_ms));
        let strip = |pre_ms| drawn(&streaming, &pre(pre_ms), 80, false)[8].clone();
        assert_eq!(strip(0.94), "0 ========");
        assert_eq!(strip(0.95), "0 ~~~~~~~~");
    }

    #[test]
    fn no_width_is_exceeded_and_no_layer_lost() {
        for layers in [1, 2, 9, 10, 11, 28, 99, 100, 101, 200] {
            for resident in [0, layers / 3, layers] {
                let streaming = streaming(layers, resident, Some(25.6));
                let window = window(&streaming, mixed);
                for columns in [1, 2, 5, 9, 10, 11, 12, 20, 39, 40, 41, 79, 80, 132, 300] {
                    let lines = drawn(&streaming, &window, columns, false);
                    let wide = lines.iter().find(|line| line.chars().count() > columns);
                    assert_eq!(wide, None, "{layers} {resident} {columns}");
                    let coloured = drawn(&streaming, &window, columns, true);
                    let bare: Vec<String> =
                        coloured.iter().map(|line| without_colours(line)).collect();
                    assert_eq!(bare, lines);
                    if columns >= 20 {
                        let is_cell = |symbol: &char| ".=~!?".contains(*symbol);
                        let strip = lines.iter().filter_map(|line| {
                            let (index, cells) = line.trim_start().split_once(' ')?;
                            index.parse::<usize>().ok()?;
                            cells.chars().all(|cell| is_cell(&cell)).then_some(cells)
                        });
                        let cells: String = strip.collect();
                        assert_eq!(cells.len(), layers, "{columns} {lines:?}");
                        let still = cells.chars().filter(|&cell| cell == '.').count();
                        assert_eq!(still, resident);
                    }
                }
            }
        }
    }

    #[test]
    fn colours_are_reset_on_every_line() {
        let streaming = streaming(28, 20, None);
        let lines = drawn(&streaming, &window(&streaming, mixed), 40, true);
        for line in &lines {
            let set = line.matches("\x1b[").count();
            assert_eq!(set, 2 * line.matches("\x1b[0m").count(), "{line:?}");
        }
        let strip = &lines[lines.len() - 3];
        assert!(
            strip.starts_with(" 0 \x1b[1;31m!\x1b[0m\x1b[2m..\x1b[0m\x1b[33m~"),
            "{lines:?}"
        );
    }

    #[test]
    fn nothing_streamed_and_an_emulated_link_say_so() {
        let resident = streaming(28, 28, None);
        let text = drawn(&resident, &window(&resident, mixed), 80, false).join("\n");
        assert!(text.contains("Link:    nothing is streamed\n"), "{text}");
        assert!(text.contains("Async:   no layer is streamed\n"), "{text}");
        assert!(
            text.contains("Verdict: compute-bound. Every layer"),
            "{text}"
        );
        assert!(
            text.contains(&format!("\n 0 {}\n", ".".repeat(28))),
            "{text}"
        );

        let emulated = streaming(28, 20, Some(25.6));
        let lines = drawn(&emulated, &window(&emulated, mixed), 120, false);
        for start in ["--- ", "Link: ", "Verdict: "] {
            let line = lines.iter().find(|line| line.starts_with(start)).unwrap();
            assert!(line.contains("emulated"), "{line}");
        }
    }

    #[test]
    fn before_the_first_token_there_is_only_the_plan() {
        let streaming = streaming(4, 2, None);
        let lines = drawn(&streaming, &Window::default(), 80, false);
        assert_eq!(lines[1], "0 ?.?.");
        assert_eq!(lines.len(), 3);
    }
}
