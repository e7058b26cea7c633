//! Bodies of refusals, as each API's clients read them. The texts come with the refusal.

use serde_json::{Value, json};

use crate::serve::ask::{Refusal, RefusalKind};

/// Of OpenAI's APIs: chat completions, completions, responses.
pub fn of_openai(refusal: &Refusal) -> Value {
    json!({"error": {
        "message": refusal.message,
        "type": openai_type(refusal.kind),
        "param": refusal.field,
        "code": openai_code(refusal.kind),
    }})
}

/// Of Anthropic's messages API.
pub fn of_anthropic(refusal: &Refusal) -> Value {
    let kind = match refusal.kind {
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
    };
    json!({"type": "error", "error": {"type": kind, "message": refusal.message}})
}

fn openai_type(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Invalid
        | RefusalKind::Unsupported
        | RefusalKind::ContextLengthExceeded
        | RefusalKind::Key
        | RefusalKind::NotFound
        | RefusalKind::TooLarge => "invalid_request_error",
        RefusalKind::Forbidden => "permission_error",
        RefusalKind::Busy => "rate_limit_error",
        RefusalKind::Loading | RefusalKind::Failed => "server_error",
    }
}

/// What clients compare with; the same in a stream that fails.
pub fn openai_code(kind: RefusalKind) -> Option<&'static str> {
    match kind {
        RefusalKind::Invalid => None,
        RefusalKind::Unsupported => Some("unsupported_parameter"),
        RefusalKind::ContextLengthExceeded => Some("context_length_exceeded"),
        RefusalKind::Key => Some("invalid_api_key"),
        RefusalKind::Forbidden => Some("forbidden"),
        RefusalKind::NotFound => Some("model_not_found"),
        RefusalKind::TooLarge => Some("request_too_large"),
        RefusalKind::Busy => Some("rate_limit_exceeded"),
        RefusalKind::Loading => Some("loading"),
        RefusalKind::Failed => Some("server_error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::api::refuse;

    #[test]
    fn a_prompt_that_is_too_long_has_the_words_that_clients_look_for() {
        let refusal = refuse::too_long(5000, 4096, "messages");
        let openai = of_openai(&refusal);
        assert_eq!(openai["error"]["code"], "context_length_exceeded");
        assert_eq!(openai["error"]["type"], "invalid_request_error");
        assert_eq!(openai["error"]["param"], "messages");
        let message = openai["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("maximum context length is 4096 tokens"),
            "{message}"
        );
        let anthropic = of_anthropic(&refusal);
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["type"], "invalid_request_error");
        let message = anthropic["error"]["message"].as_str().unwrap();
        let words = "prompt is too long: 5000 tokens > 4096 maximum";
        assert!(message.starts_with(words), "{message}");
    }

    #[test]
    fn every_kind_has_the_names_of_both_apis() {
        let all = [
            (
                RefusalKind::Invalid,
                "invalid_request_error",
                None,
                "invalid_request_error",
            ),
            (
                RefusalKind::Unsupported,
                "invalid_request_error",
                Some("unsupported_parameter"),
                "invalid_request_error",
            ),
            (
                RefusalKind::Key,
                "invalid_request_error",
                Some("invalid_api_key"),
                "authentication_error",
            ),
            (
                RefusalKind::Forbidden,
                "permission_error",
                Some("forbidden"),
                "permission_error",
            ),
            (
                RefusalKind::NotFound,
                "invalid_request_error",
                Some("model_not_found"),
                "not_found_error",
            ),
            (
                RefusalKind::TooLarge,
                "invalid_request_error",
                Some("request_too_large"),
                "request_too_large",
            ),
            (
                RefusalKind::Busy,
                "rate_limit_error",
                Some("rate_limit_exceeded"),
                "rate_limit_error",
            ),
            (
                RefusalKind::Loading,
                "server_error",
                Some("loading"),
                "overloaded_error",
            ),
            (
                RefusalKind::Failed,
                "server_error",
                Some("server_error"),
                "api_error",
            ),
        ];
        for (kind, of_type, code, anthropic) in all {
            let message = "m".to_owned();
            let refusal = Refusal {
                status: 400,
                kind,
                message,
                field: None,
            };
            let error = json!({"message": "m", "type": of_type, "param": null, "code": code});
            assert_eq!(of_openai(&refusal), json!({"error": error}));
            let error = json!({"type": anthropic, "message": "m"});
            assert_eq!(
                of_anthropic(&refusal),
                json!({"type": "error", "error": error})
            );
        }
    }
}
