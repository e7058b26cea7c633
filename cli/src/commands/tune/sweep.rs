//! tok/s against N, measured beside the floor: in the terminal, and as SVG.

use std::fmt::Write;

use offload::Candidate;

use super::tables::Row;
use super::{Tuned, Verified};
use crate::output::three_digits;

/// Numbers of resident layers that a sweep runs.
const POINTS_MAX: usize = 9;

/// Bars of the terminal's plot.
const WIDTH: usize = 48;

#[derive(Debug)]
pub struct Sweep {
    /// Points by N, least first.
    pub points: Vec<Verified>,
}

/// Candidates from the least N that fits to the most, evenly, both ends included.
pub fn points(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut all = candidates.to_vec();
    all.sort_by_key(|candidate| candidate.plan.resident_count());
    let last = all.len().saturating_sub(1);
    let count = all.len().min(POINTS_MAX);
    (0..count)
        .map(|point| all[point * last / (count - 1).max(1)].clone())
        .collect()
}

impl Sweep {
    /// Measured as bars, the floor as a mark.
    pub fn text(&self, tuned: &Tuned) -> String {
        let rows: Vec<Row> = self.points.iter().map(Row::of).collect();
        let most = most(&rows);
        let place = |rate: f64| ((rate / most * WIDTH as f64).round() as usize).min(WIDTH);
        let emulated = match tuned.emulated_gbps {
            Some(_) => ", emulated link",
            None => "",
        };
        let mut text =
            format!("tok/s against N: # measured, | what link and compute allow{emulated}\n");
        for row in &rows {
            let (measured, floor) = (
                place(row.measured_tokens_per_s),
                place(row.floor_tokens_per_s),
            );
            let bar: String = (0..=WIDTH)
                .map(|at| match at {
                    at if at == floor => '|',
                    at if at < measured => '#',
                    _ => ' ',
                })
                .collect();
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{:>4} {bar} {:>8} of {}, {}",
                row.resident,
                three_digits(row.measured_tokens_per_s),
                three_digits(row.floor_tokens_per_s),
                match row.floor_too_low {
                    true => "over 100% (the rates were measured too low)".into(),
                    false => format!("{:.0}%", row.share_of_floor * 100.0),
                }
            );
        }
        text.trim_end().to_owned()
    }

    pub fn svg(&self, tuned: &Tuned) -> String {
        let rows: Vec<Row> = self.points.iter().map(Row::of).collect();
        let axes = Axes {
            n_most: rows.last().map_or(1, |row| row.resident.max(1)) as f64,
            n_least: rows.first().map_or(0, |row| row.resident) as f64,
            rate_most: round_up(most(&rows)),
        };
        let link = match tuned.emulated_gbps {
            Some(gbps) => format!("an emulated link of {gbps} GB/s"),
            None => format!("{:.2} GB/s of disk", tuned.rates.disk_gbps),
        };
        let titles = [
            format!("{}: tok/s against resident layers", tuned.name),
            format!("{}; {link}", tuned.machine),
        ];
        let titles: Vec<String> = titles.iter().flat_map(|title| wrapped(title)).collect();
        let shift = (titles.len() as f64 - TITLE_LINES) * LINE;
        let height = H + shift;
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {height}" font-family="system-ui, sans-serif" font-size="13">
<style>.page{{fill:#fff}} text{{fill:#333}} .grid{{stroke:#8884}} .measured{{stroke:#0a7;fill:none;stroke-width:2.5}} .floor{{stroke:#c60;fill:none;stroke-width:2;stroke-dasharray:6 4}} .dot{{fill:#0a7}} .range{{stroke:#0a7;stroke-width:1}} .best{{fill:none;stroke:#0a7;stroke-width:1.5}} @media (prefers-color-scheme:dark){{.page{{fill:#1b1b1b}} text{{fill:#ddd}}}}</style>
<rect class="page" width="{W}" height="{height}"/>
"#
        );
        for (line, title) in titles.iter().enumerate() {
            let y = 22.0 + line as f64 * LINE;
            let _ = writeln!(
                svg,
                r#"<text x="{LEFT}" y="{y}" font-size="14">{}</text>"#,
                escaped(title)
            );
        }
        let _ = writeln!(svg, r#"<g transform="translate(0,{shift})">"#);
        let measured: Vec<usize> = rows.iter().map(|row| row.resident).collect();
        let _ = axes.grid(&mut svg, &measured);
        let line = |of: fn(&Row) -> f64| -> String {
            let points = rows.iter().map(|row| {
                let (x, y) = axes.place(row.resident as f64, of(row));
                format!("{x:.1},{y:.1}")
            });
            points.collect::<Vec<_>>().join(" ")
        };
        let _ = writeln!(
            svg,
            r#"<polyline class="floor" points="{}"/>"#,
            line(|row| row.floor_tokens_per_s)
        );
        let _ = writeln!(
            svg,
            r#"<polyline class="measured" points="{}"/>"#,
            line(|row| row.measured_tokens_per_s)
        );
        for row in &rows {
            let n = row.resident as f64;
            let (x, y) = axes.place(n, row.measured_tokens_per_s);
            let least = row.values.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = row.values.iter().copied().fold(0.0, f64::max);
            let ((_, low), (_, high)) = (axes.place(n, least), axes.place(n, greatest));
            let _ = writeln!(
                svg,
                r#"<line class="range" x1="{x:.1}" x2="{x:.1}" y1="{low:.1}" y2="{high:.1}"/><circle class="dot" cx="{x:.1}" cy="{y:.1}" r="4"><title>N = {}: {:.2} tok/s measured, {:.2} possible</title></circle>"#,
                row.resident, row.measured_tokens_per_s, row.floor_tokens_per_s
            );
        }
        let _ = writeln!(
            svg,
            r#"<g transform="translate({},{})"><line class="measured" x2="26"/><text x="34" y="4">measured (median; line: range)</text><line class="floor" x2="26" y1="20" y2="20"/><text x="34" y="24">what link and compute allow</text></g>"#,
            LEFT + 20.0,
            TOP + 14.0
        );
        if let Some(best) = tuned.best.map(|best| Row::of(&tuned.verified[best])) {
            let (x, y) = axes.place(best.resident as f64, best.measured_tokens_per_s);
            let _ = writeln!(
                svg,
                r#"<circle class="best" cx="{x:.1}" cy="{y:.1}" r="8"><title>recommended: N = {}, {:.2} tok/s</title></circle>"#,
                best.resident, best.measured_tokens_per_s
            );
        }
        svg.push_str("</g>\n</svg>\n");
        svg
    }
}

const W: f64 = 760.0;
const H: f64 = 400.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 48.0;

/// Lines of text above the plot that [`TOP`] has room for, and their height.
const TITLE_LINES: f64 = 2.0;
const LINE: f64 = 18.0;

/// Characters of a title's line that fit for certain.
const LINE_CHARS: usize = 88;

/// Lines across the plot.
const TICKS: usize = 5;

struct Axes {
    n_least: f64,
    n_most: f64,
    rate_most: f64,
}

impl Axes {
    fn place(&self, n: f64, rate: f64) -> (f64, f64) {
        let span = (self.n_most - self.n_least).max(1.0);
        (
            LEFT + (n - self.n_least) / span * (W - LEFT - RIGHT),
            H - BOTTOM - (rate / self.rate_most).min(1.0) * (H - TOP - BOTTOM),
        )
    }

    /// The marks below are the N that were measured, and no others.
    fn grid(&self, svg: &mut String, measured: &[usize]) -> std::fmt::Result {
        for n in measured {
            let (x, y) = self.place(*n as f64, 0.0);
            writeln!(
                svg,
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{y:.1}" y2="{:.1}"/><text x="{x:.1}" y="{}" text-anchor="middle">{n}</text>"#,
                y + 6.0,
                H - BOTTOM + 20.0
            )?;
        }
        for tick in 0..=TICKS {
            let rate = self.rate_most * tick as f64 / TICKS as f64;
            let (_, y) = self.place(self.n_least, rate);
            writeln!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                W - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                (rate * 100.0).round() / 100.0
            )?;
        }
        writeln!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="middle">resident layers (N)</text>"#,
            (LEFT + W - RIGHT) / 2.0,
            H - 8.0
        )
    }
}

/// Cuts at spaces, into lines that fit.
fn wrapped(title: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in title.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        match line.chars().count() + 1 + word.chars().count() {
            _ if line.is_empty() => line.push_str(word),
            chars if chars <= LINE_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn most(rows: &[Row]) -> f64 {
    let rates = rows.iter();
    rates
        .map(|row| row.measured_tokens_per_s.max(row.floor_tokens_per_s))
        .fold(f64::MIN_POSITIVE, f64::max)
}

/// Rounds up to a number that divides into readable ticks.
fn round_up(value: f64) -> f64 {
    let unit = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.into_iter().find(|step| step * unit >= value);
    step.unwrap_or(10.0) * unit
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
