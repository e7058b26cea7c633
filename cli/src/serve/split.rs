//! An answer's text, split into what is told apart: reasoning, text, calls of tools. The one place
//! that knows how; answers only pass on what comes of it.

use engine::text::{Reply, Said, Style};

use super::ask::Piece;
use super::server;

/// Of one answer.
#[derive(Debug)]
pub struct Split {
    reply: Reply,
    said: Vec<Said>,
    called: bool,
}

impl Split {
    pub fn new(style: Style) -> Self {
        Self {
            reply: Reply::new(style),
            said: Vec::new(),
            called: false,
        }
    }

    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        self.reply.push(text, &mut self.said);
        self.pass_on(pieces);
    }

    /// No more text comes.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        self.reply.finish(&mut self.said);
        self.pass_on(pieces);
    }

    /// Whether it called a tool.
    pub fn called(&self) -> bool {
        self.called
    }

    fn pass_on(&mut self, pieces: &mut Vec<Piece>) {
        for said in self.said.drain(..) {
            pieces.push(match said {
                Said::Reasoning(text) => Piece::Reasoning(text),
                Said::Text(text) => Piece::Text(text),
                Said::Call { index, name } => {
                    self.called = true;
                    let id = server::call_id();
                    Piece::Call { index, id, name }
                }
                Said::Arguments { index, json } => Piece::Arguments { index, json },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_the_order_of_the_text() {
        let mut split = Split::new(Style::of("<think></think><tool_call>", "", true));
        let mut pieces = Vec::new();
        let text = "<think>hm</think>Yes.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1}}\n\
                    </tool_call>";
        for letter in text.chars() {
            split.push(&letter.to_string(), &mut pieces);
        }
        split.finish(&mut pieces);
        let mut told = String::new();
        for piece in &pieces {
            told.push_str(&match piece {
                Piece::Reasoning(text) => format!("r{text}"),
                Piece::Text(text) => format!("t{text}"),
                Piece::Call { index, id, name } => {
                    assert_eq!(id.len(), 9, "{id}");
                    format!("c{index}{name}")
                }
                Piece::Arguments { index, json } => format!("a{index}{json}"),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(told, "rhrmtYtetst.c0fa0{\"b\": 1}");
        assert!(split.called());
    }
}
