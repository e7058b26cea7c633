//! `flamegraph.svg`: the stages as boxes as wide as their time, what nests below what it is part
//! of. One file, no script; a box tells its numbers when pointed at.

use std::io::{self, Write};
use std::time::Duration;

use super::super::stage::Stage;
use super::super::window::ms;
use super::RunRecord;
use super::stretch::{Frame, frames};

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 16.0;
const HEAD: f64 = 64.0;
const ROW: f64 = 24.0;
/// A character of the monospaced names, in pixels.
const CHARACTER: f64 = 7.3;

const STYLE: &str = "\
svg{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}\
.page{fill:#fbfaf7}.ink{fill:#1c2024}.muted{fill:#5d646e}\
.title{font:600 17px system-ui,sans-serif}.note{font:12px system-ui,sans-serif}\
rect{shape-rendering:crispEdges}.box{stroke:#fbfaf7}\
.compute{fill:#a9c8e8}.wait{fill:#f0b27a}.outer{fill:#e2dfd8}.ends{fill:#c9d8b8}\
@media(prefers-color-scheme:dark){.page{fill:#14171a}.ink{fill:#ecebe7}.muted{fill:#a0a7b1}\
.box{stroke:#14171a}.compute{fill:#2f5d8a}.wait{fill:#8f4a12}.outer{fill:#33393f}.ends{fill:#46602c}}";

/// Writes the picture.
pub fn write_flamegraph(run: &RunRecord<'_>, to: &mut impl Write) -> io::Result<()> {
    let roots = frames(run.recording);
    let total: Duration = roots.iter().map(|root| root.wall).sum();
    let depth = 1 + roots.iter().map(depth).max().unwrap_or(0);
    let height = HEAD + ROW * depth as f64 + 2.0 * MARGIN;
    writeln!(
        to,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"ink title\" x=\"{MARGIN}\" y=\"30\">{}</text>\n\
         <text class=\"muted note\" x=\"{MARGIN}\" y=\"50\">{}</text>",
        escaped(run.model),
        escaped(&note(run))
    )?;
    let mut picture = Picture { to, total };
    let whole = Frame {
        stage: Stage::Generate,
        wall: total,
        count: 1,
        children: roots,
    };
    picture.frame("run", &whole, MARGIN, 0)?;
    writeln!(picture.to, "</svg>")
}

fn depth(frame: &Frame) -> usize {
    1 + frame.children.iter().map(depth).max().unwrap_or(0)
}

fn note(run: &RunRecord<'_>) -> String {
    let mut parts = vec!["Width is wall time on the host".to_owned()];
    parts.push("orange waits for streamed layers, blue is compute inside layers".into());
    if let Some(gbps) = run.emulated_gbps() {
        parts.push(format!("emulated link of {gbps} GB/s"));
    }
    parts.extend(run.left_out());
    parts.join("; ")
}

struct Picture<'w, W> {
    to: &'w mut W,
    total: Duration,
}

impl<W: Write> Picture<'_, W> {
    fn frame(&mut self, name: &str, frame: &Frame, x: f64, depth: usize) -> io::Result<()> {
        let width = self.width(frame.wall);
        let y = HEAD + MARGIN + ROW * depth as f64;
        let share =
            100.0 * frame.wall.as_secs_f64() / self.total.as_secs_f64().max(f64::MIN_POSITIVE);
        writeln!(
            self.to,
            // An inner picture clips what it holds: a name never leaves its box.
            "<svg x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{ROW}\">\
             <title>{name}: {:.3} ms, {share:.1} % of the run; {} x {:.4} ms</title>\
             <rect class=\"box {}\" width=\"100%\" height=\"100%\"/>\
             <text class=\"ink\" x=\"5\" y=\"16\">{}</text></svg>",
            ms(frame.wall),
            frame.count,
            ms(frame.wall) / frame.count.max(1) as f64,
            class(name, frame.stage),
            label(name, width)
        )?;
        let mut x = x;
        for child in &frame.children {
            self.frame(child.stage.name(), child, x, depth + 1)?;
            x += self.width(child.wall);
        }
        Ok(())
    }

    fn width(&self, wall: Duration) -> f64 {
        let total = self.total.as_secs_f64().max(f64::MIN_POSITIVE);
        (WIDTH - 2.0 * MARGIN) * wall.as_secs_f64() / total
    }
}

/// As much of a name as its box has room for.
fn label(name: &str, width: f64) -> String {
    let room = ((width - 8.0) / CHARACTER).max(0.0) as usize;
    match name.chars().count() {
        count if count <= room => name.into(),
        _ if room >= 3 => name.chars().take(room - 1).chain(['…']).collect(),
        _ => String::new(),
    }
}

fn class(name: &str, stage: Stage) -> &'static str {
    match stage {
        _ if name == "run" => "outer",
        Stage::Transfer => "wait",
        Stage::Widen | Stage::Norm | Stage::Attention | Stage::Mlp => "compute",
        Stage::Embed
        | Stage::Head
        | Stage::Sampling
        | Stage::Mask
        | Stage::TopK
        | Stage::TopP
        | Stage::Decode => "ends",
        _ => "outer",
    }
}

/// Text that stands between tags.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no way to spell them.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
