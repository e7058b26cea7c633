//! Answers as server-sent events: what a writer makes of pieces is sent as they come, and a comment
//! where nothing came for a while. It knows no API; a writer does.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use tokio::time::Instant;

use super::answer::Answers;
use super::ask::{Piece, Refusal};

/// Proxies and clients give up on what says nothing for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Turns pieces into the events of an API.
pub trait Writer: Send + 'static {
    /// Before anything is known.
    fn begin(&mut self, out: &mut Events);
    /// More of one of the answers.
    fn pieces(&mut self, index: usize, pieces: Vec<Piece>, out: &mut Events);
    /// All have ended.
    fn end(&mut self, out: &mut Events);
    /// It cannot go on.
    fn refusal(&mut self, refusal: &Refusal, out: &mut Events);
}

/// Events that wait to be sent.
#[derive(Debug, Default)]
pub struct Events(String);

impl Events {
    /// `data` has no line breaks: JSON on one line, or a word.
    pub fn data(&mut self, data: impl std::fmt::Display) {
        use std::fmt::Write;
        // A text takes everything.
        let _ = write!(self.0, "data: {data}\n\n");
    }

    /// The same with a name.
    pub fn named(&mut self, event: &str, data: impl std::fmt::Display) {
        use std::fmt::Write;
        let _ = write!(self.0, "event: {event}\ndata: {data}\n\n");
    }
}

#[derive(Debug)]
enum Stage {
    Begin,
    Under,
    Ended,
}

pub fn response(answers: Answers, writer: impl Writer) -> Response {
    let state = (answers, writer, Stage::Begin);
    let body = stream::unfold(state, |(mut answers, mut writer, stage)| async move {
        let (out, stage) = match stage {
            Stage::Begin => {
                let mut out = Events::default();
                writer.begin(&mut out);
                (out.0, Stage::Under)
            }
            Stage::Under => more(&mut answers, &mut writer, KEEP_ALIVE).await,
            Stage::Ended => return None,
        };
        let out: Result<Bytes, Infallible> = Ok(out.into());
        Some((out, (answers, writer, stage)))
    });
    of_events(Body::from_stream(body))
}

/// The next events that there are, or a comment after so much time without any. News that are no
/// events, as those of a long prompt, do not put it off.
async fn more(
    answers: &mut Answers,
    writer: &mut impl Writer,
    silent: Duration,
) -> (String, Stage) {
    let mut out = Events::default();
    let until = Instant::now() + silent;
    while out.0.is_empty() {
        // A wait that is given up loses nothing.
        let Ok(next) = tokio::time::timeout_at(until, answers.next()).await else {
            return (": waiting\n\n".to_owned(), Stage::Under);
        };
        match next {
            Some(Ok((index, pieces))) => writer.pieces(index, pieces, &mut out),
            Some(Err(refusal)) => {
                writer.refusal(&refusal, &mut out);
                return (out.0, Stage::Ended);
            }
            None => {
                writer.end(&mut out);
                return (out.0, Stage::Ended);
            }
        }
    }
    (out.0, Stage::Under)
}

/// A response whose body is events.
pub fn of_events(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that collect what they pass on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use engine::{GeneratedToken, Told};

    use super::*;
    use crate::serve::door::Heard;
    use crate::serve::log::Log;
    use crate::serve::server::{Server, Settings};

    /// Writes texts as they are, and nothing of a prompt.
    struct Plain;

    impl Writer for Plain {
        fn begin(&mut self, _: &mut Events) {}

        fn pieces(&mut self, _: usize, pieces: Vec<Piece>, out: &mut Events) {
            for piece in pieces {
                if let Piece::Text(text) = piece {
                    out.data(text);
                }
            }
        }

        fn end(&mut self, _: &mut Events) {}

        fn refusal(&mut self, _: &Refusal, _: &mut Events) {}
    }

    fn settings() -> Settings {
        Settings {
            hosts: Vec::new(),
            cors: Vec::new(),
            api_key: None,
            strict: false,
            vllm_metrics: false,
            body_limit: 1,
            parallel: 1,
            queue: 0,
            drain: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn comments_come_while_a_long_prompt_is_read() {
        let (server, orders) = Server::new(settings(), Log::default());
        let mut answers = Answers::of_one(&server).unwrap();
        let teller = orders.recv().unwrap().teller.clone();
        let told = teller.clone();
        let reads = tokio::spawn(async move {
            for read in 0.. {
                told.tell(Heard::Told(Told::Prompt { read }));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        for _ in 0..3 {
            let more = async { more(&mut answers, &mut Plain, Duration::from_millis(30)).await };
            // Else chunks of the prompt would put it off for as long as they come.
            let more = tokio::time::timeout(Duration::from_secs(20), more);
            let (said, stage) = more.await.unwrap();
            assert_eq!(said, ": waiting\n\n");
            assert!(matches!(stage, Stage::Under));
        }
        reads.abort();
        teller.tell(Heard::Told(Told::Token(GeneratedToken {
            token: 1,
            text: "Hi".to_owned(),
            logprobs: None,
        })));
        let (said, _) = more(&mut answers, &mut Plain, KEEP_ALIVE).await;
        assert_eq!(said, "data: Hi\n\n");
    }
}
