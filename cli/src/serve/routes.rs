//! Which path does what. Each is a few lines: read the body, make an ask of it, answer.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use serde_json::json;

use super::answer::{self, Answers};
use super::api::fields::Fields;
use super::api::notes::Notes;
use super::ask::{Ask, Refusal, RefusalKind};
use super::body;
use super::failure::{self, Form};
use super::guard::guard;
use super::openai::{Asked, Envelope, chat, completions};
use super::prepare::{Prepared, prepare};
use super::server::{self, Ready, Shared};
use super::{openapi, page, panel, spoken, sse, tokens};

/// Names of fields without effect.
const IGNORED: &str = "x-engine-ignored";

/// Kinds of tools that the model was not told of.
const WITHHELD: &str = "x-engine-withheld-tools";

/// Every path that there is.
pub fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/", get(page::page)),
        ("/health", get(health)),
        ("/readyz", get(health)),
        ("/livez", get(|| async { Json(json!({"status": "ok"})) })),
        ("/v1/models", get(models)),
        ("/v1/chat/completions", post(chat_completions)),
        ("/v1/completions", post(text_completions)),
        ("/v1/responses", post(spoken::responses)),
        ("/v1/responses/input_tokens", post(spoken::count_input)),
        ("/v1/messages", post(spoken::messages)),
        ("/v1/messages/count_tokens", post(spoken::count)),
        ("/tokenize", post(tokenize)),
        ("/detokenize", post(detokenize)),
        ("/metrics", get(metrics)),
        ("/panel", get(panel::panel)),
        ("/openapi.json", get(|| async { Json(openapi::document()) })),
    ]
}

pub fn router(server: Shared) -> Router {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, (path, route)| {
        router.route(path, route.fallback(not_so))
    });
    router
        .fallback(not_there)
        .layer(middleware::from_fn_with_state(server.clone(), guard))
        .with_state(server)
}

async fn not_there(uri: Uri) -> Response {
    let form = Form::of(uri.path());
    let refusal = Refusal {
        status: 404,
        // In the one form this has a code of its own, which is of models.
        kind: match form {
            Form::OpenAi => RefusalKind::Invalid,
            Form::Anthropic => RefusalKind::NotFound,
        },
        message: "there is no such path: /openapi.json has those that there are".to_owned(),
        field: None,
    };
    failure::response(&refusal, form)
}

async fn not_so(method: Method, uri: Uri) -> Response {
    let refusal = Refusal {
        status: 405,
        kind: RefusalKind::Invalid,
        message: format!("this path does not take {method}: /openapi.json has what it takes"),
        field: None,
    };
    failure::response(&refusal, Form::of(uri.path()))
}

