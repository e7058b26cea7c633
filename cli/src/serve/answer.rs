//! The answers to one request, as they come: what the model's thread tells of each becomes pieces.
//! Dropping it drops the request. It knows no API and no HTTP.

use std::sync::Arc;

#[cfg(test)]
use engine::text::Style;
use engine::text::{Logprob, Logprobs, Tokenizer};
use engine::{Account, Ended, EngineError, GeneratedToken, GenerationOptions, Told};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::ask::{Finish, Likely, Piece, Refusal, RefusalKind};
use super::door::{Heard, News, Present};
use super::prepare::Prepared;
use super::server::{Phase, Ready, Server};
use super::split::Split;

/// The answers of one request, as they come.
#[derive(Debug)]
pub struct Answers {
    news: UnboundedReceiver<News>,
    phase: watch::Receiver<Phase>,
    each: Vec<Answer>,
    open: usize,
    _present: Present,
}

/// One of them.
#[derive(Debug)]
struct Answer {
    split: Split,
    tokenizer: Option<Tokenizer>,
    token_ids: bool,
    prompt_tokens: usize,
    ended: bool,
}

impl Answers {
    /// Hands the request to the model's thread. `name`: what the log calls it.
    pub fn begin(
        server: &Server,
        ready: &Ready,
        prepared: &Prepared,
        name: &str,
    ) -> Result<Self, Refusal> {
        let tokenizer = ready.texts.tokenizer();
        let mut each = Vec::new();
        for prompt in &prepared.prompts {
            for _ in 0..prepared.answers {
                each.push(Answer {
                    split: Split::new(prompt.style.clone()),
                    tokenizer: tokenizer.cloned(),
                    token_ids: prepared.token_ids,
                    prompt_tokens: prompt.tokens.len(),
                    ended: false,
                });
            }
        }
        Self::hand_over(server, prepared.orders(), each, name)
    }

    fn hand_over(
        server: &Server,
        orders: Vec<(Vec<u32>, GenerationOptions)>,
        each: Vec<Answer>,
        name: &str,
    ) -> Result<Self, Refusal> {
        let name: Arc<str> = name.into();
        let (news, present) = server.door.enter(orders, &name)?;
        Ok(Self {
            news,
            phase: server.phase(),
            open: each.len(),
            each,
            _present: present,
        })
    }

    /// One to a prompt of a token, without a model.
    #[cfg(test)]
    pub fn of_one(server: &Server) -> Result<Self, Refusal> {
        let answer = Answer {
            split: Split::new(Style::plain()),
            tokenizer: None,
            token_ids: false,
            prompt_tokens: 1,
            ended: false,
        };
        let orders = vec![(vec![1], GenerationOptions::default())];
        Self::hand_over(server, orders, vec![answer], "test")
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// What comes next of one of them, which may be nothing to show yet. `None`: all have ended.
    pub async fn next(&mut self) -> Option<Result<(usize, Vec<Piece>), Refusal>> {
        if self.open == 0 {
            return None;
        }
        let cut = async {
            // Without a sender the server is gone, and so are we.
            let _ = self.phase.wait_for(|phase| *phase == Phase::Over).await;
        };
        let heard = tokio::select! {
            heard = self.news.recv() => heard,
            () = cut => {
                self.open = 0;
                return Some(Err(failed("the server was told to stop")));
            }
        };
        let (index, told) = match heard {
            Some((index, Heard::Told(told))) => (index, told),
            Some((_, Heard::Broken(why))) => {
                self.open = 0;
                return Some(Err(failed(&why)));
            }
            None => {
                self.open = 0;
                return Some(Err(failed("the model has stopped")));
            }
        };
        let answer = &mut self.each[index];
        let pieces = match told {
            Told::Failed(error) => {
                self.open = 0;
                return Some(Err(of_engine(&error)));
            }
            told => answer.pieces(told),
        };
        if answer.ended {
            self.open -= 1;
        }
        Some(Ok((index, pieces)))
    }
}

impl Answer {
    fn pieces(&mut self, told: Told) -> Vec<Piece> {
        let mut pieces = Vec::new();
        match told {
            Told::Prompt { read } => pieces.push(Piece::Prompt {
                read,
                of: self.prompt_tokens,
            }),
            Told::Token(GeneratedToken {
                token,
                text,
                logprobs,
            }) => {
                if self.token_ids {
                    pieces.push(Piece::Tokens(vec![token]));
                }
                if let Some(logprobs) = logprobs {
                    pieces.push(Piece::Likely(vec![self.likely(logprobs)]));
                }
                self.split.push(&text, &mut pieces);
            }
            Told::Ended {
                rest,
                ended,
                stopped_by,
                account,
            } => {
                self.split.push(&rest, &mut pieces);
                self.split.finish(&mut pieces);
                pieces.push(Piece::End(self.finish(ended, stopped_by), account));
                self.ended = true;
            }
            // Told apart by the caller.
            Told::Failed(_) => {}
        }
        pieces
    }

