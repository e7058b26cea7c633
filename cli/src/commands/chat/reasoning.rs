//! Shows reasoning faintly: what a model writes between `<think>` and `</think>`, while it comes.
//! Where nothing is painted, the text passes as it is. It must not know what becomes of the text.

const OPENS: &str = "<think>";
const CLOSES: &str = "</think>";
const FAINT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// See the module.
#[derive(Debug)]
pub struct Reasoning {
    painted: bool,
    inside: bool,
    /// What could become a tag.
    held: String,
}

impl Reasoning {
    /// `begun`: the prompt ends with the tag that opens it.
    pub fn new(painted: bool, begun: bool) -> (Self, &'static str) {
        let inside = painted && begun;
        let reasoning = Self {
            painted,
            inside,
            held: String::new(),
        };
        (reasoning, if inside { FAINT } else { "" })
    }

    /// What can be shown now.
    pub fn push(&mut self, text: &str) -> String {
        if !self.painted {
            return text.to_owned();
        }
        self.held.push_str(text);
        let mut shown = String::new();
        loop {
            let tag = if self.inside { CLOSES } else { OPENS };
            let Some(at) = self.held.find(tag) else {
                let end = self.held.len() - could_become(&self.held, tag);
                shown.extend(self.held.drain(..end));
                return shown;
            };
            shown.extend(self.held.drain(..at));
            self.held.drain(..tag.len());
            match self.inside {
                true => shown.extend([CLOSES, PLAIN]),
                false => shown.extend([FAINT, OPENS]),
            }
            self.inside = !self.inside;
        }
    }

    /// What was held back, and the terminal as it was.
    pub fn end(&mut self) -> String {
        let mut shown = std::mem::take(&mut self.held);
        if std::mem::replace(&mut self.inside, false) {
            shown.push_str(PLAIN);
        }
        shown
    }
}

/// So many bytes at the end of the text are the beginning of the tag.
fn could_become(text: &str, tag: &str) -> usize {
    let most = tag.len().min(text.len() + 1);
    (1..most)
        .rev()
        .find(|&len| text.ends_with(&tag[..len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(painted: bool, begun: bool, pieces: &[&str]) -> String {
        let (mut reasoning, mut all) = {
            let (reasoning, first) = Reasoning::new(painted, begun);
            (reasoning, first.to_owned())
        };
        for piece in pieces {
            all.push_str(&reasoning.push(piece));
        }
        all + &reasoning.end()
    }

    #[test]
    fn reasoning_is_faint_however_it_is_cut() {
        let text = "a<think>ü</think>b<thin<think>c";
        let expected = "a\x1b[2m<think>ü</think>\x1b[0mb<thin\x1b[2m<think>c\x1b[0m";
        let cuts = text.char_indices().map(|(at, _)| at);
        for at in cuts {
            assert_eq!(shown(true, false, &[&text[..at], &text[at..]]), expected);
            assert_eq!(shown(false, true, &[&text[..at], &text[at..]]), text);
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(shown(true, false, &letters), expected);
        let begun = shown(true, true, &["x</think", ">y</thi"]);
        assert_eq!(begun, "\x1b[2mx</think>\x1b[0my</thi");
    }
}