async fn health(State(server): State<Shared>) -> Response {
    let unavailable = |body| (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    match (server.is_open(), server.try_ready()) {
        (false, _) => unavailable(json!({"status": "stopping"})),
        (true, None) => {
            let progress = (server.progress() * 100.0).round() / 100.0;
            let mut response = unavailable(json!({"status": "loading", "progress": progress}));
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        (true, Some(_)) => Json(json!({"status": "ok"})).into_response(),
    }
}

async fn models(State(server): State<Shared>) -> Response {
    let ready = match server.ready() {
        Ok(ready) => ready,
        Err(refusal) => return failure::response(&refusal, Form::OpenAi),
    };
    let model = json!({
        "id": ready.name,
        "object": "model",
        "created": server.began,
        "owned_by": "engine",
        "context_length": ready.texts.context,
        "max_model_len": ready.texts.context,
    });
    Json(json!({"object": "list", "data": [model]})).into_response()
}

async fn metrics(State(server): State<Shared>) -> Response {
    let text = server.metrics.text(&server, server.try_ready());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn chat_completions(State(server): State<Shared>, request: Request<Body>) -> Response {
    let answered = answer(
        &server,
        request,
        "chatcmpl-",
        chat::read,
        |done| match done {
            Done::Whole(envelope, wholes) => Json(chat::whole(&envelope, wholes)).into_response(),
            Done::Stream(envelope, options, answers) => {
                let writer = chat::Chunks::new(envelope, options, answers.count());
                sse::response(answers, writer)
            }
        },
    );
    or_refusal(answered.await)
}

async fn text_completions(State(server): State<Shared>, request: Request<Body>) -> Response {
    let answered = answer(
        &server,
        request,
        "cmpl-",
        completions::read,
        |done| match done {
            Done::Whole(envelope, wholes) => {
                Json(completions::whole(&envelope, wholes)).into_response()
            }
            Done::Stream(envelope, options, answers) => {
                let writer = completions::Chunks::new(envelope, options, answers.count());
                sse::response(answers, writer)
            }
        },
    );
    or_refusal(answered.await)
}

async fn tokenize(State(server): State<Shared>, request: Request<Body>) -> Response {
    or_refusal(told(&server, request, tokens::tokenize).await)
}

async fn detokenize(State(server): State<Shared>, request: Request<Body>) -> Response {
    or_refusal(told(&server, request, tokens::detokenize).await)
}

/// What needs no pass of the model.
async fn told(
    server: &Shared,
    request: Request<Body>,
    tell: tokens::Tell,
) -> Result<Response, Refusal> {
    server.ready()?;
    let (fields, _held) = body::fields(server, request).await?;
    let strict = server.settings.strict;
    let (value, notes) = with_ready(server, move |ready| tell(ready, fields, strict)).await?;
    let mut response = Json(value).into_response();
    name_notes(&mut response, &notes);
    Ok(response)
}

fn or_refusal(answered: Result<Response, Refusal>) -> Response {
    answered.unwrap_or_else(|refusal| failure::response(&refusal, Form::OpenAi))
}

/// What an API writes a response from.
enum Done {
    Whole(Envelope, Vec<answer::Whole>),
    Stream(Envelope, super::openai::StreamOptions, Answers),
}

/// From a request to a response, for the two APIs that differ in little.
async fn answer(
    server: &Shared,
    request: Request<Body>,
    prefix: &str,
    read: fn(Fields, bool) -> Result<Asked, Refusal>,
    write: impl FnOnce(Done) -> Response,
) -> Result<Response, Refusal> {
    let ready = server.ready()?;
    let (fields, held) = body::fields(server, request).await?;
    let Asked {
        asks,
        stream,
        mut notes,
    } = read(fields, server.settings.strict)?;
    let model = asks.first().and_then(|ask| ask.model.clone());
    let prepared = prepared(server, asks).await?;
    drop(held);
    prepared.unnamed().for_each(|name| notes.ignore(name));
    let envelope = Envelope {
        id: server::name(prefix),
        created: server::now(),
        model: model.unwrap_or_else(|| ready.name.clone()),
        prompts: prepared.token_ids.then(|| {
            let prompts = prepared.prompts.iter();
            prompts.map(|prompt| prompt.tokens.clone()).collect()
        }),
        answers: prepared.answers,
        peak_gbps: ready.peak_gbps,
    };
    let answers = Answers::begin(server, ready, &prepared, &envelope.id)?;
    drop(prepared);
    let done = match stream {
        Some(options) => Done::Stream(envelope, options, answers),
        None => Done::Whole(envelope, answer::wholes(answers).await?),
    };
    let mut response = write(done);
    name_notes(&mut response, &notes);
    Ok(response)
}

/// The asks in tokens, made where nobody waits for it.
pub async fn prepared(server: &Shared, asks: Vec<Ask>) -> Result<Prepared, Refusal> {
    with_ready(server, move |ready| prepare(ready, &asks)).await
}

/// Work that takes a core for a while, and no more of it at once than there is room for.
pub async fn with_ready<T: Send + 'static>(
    server: &Shared,
    work: impl FnOnce(&Ready) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |message: &str| Refusal {
        status: 500,
        kind: RefusalKind::Failed,
        message: message.to_owned(),
        field: None,
    };
    let place = server.preparing.clone().acquire_owned().await;
    let place = place.map_err(|_| failed("the server was told to stop"))?;
    let shared = server.clone();
    let worked = tokio::task::spawn_blocking(move || {
        // It is at work to its end, whether its client waits or not.
        let _place = place;
        work(shared.ready()?)
    });
    worked
        .await
        .map_err(|_| failed("the request could not be prepared"))?
}

/// Says which fields had no effect, and which kinds of tools the model was not told of.
pub fn name_notes(response: &mut Response, notes: &Notes) {
    let (ignored, withheld) = (notes.ignored_header(), notes.withheld_header());
    for (name, value) in [(IGNORED, ignored), (WITHHELD, withheld)] {
        let value = value.and_then(|value| HeaderValue::from_str(&value).ok());
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
}
