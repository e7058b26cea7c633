//! Where a long script is cut: at turns of speakers, at ends of sentences where a turn is too long,
//! and at words where a sentence is. What a text takes when it is spoken is estimated here, and
//! nowhere else.

use super::script::{Line, Script};

/// What a part may be, as estimated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartLimit {
    /// Of sound.
    pub seconds: f64,
    /// Of the context, for the lines and for what is said of them.
    pub tokens: f64,
    /// Tokens of the context that a second of sound takes.
    pub frames_per_s: f64,
}

/// Models that speak have no more; a config that says so is a test's.
pub(super) const FRAMES_PER_S_MAX: f64 = 25.0;

/// More tokens than estimated do no harm up to this factor.
const CAUTION: f64 = 1.5;

/// Letters that are syllables or words: they take longer.
fn is_wide(letter: char) -> bool {
    matches!(letter,
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Seconds that this takes when it is spoken: 15 letters a second as English has them, four and a
/// half of wide ones, four digits, and a breath at an end.
pub fn spoken_seconds(text: &str) -> f64 {
    let of = |letter: char| match letter {
        '.' | '!' | '?' | '\u{3002}' | '\u{ff01}' | '\u{ff1f}' => 0.35,
        _ if letter.is_numeric() => 0.25,
        _ if is_wide(letter) => 0.22,
        _ => 1.0 / 15.0,
    };
    0.3 + text.chars().map(of).sum::<f64>()
}

impl PartLimit {
    /// Whether lines of that many seconds and letters are no more than a part.
    fn holds(&self, (seconds, letters): (f64, usize)) -> bool {
        // A token has two letters at least, but where each letter is one.
        let tokens = letters as f64 + CAUTION * seconds * self.frames_per_s;
        seconds <= self.seconds && tokens <= self.tokens
    }
}

/// Seconds and, as an upper bound of its tokens, what a line takes of the prompt.
fn cost(text: &str) -> (f64, usize) {
    const OF_A_LINE: usize = 8;
    let (mut narrow, mut wide) = (0, 0);
    for letter in text.chars() {
        match is_wide(letter) || letter.is_numeric() || !letter.is_ascii() {
            true => wide += 1,
            false => narrow += 1,
        }
    }
    (spoken_seconds(text), narrow / 2 + 2 * wide + OF_A_LINE)
}

impl Script {
    /// In parts that are within the limit each, as far as words go.
    pub fn parts(&self, limit: PartLimit) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut part: Vec<Line> = Vec::new();
        let mut sum = (0.0, 0);
        let mut add = |line: Line, whole: bool| {
            let (seconds, letters) = cost(&line.text);
            let more = (sum.0 + seconds, sum.1 + letters);
            if !part.is_empty() && !limit.holds(more) {
                parts.push(self.part(std::mem::take(&mut part)));
                sum = (0.0, 0);
            }
            sum = (sum.0 + seconds, sum.1 + letters);
            match part.last_mut() {
                // Pieces of one line stay one line.
                Some(before) if !whole && before.speaker == line.speaker => {
                    before.text.push_str(&line.text);
                }
                _ => part.push(line),
            }
        };
        for line in &self.lines {
            if limit.holds(cost(&line.text)) {
                add(line.clone(), true);
                continue;
            }
            for (at, piece) in pieces(&line.text, limit).into_iter().enumerate() {
                let line = Line {
                    speaker: line.speaker,
                    text: piece,
                };
                add(line, at == 0);
            }
        }
        if !part.is_empty() {
            parts.push(self.part(part));
        }
        for line in parts.iter_mut().flat_map(|part| &mut part.lines) {
            line.text = line.text.trim().to_owned();
        }
        parts
    }
}

/// A text that is too long in pieces that are not: sentences where they are short enough, words
/// where they are not. Together they are the text.
fn pieces(text: &str, limit: PartLimit) -> Vec<String> {
    let mut pieces = Vec::new();
    for sentence in cut_behind(text, ends_sentence) {
        if limit.holds(cost(sentence)) {
            pieces.push(sentence.to_owned());
            continue;
        }
        let mut piece = String::new();
        for word in cut_behind(sentence, |_, letter| {
            letter.is_whitespace() || is_wide(letter)
        }) {
            let longer = format!("{piece}{word}");
            match piece.is_empty() || limit.holds(cost(&longer)) {
                true => piece = longer,
                false => pieces.push(std::mem::replace(&mut piece, word.to_owned())),
            }
        }
        pieces.push(piece);
    }
    pieces
}

/// Whether a sentence ends at this letter, which stands behind that one.
fn ends_sentence(before: Option<char>, letter: char) -> bool {
    let wide = |letter| matches!(letter, '\u{3002}' | '\u{ff01}' | '\u{ff1f}');
    let narrow = |letter| matches!(letter, '.' | '!' | '?' | '\u{2026}' | '\n');
    wide(letter) || letter.is_whitespace() && before.is_some_and(narrow)
}

fn cut_behind(text: &str, ends: impl Fn(Option<char>, char) -> bool) -> Vec<&str> {
    let (mut pieces, mut from, mut before) = (Vec::new(), 0, None);
    for (at, letter) in text.char_indices() {
        if ends(before, letter) {
            let to = at + letter.len_utf8();
            pieces.push(&text[from..to]);
            from = to;
        }
        before = Some(letter);
    }
    if from < text.len() {
        pieces.push(&text[from..]);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(seconds: f64) -> PartLimit {
        PartLimit {
            seconds,
            tokens: f64::INFINITY,
            frames_per_s: 7.5,
        }
    }

    fn cut(text: &str, limit: PartLimit) -> Vec<Vec<(usize, String)>> {
        let script = Script::parse(text, &[]).unwrap();
        let parts = script.parts(limit).into_iter();
        let lines = |part: Script| {
            part.lines
                .into_iter()
                .map(|it| (it.speaker, it.text))
                .collect()
        };
        parts.map(lines).collect()
    }

    #[test]
    fn a_short_script_is_one_part() {
        let text = "Speaker 1: Hello.\nSpeaker 2: Hello to you.";
        let parts = cut(text, limit(60.0));
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].len(), 2);
    }

    #[test]
    fn cuts_are_at_turns_then_sentences_then_words() {
        let line = |speaker: usize, text: &str| (speaker, text.to_owned());
        let text = "Speaker 1: Four words and more.\nSpeaker 2: Four words and more.";
        let parts = cut(text, limit(3.5));
        let said = "Four words and more.";
        assert_eq!(parts, [[line(0, said)], [line(1, said)]]);
        // Sentences of a turn; what follows it may share the last part.
        let text = "Speaker 1: One sentence here. Another one there! A third?\nSpeaker 2: Yes.";
        let parts = cut(text, limit(2.0));
        assert_eq!(parts[0], [line(0, "One sentence here.")]);
        assert_eq!(parts[1], [line(0, "Another one there!")]);
        assert_eq!(parts[2], [line(0, "A third?"), line(1, "Yes.")]);
        // A number's point ends nothing, and a wide stop needs no space.
        assert_eq!(
            cut("It is 3.14 and no more. Yes it is.", limit(3.9)).len(),
            2
        );
        assert_eq!(
            cut(
                "\u{4f60}\u{597d}\u{3002}\u{4f60}\u{597d}\u{3002}",
                limit(1.2)
            )
            .len(),
            2
        );
        // No sentence: words; no words: the word stays whole.
        let words = "word ".repeat(40);
        let parts = cut(&words, limit(4.0));
        assert!(parts.len() > 2, "{parts:?}");
        let again: Vec<String> = parts.iter().map(|part| part[0].1.clone()).collect();
        assert_eq!(again.join(" "), words.trim());
        assert_eq!(cut(&"x".repeat(500), limit(4.0)).len(), 1);
    }

    #[test]
    fn nothing_is_lost_whatever_the_limit() {
        let text = "Speaker 1: A b c. D e f? G. \u{4f60}\u{597d}\u{3002}\u{4f60}!\nSpeaker 2: H, i j k: l.";
        let bare = |text: &str| text.replace(char::is_whitespace, "");
        let script = Script::parse(text, &[]).unwrap();
        let whole: String = script.lines.iter().map(|line| bare(&line.text)).collect();
        for seconds in [0.1, 0.5, 1.0, 2.0, 5.0] {
            let parts = script.parts(limit(seconds));
            let lines = parts.iter().flat_map(|part| &part.lines);
            assert_eq!(
                lines.map(|line| bare(&line.text)).collect::<String>(),
                whole
            );
            assert!(parts.iter().all(|part| part.speakers() == 2));
        }
    }

    #[test]
    fn the_context_is_a_limit_too() {
        let text = "Four words and more. ".repeat(30);
        let tokens = PartLimit {
            tokens: 200.0,
            ..limit(f64::INFINITY)
        };
        let parts = cut(&text, tokens);
        assert!(parts.len() > 2, "{parts:?}");
    }
}
