//! `/openapi.json`: every path, what it takes and what it gives. A test holds it to the routes.

use serde_json::{Map, Value, json};

use schemas::{reference, schemas};

mod schemas;

/// An operation, as the document has it.
#[derive(Debug, Clone, Copy)]
struct Operation {
    path: &'static str,
    method: &'static str,
    summary: &'static str,
    /// The schema of its body; `None`: it takes none.
    takes: Option<&'static str>,
    gives: Gives,
    /// Needs no key, and answers while the model loads.
    open: bool,
}

#[derive(Debug, Clone, Copy)]
enum Gives {
    Json(&'static str),
    /// The same, or events.
    JsonOrEvents(&'static str),
    Events,
    Text,
    Html,
}

const fn get(path: &'static str, summary: &'static str, gives: Gives, open: bool) -> Operation {
    Operation {
        path,
        method: "get",
        summary,
        takes: None,
        gives,
        open,
    }
}

const fn post(
    path: &'static str,
    summary: &'static str,
    takes: &'static str,
    gives: Gives,
) -> Operation {
    Operation {
        path,
        method: "post",
        summary,
        takes: Some(takes),
        gives,
        open: false,
    }
}

const OPERATIONS: &[Operation] = &[
    get("/", "A page to chat with", Gives::Html, true),
    get(
        "/health",
        "Whether the model is there, or how much of it",
        Gives::Json("Health"),
        true,
    ),
    get("/readyz", "The same", Gives::Json("Health"), true),
    get(
        "/livez",
        "Whether the server is there",
        Gives::Json("Health"),
        true,
    ),
    get("/metrics", "Figures for Prometheus", Gives::Text, false),
    get("/openapi.json", "This document", Gives::Json("Any"), false),
    get(
        "/panel",
        "How the model is doing, twice a second",
        Gives::Events,
        false,
    ),
    get(
        "/v1/models",
        "The model that there is",
        Gives::Json("Models"),
        false,
    ),
    post(
        "/v1/chat/completions",
        "The next message of a conversation",
        "ChatRequest",
        Gives::JsonOrEvents("ChatCompletion"),
    ),
    post(
        "/v1/completions",
        "How a text goes on",
        "CompletionRequest",
        Gives::JsonOrEvents("Completion"),
    ),
    post(
        "/v1/responses",
        "The next items of a conversation",
        "ResponsesRequest",
        Gives::JsonOrEvents("Any"),
    ),
    post(
        "/v1/responses/input_tokens",
        "How many tokens they would be given",
        "ResponsesRequest",
        Gives::Json("Count"),
    ),
    post(
        "/v1/messages",
        "The next message of a conversation",
        "MessagesRequest",
        Gives::JsonOrEvents("Any"),
    ),
    post(
        "/v1/messages/count_tokens",
        "How many tokens a conversation has",
        "CountRequest",
        Gives::Json("Count"),
    ),
    post(
        "/tokenize",
        "The tokens of a text or of a conversation",
        "TokenizeRequest",
        Gives::Json("Tokens"),
    ),
    post(
        "/detokenize",
        "The text of tokens",
        "DetokenizeRequest",
        Gives::Json("Text"),
    ),
];

pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "engine",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs a language model larger than the memory that it computes in.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut told = json!({
        "summary": operation.summary,
        "responses": responses(operation),
    });
    if let Some(schema) = operation.takes {
        told["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": reference(schema)}},
        });
    }
    told["security"] = match operation.open {
        true => json!([]),
        // None, where the server was started without a key.
        false => json!([{"bearer": []}, {"key": []}, {}]),
    };
    told
}

fn responses(operation: &Operation) -> Value {
    // A reader of events sees objects, with or without a name: no schema of one kind fits.
    let events = json!({});
    let text = json!({"schema": {"type": "string"}});
    let content = match operation.gives {
        Gives::Json(schema) => json!({"application/json": {"schema": reference(schema)}}),
        Gives::JsonOrEvents(schema) => json!({
            "application/json": {"schema": reference(schema)},
            "text/event-stream": events,
        }),
        Gives::Events => json!({"text/event-stream": events}),
        Gives::Text => json!({"text/plain": text}),
        Gives::Html => json!({"text/html": text}),
    };
    let mut responses = json!({"200": {"description": "It is done.", "content": content}});
    let mut refused = |status: &str, why: &str| {
        responses[status] = json!({
            "description": why,
            "content": {"application/json": {"schema": reference("Error")}},
        });
    };
    refused(
        "400",
        "The request is not understood; the message says what is wrong with it.",
    );
    refused("403", "The Host or the Origin is not one that may come.");
    if operation.takes.is_some() {
        refused("408", "The body did not come in time.");
        refused("413", "The body is larger than --body-limit.");
        refused("415", "The body is not said to be JSON.");
        refused("429", "All places are taken, those of the queue too.");
        refused("500", "The model could not go on.");
    }
    if !operation.open {
        refused("401", "The key is missing or wrong.");
        refused(
            "503",
            "The model is loading, or the server was told to stop.",
        );
    } else {
        responses["503"] = json!({"description": "The model is loading.", "content": content});
    }
    responses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::routes::routes;

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document = document();
        let mut told: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let mut there: Vec<String> = routes()
            .into_iter()
            .map(|(path, _)| path.to_owned())
            .collect();
        told.sort();
        there.sort();
        assert_eq!(told, there.iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let text = document.to_string();
        let references = text.split("#/components/schemas/").skip(1);
        let names: Vec<&str> = references
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            assert!(schemas[name].is_object(), "{name}");
        }
    }
}
