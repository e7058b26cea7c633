//! Requests that are not answered, in the bodies that clients of either family read: a status, a kind
//! that a program can tell apart, and a sentence for a person.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::api::errors;
use super::ask::{Refusal, RefusalKind};

/// Seconds after which it is worth to try again.
const RETRY_AFTER: &str = "1";

/// Whose form a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    OpenAi,
    Anthropic,
}

impl Form {
    /// The one that clients of this path read.
    pub fn of(path: &str) -> Self {
        match path == "/v1/messages" || path.starts_with("/v1/messages/") {
            true => Self::Anthropic,
            false => Self::OpenAi,
        }
    }
}

pub fn body(refusal: &Refusal, form: Form) -> Value {
    match form {
        Form::OpenAi => errors::of_openai(refusal),
        Form::Anthropic => errors::of_anthropic(refusal),
    }
}

pub fn response(refusal: &Refusal, form: Form) -> Response {
    let status = StatusCode::from_u16(refusal.status);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(body(refusal, form))).into_response();
    if matches!(refusal.kind, RefusalKind::Busy | RefusalKind::Loading) {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}