    fn finish(&self, ended: Ended, stopped_by: Option<usize>) -> Finish {
        match ended {
            Ended::MaxNewTokens => Finish::Length,
            Ended::ContextFull => Finish::ContextFull,
            Ended::StopString => Finish::Stopped(stopped_by.unwrap_or(0)),
            Ended::EndOfText | Ended::GrammarComplete | Ended::Interrupted | Ended::Failed => {
                match self.split.called() {
                    true => Finish::Calls,
                    false => Finish::Done,
                }
            }
        }
    }

    fn likely(&self, logprobs: Logprobs) -> Likely {
        let tokenizer = self.tokenizer.as_ref();
        let bytes = |found: &Logprob| {
            tokenizer.map_or_else(Vec::new, |tokenizer| tokenizer.bytes(found.token))
        };
        Likely {
            bytes: bytes(&logprobs.chosen),
            top_bytes: logprobs.top.iter().map(bytes).collect(),
            logprobs,
        }
    }
}

fn failed(why: &str) -> Refusal {
    Refusal {
        status: 503,
        kind: RefusalKind::Failed,
        message: why.to_owned(),
        field: None,
    }
}

fn of_engine(error: &EngineError) -> Refusal {
    let hint = error.hint().map(|hint| format!("; {hint}"));
    Refusal {
        status: 500,
        kind: RefusalKind::Failed,
        message: format!("{error}{}", hint.unwrap_or_default()),
        field: None,
    }
}

/// An answer as a whole.
#[derive(Debug, Default)]
pub struct Whole {
    pub reasoning: String,
    pub text: String,
    pub calls: Vec<Called>,
    pub likely: Vec<Likely>,
    pub tokens: Vec<u32>,
    pub end: Option<(Finish, Account)>,
}

#[derive(Debug, Default)]
pub struct Called {
    pub id: String,
    pub name: String,
    pub arguments: String,
}

impl Whole {
    pub fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Prompt { .. } => {}
            Piece::Reasoning(text) => self.reasoning.push_str(&text),
            Piece::Text(text) => self.text.push_str(&text),
            Piece::Call { id, name, .. } => self.calls.push(Called {
                id,
                name,
                arguments: String::new(),
            }),
            Piece::Arguments { index, json } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(&json);
                }
            }
            Piece::Likely(likely) => self.likely.extend(likely),
            Piece::Tokens(tokens) => self.tokens.extend(tokens),
            Piece::End(finish, account) => self.end = Some((finish, account)),
        }
    }
}

/// Waits for all of them.
pub async fn wholes(mut answers: Answers) -> Result<Vec<Whole>, Refusal> {
    let mut wholes: Vec<Whole> = Vec::new();
    wholes.resize_with(answers.count(), Whole::default);
    while let Some(next) = answers.next().await {
        let (index, pieces) = next?;
        for piece in pieces {
            wholes[index].take(piece);
        }
    }
    Ok(wholes)
}
