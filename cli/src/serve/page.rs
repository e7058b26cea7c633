//! The page at `/`: one file, under a policy that lets nothing run but what is in it. It knows no model.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use super::server;

const PAGE: &str = include_str!("page.html");

/// Its one style and its one script carry a word that nobody foretells: what a text brought into the
/// page would lack it.
pub async fn page() -> Response {
    let word = server::name("");
    let page = PAGE
        .replacen("<style>", &format!("<style nonce=\"{word}\">"), 1)
        .replacen("<script>", &format!("<script nonce=\"{word}\">"), 1);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{word}'; script-src 'nonce-{word}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Html(page)).into_response()
}
