//! `/panel`: how the model is doing, twice a second, for the page beside the chat.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};

use super::failure::{self, Form};
use super::server::{Phase, Ready, Server, Shared};
use super::sse;

const EVERY: Duration = Duration::from_millis(500);

pub async fn panel(State(server): State<Shared>) -> Response {
    if let Err(refusal) = server.ready() {
        return failure::response(&refusal, Form::OpenAi);
    }
    let body = stream::unfold((server, false), |(server, begun)| async move {
        let mut phase = server.phase();
        let pause = match begun {
            true => EVERY,
            false => Duration::ZERO,
        };
        let over = phase.wait_for(|phase| *phase != Phase::Open);
        if tokio::time::timeout(pause, over).await.is_ok() {
            return None;
        }
        let event = format!("data: {}\n\n", state(&server, server.try_ready()?));
        let event: Result<Bytes, Infallible> = Ok(event.into());
        Some((event, (server, true)))
    });
    sse::of_events(Body::from_stream(body))
}

fn state(server: &Server, ready: &Ready) -> Value {
    let now = server.metrics.now();
    json!({
        "tok_s": now.tokens_per_s,
        "stall_ms": now.stall_ms,
        "link_gbps": now.link_gbps,
        "link_peak_gbps": ready.peak_gbps,
        "async_percent": now.async_percent,
        "running": now.load.running,
        "waiting": now.load.waiting,
        "kv_used": now.load.held,
        "kv_total": now.load.positions,
        "layers": ready.layers,
        "layer_now": now.layer,
    })
}
