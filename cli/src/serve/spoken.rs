//! `/v1/responses` and `/v1/messages`, whose answers are told in events with names. What they say is
//! `api`'s; here they meet requests and answers.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::answer::Answers;
use super::api::events::Event;
use super::api::fields::Fields;
use super::api::messages::{self, count_tokens};
use super::api::notes::Notes;
use super::api::responses::{self, input_tokens};
use super::ask::{Ask, Conversation, Piece, Refusal};
use super::body;
use super::failure::{self, Form};
use super::routes::{name_notes, prepared, with_ready};
use super::server::{self, Ready, Shared};
use super::sse::{self, Events, Writer};

/// What an API makes of the pieces of an answer.
trait Spoken: Send + 'static {
    fn piece(&mut self, piece: Piece, events: &mut Vec<Event>);
    fn fail(&mut self, refusal: &Refusal, events: &mut Vec<Event>);
    fn whole(self) -> Value;
}

macro_rules! spoken {
    ($answer:ty) => {
        impl Spoken for $answer {
            fn piece(&mut self, piece: Piece, events: &mut Vec<Event>) {
                Self::piece(self, piece, events);
            }

            fn fail(&mut self, refusal: &Refusal, events: &mut Vec<Event>) {
                Self::fail(self, refusal, events);
            }

            fn whole(self) -> Value {
                Self::whole(self)
            }
        }
    };
}

spoken!(responses::Answer);
spoken!(messages::Answer);

/// The events of one that is streamed.
struct Told<S>(S);

impl<S: Spoken> Writer for Told<S> {
    /// Messages begin with what is known of the prompt: with the first piece.
    fn begin(&mut self, _: &mut Events) {}

    fn pieces(&mut self, _: usize, pieces: Vec<Piece>, out: &mut Events) {
        let mut events = Vec::new();
        for piece in pieces {
            self.0.piece(piece, &mut events);
        }
        write(events, out);
    }

    fn end(&mut self, _: &mut Events) {}

    fn refusal(&mut self, refusal: &Refusal, out: &mut Events) {
        let mut events = Vec::new();
        self.0.fail(refusal, &mut events);
        write(events, out);
    }
}

fn write(events: Vec<Event>, out: &mut Events) {
    for event in events {
        match event.name {
            Some(name) => out.named(name, event.data),
            None => out.data(event.data),
        }
    }
}

pub async fn responses(State(server): State<Shared>, request: Request<Body>) -> Response {
    let read = |fields, strict| {
        let (ask, shape, notes) = responses::read_fields(fields, strict)?;
        Ok(Read {
            ask,
            notes,
            stream: shape.stream,
            shape,
        })
    };
    let answer = |mut shape: responses::Shape, id: String, ready: &Ready| {
        shape.model.get_or_insert_with(|| ready.name.clone());
        responses::Answer::new(shape, id, server::now(), ready.peak_gbps)
    };
    let answered = answer_one(&server, request, "resp_", read, answer).await;
    answered.unwrap_or_else(|refusal| failure::response(&refusal, Form::OpenAi))
}

pub async fn messages(State(server): State<Shared>, request: Request<Body>) -> Response {
    let read = |fields, strict| {
        let (ask, shape, notes) = messages::read_fields(fields, strict)?;
        Ok(Read {
            ask,
            notes,
            stream: shape.stream,
            shape,
        })
    };
    let answer = |mut shape: messages::Shape, id: String, ready: &Ready| {
        shape.model.get_or_insert_with(|| ready.name.clone());
        messages::Answer::new(shape, id, ready.peak_gbps)
    };
    let answered = answer_one(&server, request, "msg_", read, answer).await;
    answered.unwrap_or_else(|refusal| failure::response(&refusal, Form::Anthropic))
}

pub async fn count(State(server): State<Shared>, request: Request<Body>) -> Response {
    let read = |fields, strict| {
        let (_, conversation, notes) = count_tokens::read_fields(fields, strict)?;
        Ok((conversation, notes))
    };
    let counted = counted(&server, request, read, count_tokens::body).await;
    counted.unwrap_or_else(|refusal| failure::response(&refusal, Form::Anthropic))
}

pub async fn count_input(State(server): State<Shared>, request: Request<Body>) -> Response {
    let counted = counted(
        &server,
        request,
        input_tokens::read_fields,
        input_tokens::body,
    )
    .await;
    counted.unwrap_or_else(|refusal| failure::response(&refusal, Form::OpenAi))
}

/// The tokens of a prompt that is not answered.
async fn counted(
    server: &Shared,
    request: Request<Body>,
    read: fn(Fields, bool) -> Result<(Conversation, Notes), Refusal>,
    body: fn(usize) -> Value,
) -> Result<Response, Refusal> {
    server.ready()?;
    let (fields, _held) = body::fields(server, request).await?;
    let (conversation, notes) = read(fields, server.settings.strict)?;
    let count = move |ready: &Ready| ready.texts.count(&conversation);
    let tokens = with_ready(server, count).await?;
    let mut response = Json(body(tokens)).into_response();
    name_notes(&mut response, &notes);
    Ok(response)
}

/// A request that was read.
struct Read<Shape> {
    ask: Ask,
    notes: Notes,
    stream: bool,
    shape: Shape,
}

/// From a request to a response with one answer.
async fn answer_one<Shape: Send + 'static, S: Spoken>(
    server: &Shared,
    request: Request<Body>,
    prefix: &str,
    read: fn(Fields, bool) -> Result<Read<Shape>, Refusal>,
    answer: fn(Shape, String, &Ready) -> S,
) -> Result<Response, Refusal> {
    let ready = server.ready()?;
    let (fields, held) = body::fields(server, request).await?;
    let Read {
        ask,
        mut notes,
        stream,
        shape,
    } = read(fields, server.settings.strict)?;
    let prepared = prepared(server, vec![ask]).await?;
    drop(held);
    prepared.unnamed().for_each(|name| notes.ignore(name));
    let id = server::name(prefix);
    let mut answers = Answers::begin(server, ready, &prepared, &id)?;
    drop(prepared);
    let mut spoken = answer(shape, id, ready);
    let mut response = match stream {
        true => sse::response(answers, Told(spoken)),
        false => {
            let mut events = Vec::new();
            while let Some(next) = answers.next().await {
                for piece in next?.1 {
                    spoken.piece(piece, &mut events);
                    events.clear();
                }
            }
            Json(spoken.whole()).into_response()
        }
    };
    name_notes(&mut response, &notes);
    Ok(response)
}
