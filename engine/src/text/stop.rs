//! Stop strings in streamed text: a tail that may become a stop string is held back until
//! it does (and is dropped) or does not (and is released). The outcome does not depend on
//! where the text was cut into pieces. It must not know tokens.

use std::cmp::Reverse;

use super::error::TextError;

/// Text that may be printed now, and whether generation should end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emit {
    pub text: String,
    /// Which of the stop strings ended the text.
    pub stopped: Option<usize>,
}

/// Watches a stream for the first stop string to be completed; where several end at the
/// same byte, the longest counts, and of the same string given twice the first.
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<Stop>,
    held: String,
    stopped: Option<usize>,
}

impl StopStrings {
    pub fn new(stops: Vec<String>) -> Result<Self, TextError> {
        if let Some(index) = stops.iter().position(String::is_empty) {
            return Err(TextError::EmptyStopString { index });
        }
        Ok(Self {
            stops: stops.into_iter().map(Stop::new).collect(),
            held: String::new(),
            stopped: None,
        })
    }

    /// Takes the next piece of text. After a stop everything further is swallowed.
    pub fn push(&mut self, text: &str) -> Emit {
        if self.stopped.is_some() {
            return self.emit(String::new());
        }
        self.held.push_str(text);
        let already_seen = self.held.len() - text.len();
        for (offset, &byte) in text.as_bytes().iter().enumerate() {
            let stops = self.stops.iter_mut().enumerate();
            let completed = stops.filter_map(|(index, stop)| Some((stop.step(byte)?, index)));
            if let Some((stop_bytes, index)) =
                completed.max_by_key(|&(bytes, index)| (bytes, Reverse(index)))
            {
                self.stopped = Some(index);
                self.held.truncate(already_seen + offset + 1 - stop_bytes);
                let text = std::mem::take(&mut self.held);
                return self.emit(text);
            }
        }
        // A match in progress starts at a stop string's first byte, which starts a character:
        // the cut is always at a character's edge.
        let undecided = self.stops.iter().map(|stop| stop.matched).max();
        let tail = self
            .held
            .split_off(self.held.len() - undecided.unwrap_or(0));
        let text = std::mem::replace(&mut self.held, tail);
        self.emit(text)
    }

    /// What was held back, once no more text will come.
    pub fn finish(&mut self) -> String {
        for stop in &mut self.stops {
            stop.matched = 0;
        }
        std::mem::take(&mut self.held)
    }

    fn emit(&self, text: String) -> Emit {
        Emit {
            text,
            stopped: self.stopped,
        }
    }
}

/// One stop string as a Knuth-Morris-Pratt automaton: no text is ever read twice.
#[derive(Debug, Clone)]
struct Stop {
    bytes: Vec<u8>,
    /// `fallback[n]`: after n+1 matched bytes, the longest proper prefix that is also their suffix.
    fallback: Vec<usize>,
    /// How many bytes of the stop string the text seen so far ends with; always under its length.
    matched: usize,
}

impl Stop {
    fn new(stop: String) -> Self {
        let bytes = stop.into_bytes();
        let mut fallback = vec![0; bytes.len()];
        let mut matched = 0;
        for end in 1..bytes.len() {
            while matched > 0 && bytes[end] != bytes[matched] {
                matched = fallback[matched - 1];
            }
            if bytes[end] == bytes[matched] {
                matched += 1;
            }
            fallback[end] = matched;
        }
        Self {
            bytes,
            fallback,
            matched: 0,
        }
    }

    /// The stop string's length in bytes if this byte completes it.
    fn step(&mut self, byte: u8) -> Option<usize> {
        while self.matched > 0 && byte != self.bytes[self.matched] {
            self.matched = self.fallback[self.matched - 1];
        }
        if byte == self.bytes[self.matched] {
            self.matched += 1;
        }
        if self.matched < self.bytes.len() {
            return None;
        }
        self.matched = 0;
        Some(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(list: &[&str]) -> StopStrings {
        StopStrings::new(list.iter().map(|&s| s.to_owned()).collect()).unwrap()
    }

    /// Everything printed, and what stopped it.
    fn stream(list: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut watch = stops(list);
        let mut printed = String::new();
        let mut stopped = None;
        for piece in pieces {
            let emit = watch.push(piece);
            printed.push_str(&emit.text);
            stopped = emit.stopped;
        }
        printed.push_str(&watch.finish());
        (printed, stopped)
    }

    /// The same by brute force: look at every end, shortest text first.
    fn expected(list: &[&str], text: &str) -> (String, Option<usize>) {
        for end in (1..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let stops = list.iter().enumerate().rev();
            let hits = stops.filter(|(_, stop)| text[..end].ends_with(**stop));
            if let Some((index, stop)) = hits.max_by_key(|(_, stop)| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(index));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn text_passes_when_there_is_nothing_to_watch() {
        assert_eq!(stream(&[], &["a", "", "b"]), ("ab".to_owned(), None));
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        let error = StopStrings::new(vec!["a".to_owned(), String::new()]).unwrap_err();
        assert!(matches!(error, TextError::EmptyStopString { index: 1 }));
    }

    #[test]
    fn a_possible_start_is_held_back_and_released() {
        let mut watch = stops(&["END"]);
        assert_eq!(watch.push("see E").text, "see ");
        assert_eq!(watch.push("N").text, "");
        assert_eq!(watch.push("T").text, "ENT");
        assert_eq!(watch.push("EN").text, "");
        assert_eq!(watch.finish(), "EN");
    }

    #[test]
    fn a_stop_across_pieces_is_dropped_and_nothing_follows_it() {
        let mut watch = stops(&["\nUser:"]);
        assert_eq!(watch.push("hi\nUs").text, "hi");
        let emit = watch.push("er: more");
        assert_eq!((emit.text.as_str(), emit.stopped), ("", Some(0)));
        let emit = watch.push("again");
        assert_eq!((emit.text.as_str(), emit.stopped), ("", Some(0)));
        assert_eq!(watch.finish(), "");
    }

    #[test]
    fn an_overlapping_start_is_not_missed() {
        assert_eq!(stream(&["aab"], &["aaab", "c"]), ("a".to_owned(), Some(0)));
        assert_eq!(
            stream(&["abab"], &["aba", "aba", "b"]),
            ("aba".to_owned(), Some(0))
        );
    }

    #[test]
    fn every_way_of_cutting_the_text_gives_the_same() {
        let cases: [(&[&str], &str); 8] = [
            (&["aab"], "aaab"),
            (&["abcd", "bc"], "xabcdx"),
            (&["bc", "abc"], "xabcx"),
            (&["abcx", "c"], "ababc"),
            (&["é!", "🙂"], "xèéé!🙂"),
            (&["🙂", "🙃"], "🙄🙃🙂"),
            (&["ab", "b"], "aaaa"),
            (&["c", "b", "ab", "b", "ab"], "aab"),
        ];
        for (list, text) in cases {
            let edges: Vec<usize> = (1..text.len())
                .filter(|&i| text.is_char_boundary(i))
                .collect();
            for cuts in 0..1u32 << edges.len() {
                let mut pieces = Vec::new();
                let mut start = 0;
                for (bit, &edge) in edges.iter().enumerate() {
                    if cuts >> bit & 1 == 1 {
                        pieces.push(&text[start..edge]);
                        start = edge;
                    }
                }
                pieces.push(&text[start..]);
                assert_eq!(
                    stream(list, &pieces),
                    expected(list, text),
                    "{list:?} {pieces:?}"
                );
            }
        }
    }
}
