//! When each line is said, as SubRip subtitles.

use std::fmt::Write;

use engine::speech::{Script, line_times};

/// A line with its time in the sound, in seconds.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cue {
    pub from: f64,
    pub to: f64,
    pub text: String,
}

/// The lines of a part that begins at `start` seconds; of one that was ended early, those that were
/// begun.
pub fn cues(
    part: &Script,
    loudness: &[f32],
    frame_s: f64,
    (start, whole): (f64, bool),
) -> Vec<Cue> {
    let times = line_times(&part.lines, loudness, frame_s, whole);
    let lines = times.into_iter().zip(&part.lines);
    lines
        .map(|((from, to), line)| Cue {
            from: start + from,
            to: start + to,
            text: line.text.clone(),
        })
        .collect()
}

pub fn subrip(cues: &[Cue]) -> String {
    let mut text = String::new();
    for (at, cue) in cues.iter().enumerate() {
        // A string takes all that is written to it.
        let _ = writeln!(
            text,
            "{}\n{} --> {}\n{}\n",
            at + 1,
            clock(cue.from),
            clock(cue.to),
            cue.text
        );
    }
    text
}

/// `hours:minutes:seconds,milliseconds`.
fn clock(seconds: f64) -> String {
    let ms = (seconds * 1e3).round() as u64;
    let (s, min, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    format!("{h:02}:{:02}:{:02},{:03}", min % 60, s % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtitles_are_as_players_read_them() {
        let cue = |from, to, text: &str| Cue {
            from,
            to,
            text: text.to_owned(),
        };
        let cues = [cue(0.0, 1.25, "One."), cue(3_725.0, 3_726.5, "Two: three.")];
        let expected = "1\n00:00:00,000 --> 00:00:01,250\nOne.\n\n\
                        2\n01:02:05,000 --> 01:02:06,500\nTwo: three.\n\n";
        assert_eq!(subrip(&cues), expected);
    }
}
