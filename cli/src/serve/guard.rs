//! Who may come in, before anything is read of what they want: a name for this server that no
//! stranger's page can point here (DNS rebinding), an origin that is this server's or was allowed, and
//! the key. It must not know what the routes do.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Request, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::ask::{Refusal, RefusalKind};
use super::failure::{self, Form};
use super::server::{Settings, Shared};

/// Paths that say nothing of what is computed, for whoever watches over servers.
const OPEN: [&str; 4] = ["/health", "/livez", "/readyz", "/"];

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

pub async fn guard(State(server): State<Shared>, request: Request<Body>, next: Next) -> Response {
    let form = Form::of(request.uri().path());
    let settings = &server.settings;
    let origin = match admitted(settings, &request) {
        Ok(origin) => origin,
        Err(refusal) => return failure::response(&refusal, form),
    };
    let preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (preflight && origin.is_some(), has_key(settings, &request)) {
        (true, _) => StatusCode::NO_CONTENT.into_response(),
        (false, Err(refusal)) => failure::response(&refusal, form),
        (false, Ok(())) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(origin) = origin {
        allow(headers, origin, preflight);
    }
    response
}

/// The origin of another site, if that was allowed.
fn admitted(settings: &Settings, request: &Request<Body>) -> Result<Option<HeaderValue>, Refusal> {
    let host = host(request.headers(), request.uri())?;
    if !is_ours(settings, name_of(&host)) {
        return Err(forbidden(format!(
            "this server is not called `{}`: start it with --allow-host to have it so",
            shown(name_of(&host))
        )));
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(None);
    };
    let text = origin.to_str().unwrap_or("");
    let same = text.split_once("://");
    if same.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(&host)) {
        return Ok(None);
    }
    let known = |allowed: &String| {
        allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(text)
    };
    match origins.next().is_none() && settings.cors.iter().any(known) {
        true => Ok(Some(origin.clone())),
        false => Err(forbidden(format!(
            "pages of `{}` may not call this server: start it with --cors to let them",
            shown(text)
        ))),
    }
}

/// What the client calls this server, with the port.
fn host(headers: &HeaderMap, uri: &Uri) -> Result<String, Refusal> {
    let mut given = headers.get_all(header::HOST).iter();
    let host = match (uri.authority(), given.next(), given.next()) {
        (_, _, Some(_)) => None,
        (Some(authority), _, None) => Some(authority.as_str()),
        (None, Some(host), None) => host.to_str().ok(),
        (None, None, None) => None,
    };
    host.map(str::to_owned).ok_or_else(|| Refusal {
        status: 400,
        kind: RefusalKind::Invalid,
        message: "a request has one Host header, and this one has none, several or a strange one"
            .to_owned(),
        field: None,
    })
}

/// Without the port.
fn name_of(host: &str) -> &str {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match bracketed {
        Some((address, rest)) if rest.is_empty() || rest.starts_with(':') => address,
        _ => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// An address cannot be pointed elsewhere; of names, only those that the server was given.
fn is_ours(settings: &Settings, name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || settings
            .hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(&name))
}

fn has_key(settings: &Settings, request: &Request<Body>) -> Result<(), Refusal> {
    let Some(key) = &settings.api_key else {
        return Ok(());
    };
    if OPEN.contains(&request.uri().path()) {
        return Ok(());
    }
    let headers = request.headers();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, given) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
    });
    let own = headers.get(API_KEY).and_then(|value| value.to_str().ok());
    let given = [bearer, own];
    let right = given
        .into_iter()
        .flatten()
        .any(|given| bool::from(given.as_bytes().ct_eq(key.as_bytes())));
    match right {
        true => Ok(()),
        false => Err(Refusal {
            status: 401,
            kind: RefusalKind::Key,
            message: match given {
                [None, None] => "this server wants a key: send `Authorization: Bearer KEY`",
                _ => "the key is not this server's",
            }
            .to_owned(),
            field: None,
        }),
    }
}

/// Lets a page of that origin read the response.
fn allow(headers: &mut HeaderMap, origin: HeaderValue, preflight: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let fixed: &[(HeaderName, &str)] = match preflight {
        true => &[
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, x-api-key, anthropic-version, anthropic-beta",
            ),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ],
        false => &[(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "x-engine-ignored, retry-after",
        )],
    };
    for (name, value) in fixed {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name.clone(), value);
        }
    }
}

fn forbidden(message: String) -> Refusal {
    Refusal {
        status: 403,
        kind: RefusalKind::Forbidden,
        message,
        field: None,
    }
}

/// A header may be long.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_from_its_port() {
        for (host, name) in [
            ("localhost", "localhost"),
            ("localhost:8080", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:8080", "::1"),
            ("[::1]", "::1"),
            ("[::1].evil", "[:"),
        ] {
            assert_eq!(name_of(host), name, "{host}");
        }
    }
}
