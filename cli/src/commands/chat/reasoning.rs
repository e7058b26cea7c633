//! Shows reasoning faintly and without its tags, while it comes. Where nothing is painted, the text
//! passes as it is. It must not know what becomes of the text.

use engine::text::{Reply, Said, Style};

const FAINT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";
/// Reasoning is over: what stood around its tags went with them.
const ANSWERS: &str = "\n\n";

/// Paints thoughts apart from the answer.
#[derive(Debug)]
pub struct Reasoning {
    /// `None`: nothing is painted.
    reply: Option<Reply>,
    inside: bool,
}

impl Reasoning {
    pub fn new(painted: bool, style: Style) -> Self {
        Self {
            reply: painted.then(|| Reply::new(style)),
            inside: false,
        }
    }

    /// What can be shown now.
    pub fn push(&mut self, text: &str) -> String {
        let Some(reply) = &mut self.reply else {
            return text.to_owned();
        };
        let mut said = Vec::new();
        reply.push(text, &mut said);
        self.shown(said)
    }

    /// What was held back, and the terminal as it was.
    pub fn end(&mut self) -> String {
        let mut said = Vec::new();
        if let Some(reply) = &mut self.reply {
            reply.finish(&mut said);
        }
        let mut shown = self.shown(said);
        if std::mem::replace(&mut self.inside, false) {
            shown.push_str(PLAIN);
        }
        shown
    }

    fn shown(&mut self, said: Vec<Said>) -> String {
        let mut shown = String::new();
        for piece in said {
            let is_reasoning = matches!(piece, Said::Reasoning(_));
            match (self.inside, is_reasoning) {
                (false, true) => shown.push_str(FAINT),
                (true, false) => shown.extend([PLAIN, ANSWERS]),
                (false, false) | (true, true) => {}
            }
            self.inside = is_reasoning;
            // The style knows no tools: calls are text.
            if let Said::Reasoning(text) | Said::Text(text) = piece {
                shown.push_str(&text);
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(painted: bool, prompt: &str, pieces: &[&str]) -> String {
        let mut reasoning = Reasoning::new(painted, Style::of("", prompt, false));
        let mut all = String::new();
        for piece in pieces {
            all.push_str(&reasoning.push(piece));
        }
        all + &reasoning.end()
    }

    #[test]
    fn reasoning_is_faint_however_it_is_cut() {
        let text = "<think>\nü <thin\n</think>\n\nb<tool_call>{}</tool_call>";
        let expected = "\x1b[2mü <thin\x1b[0m\n\nb<tool_call>{}</tool_call>";
        for (at, _) in text.char_indices() {
            assert_eq!(shown(true, "", &[&text[..at], &text[at..]]), expected);
            assert_eq!(shown(false, "", &[&text[..at], &text[at..]]), text);
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(shown(true, "", &letters), expected);
    }

    #[test]
    fn reasoning_may_begin_in_the_prompt_and_be_cut_off() {
        let begun = "assistant <think>\n";
        let closed = shown(true, begun, &["x</think", ">y</thi"]);
        assert_eq!(closed, "\x1b[2mx\x1b[0m\n\ny</thi");
        assert_eq!(shown(true, begun, &["x</thi"]), "\x1b[2mx</thi\x1b[0m");
        assert_eq!(shown(true, "", &["no thought"]), "no thought");
    }
}
