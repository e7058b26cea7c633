//! The body of a request, read with limits: on its bytes, on how long it may take to come, on the
//! memory that all bodies together take, and on the values in it. What comes out is the fields of a
//! JSON object.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Request, header};
use futures_util::StreamExt;

use super::api::fields::{Fields, values};
use super::ask::{Refusal, RefusalKind};
use super::server::{Server, Shared};

/// A client that sends nothing for so long is not waited for.
const CHUNK_WITHIN: Duration = Duration::from_secs(15);

/// And the whole must be there after this.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);

/// How long the rest of a body that is too large is read, and a pause that ends it.
const POUR_WITHIN: Duration = Duration::from_secs(2);
const POUR_PAUSE: Duration = Duration::from_millis(100);

/// What is read of a body at once on the thread of its connection.
const SMALL: usize = 64 << 10;

/// What a value takes beside its text, about.
const VALUE_BYTES: usize = 96;

/// Bytes that requests may take together, from the first byte of a body until it is tokens.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
}

/// Some of them, until it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(bytes)),
        }
    }

    fn hold(&self) -> Held {
        Held {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Held {
    fn more(&mut self, bytes: usize) -> Result<(), Refusal> {
        let take = |left: usize| left.checked_sub(bytes);
        let left = &self.budget.left;
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(Refusal {
                status: 503,
                kind: RefusalKind::Busy,
                message: "too many large requests are here at once: try again soon".to_owned(),
                field: None,
            }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// The fields that a request brings, and the memory that they take.
pub async fn fields(server: &Shared, request: Request<Body>) -> Result<(Fields, Held), Refusal> {
    is_json(request.headers())?;
    let mut held = server.bodies.hold();
    let bytes = tokio::time::timeout(WHOLE_WITHIN, bytes(server, request, &mut held));
    let bytes = bytes.await.map_err(|_| slow())??;
    if bytes.len() <= SMALL {
        return Ok((parse(&bytes, &mut held)?, held));
    }
    let parsed = tokio::task::spawn_blocking(move || Ok((parse(&bytes, &mut held)?, held)));
    let failed = |_| invalid("the body could not be read".to_owned());
    parsed.await.map_err(failed)?
}

async fn bytes(
    server: &Server,
    request: Request<Body>,
    held: &mut Held,
) -> Result<Vec<u8>, Refusal> {
    let most = server.settings.body_limit;
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|said| said.to_str().ok()?.parse::<u64>().ok());
    let mut body: BodyDataStream = request.into_body().into_data_stream();
    if said.is_some_and(|said| said > most as u64) {
        pour_away(&mut body).await;
        return Err(too_large(most));
    }
    let mut bytes = Vec::new();
    loop {
        let chunk = tokio::time::timeout(CHUNK_WITHIN, body.next());
        let Some(chunk) = chunk.await.map_err(|_| slow())? else {
            return Ok(bytes);
        };
        let chunk = chunk.map_err(|error| invalid(format!("the body broke off: {error}")))?;
        if bytes.len() + chunk.len() > most {
            pour_away(&mut body).await;
            return Err(too_large(most));
        }
        held.more(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
}

/// A client that is still sending hears no refusal: the connection would be reset under it. What comes
/// in a moment is read and forgotten.
async fn pour_away(body: &mut BodyDataStream) {
    let pour = async {
        while let Ok(Some(Ok(_))) = tokio::time::timeout(POUR_PAUSE, body.next()).await {}
    };
    // It has had its time.
    let _ = tokio::time::timeout(POUR_WITHIN, pour).await;
}

fn is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE);
    let kind = given.and_then(|given| given.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let kind = kind.to_ascii_lowercase();
    let fine =
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    match (fine, given) {
        (true, _) => Ok(()),
        (false, None) => Err(media("the request has no content-type")),
        (false, Some(_)) => Err(media(&format!("the content-type is `{kind}`"))),
    }
}

fn parse(bytes: &[u8], held: &mut Held) -> Result<Fields, Refusal> {
    if let Err(error) = std::str::from_utf8(bytes) {
        let at = error.valid_up_to();
        return Err(invalid(format!("the body is not UTF-8: see byte {at}")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(invalid("the body is empty: send a JSON object".to_owned()));
    }
    held.more(values(bytes) * VALUE_BYTES)?;
    Fields::of_body(bytes)
}

fn invalid(message: String) -> Refusal {
    Refusal {
        status: 400,
        kind: RefusalKind::Invalid,
        message,
        field: None,
    }
}

fn media(what: &str) -> Refusal {
    Refusal {
        status: 415,
        ..invalid(format!("{what}: send a JSON object as application/json"))
    }
}

fn slow() -> Refusal {
    Refusal {
        status: 408,
        ..invalid("the body did not come in time: send it at once".to_owned())
    }
}

fn too_large(most: usize) -> Refusal {
    Refusal {
        status: 413,
        kind: RefusalKind::TooLarge,
        message: format!(
            "the body has more than the {most} bytes that are read; --body-limit of the server says so"
        ),
        field: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_held_is_given_back() {
        let budget = Budget::new(10);
        let mut held = budget.hold();
        held.more(8).unwrap();
        assert_eq!(budget.hold().more(3).unwrap_err().status, 503);
        drop(held);
        budget.hold().more(10).unwrap();
    }
}
