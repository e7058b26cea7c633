//! Requests that are not answered, in the bodies that clients of either family read: a status, a kind
//! that a program can tell apart, and a sentence for a person.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

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
        Form::OpenAi => {
            let (kind, code) = openai(refusal.kind);
            json!({"error": {
                "message": refusal.message,
                "type": kind,
                "param": refusal.field,
                "code": code,
            }})
        }
        Form::Anthropic => json!({
            "type": "error",
            "error": {"type": anthropic(refusal.kind), "message": refusal.message},
        }),
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

fn openai(kind: RefusalKind) -> (&'static str, Option<&'static str>) {
    const INVALID: &str = "invalid_request_error";
    match kind {
        RefusalKind::Invalid => (INVALID, None),
        RefusalKind::Unsupported => (INVALID, Some("unsupported_parameter")),
        RefusalKind::ContextLengthExceeded => (INVALID, Some("context_length_exceeded")),
        RefusalKind::Key => ("authentication_error", Some("invalid_api_key")),
        RefusalKind::Forbidden => ("permission_error", None),
        RefusalKind::NotFound => ("not_found_error", None),
        RefusalKind::TooLarge => (INVALID, Some("request_too_large")),
        RefusalKind::Busy => ("rate_limit_error", Some("rate_limit_exceeded")),
        RefusalKind::Loading => ("service_unavailable_error", None),
        RefusalKind::Failed => ("server_error", None),
    }
}

fn anthropic(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Invalid | RefusalKind::Unsupported | RefusalKind::ContextLengthExceeded => {
            "invalid_request_error"
        }
        RefusalKind::Key => "authentication_error",
        RefusalKind::Forbidden => "permission_error",
        RefusalKind::NotFound => "not_found_error",
        RefusalKind::TooLarge => "request_too_large",
        RefusalKind::Busy => "rate_limit_error",
        RefusalKind::Loading => "overloaded_error",
        RefusalKind::Failed => "api_error",
    }
}
