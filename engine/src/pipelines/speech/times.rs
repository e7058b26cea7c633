//! When the lines of a part are said. The model does not tell: the time is shared out as the lines
//! take it by estimate, and each border is moved to the quietest moment near it.

use super::cut::spoken_seconds;
use super::script::Line;

/// A border is moved by no more than that.
const MOVED_S: f64 = 1.0;

/// From and to of each line, in seconds. `loudness`: of each frame of the part, which is `whole` or
/// was ended before all was said; what was not said has no time.
pub fn line_times(lines: &[Line], loudness: &[f32], frame_s: f64, whole: bool) -> Vec<(f64, f64)> {
    let made = loudness.len() as f64 * frame_s;
    let expected: Vec<f64> = lines
        .iter()
        .map(|line| spoken_seconds(&line.text))
        .collect();
    let all: f64 = expected.iter().sum();
    let scale = match whole && all > 0.0 {
        true => made / all,
        false => 1.0,
    };
    let (mut times, mut from, mut sum) = (Vec::new(), 0.0, 0.0);
    for (at, seconds) in expected.iter().enumerate() {
        sum += seconds * scale;
        let next = expected.get(at + 1);
        let to = match next {
            None if whole => made,
            None => sum.min(made),
            Some(next) => {
                let near = MOVED_S.min(0.4 * scale * seconds.min(*next));
                quietest(loudness, frame_s, (sum - near, sum + near))
                    .unwrap_or(sum)
                    .min(made)
            }
        };
        if from >= made {
            break;
        }
        times.push((from, to));
        from = to;
    }
    times
}

/// The middle of the quietest frame that lies within these seconds, if one does.
fn quietest(loudness: &[f32], frame_s: f64, (from, to): (f64, f64)) -> Option<f64> {
    let middle = |frame: usize| (frame as f64 + 0.5) * frame_s;
    let within = loudness
        .iter()
        .enumerate()
        .skip((from / frame_s).max(0.0) as usize);
    let within = within.take_while(|(frame, _)| middle(*frame) <= to);
    let within = within.filter(|(frame, _)| middle(*frame) >= from);
    let least = within.min_by(|a, b| a.1.total_cmp(b.1));
    least.map(|(frame, _)| middle(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_S: f64 = 2.0 / 15.0;

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |text: &&str| Line {
            speaker: 0,
            text: (*text).to_owned(),
        };
        texts.iter().map(line).collect()
    }

    #[test]
    fn a_border_is_at_the_pause() {
        // Ten seconds, said quiet at 5.6; by letters the border is at five.
        let mut loudness = vec![0.2; 75];
        loudness[42] = 0.01;
        let lines = lines(&["Just as long as that.", "Just as long as that."]);
        let times = line_times(&lines, &loudness, FRAME_S, true);
        assert_eq!((times[0].0, times[1].1), (0.0, 75.0 * FRAME_S));
        assert_eq!(times[0].1, times[1].0);
        assert!((times[0].1 - 5.67).abs() < 0.01, "{times:?}");
        // One that is far is no border.
        loudness[42] = 0.2;
        loudness[70] = 0.01;
        let times = line_times(&lines, &loudness, FRAME_S, true);
        assert!((4.0..6.0).contains(&times[0].1), "{times:?}");
    }

    #[test]
    fn what_was_not_said_has_no_time() {
        let long = "A line that takes some seconds when it is spoken as lines are.";
        let lines = lines(&[long, long, long]);
        let seconds = spoken_seconds(long);
        let frames = (1.5 * seconds / FRAME_S) as usize;
        let times = line_times(&lines, &vec![0.2; frames], FRAME_S, false);
        assert_eq!(times.len(), 2);
        assert!(times[1].1 <= frames as f64 * FRAME_S);
        assert_eq!(line_times(&lines, &[], FRAME_S, false), []);
    }
}
