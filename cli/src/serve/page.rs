//! The page at `/`: its parts put together as one, under a policy that lets nothing run but what is
//! in it. It knows no model, and not what its parts say.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use super::server;

/// `bench/check-page` reads this list, and puts the same page together.
const PAGE: &str = concat!(
    include_str!("page/head.html"),
    include_str!("page/frame.css"),
    include_str!("page/talk.css"),
    include_str!("page/panel.css"),
    include_str!("page/narrow.css"),
    include_str!("page/body.html"),
    include_str!("page/tools.js"),
    include_str!("page/store.js"),
    include_str!("page/files.js"),
    include_str!("page/stream.js"),
    include_str!("page/server.js"),
    include_str!("page/markdown.js"),
    include_str!("page/inline.js"),
    include_str!("page/talk.js"),
    include_str!("page/answer.js"),
    include_str!("page/ask.js"),
    include_str!("page/list.js"),
    include_str!("page/settings.js"),
    include_str!("page/panel.js"),
    include_str!("page/start.js"),
    include_str!("page/end.html"),
);

/// Its one style and its one script carry a word that cannot be guessed: what a text brought into the
/// page would lack it.
pub async fn page() -> Response {
    let word = server::name("");
    let page = PAGE
        .replacen("<style>", &format!("<style nonce=\"{word}\">"), 1)
        .replacen("<script>", &format!("<script nonce=\"{word}\">"), 1);
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy(&word)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, Html(page)).into_response()
}

fn policy(word: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{word}'; script-src 'nonce-{word}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second one would stand without the word and do nothing, and so would one that a comment
    /// names before it: the first that is found gets the word.
    #[test]
    fn the_parts_make_one_page() {
        for tag in [
            "<!doctype html>",
            "<style>",
            "<script>",
            "</script>",
            "</html>",
        ] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        for (tag, at) in [("style", "<head>"), ("script", "<body>")] {
            assert!(PAGE.find(at) < PAGE.find(&format!("<{tag}>")), "{tag}");
        }
        assert!(PAGE.starts_with("<!doctype html>") && PAGE.ends_with("</html>\n"));
    }

    #[test]
    fn the_policy_lets_nothing_else_in() {
        let policy = policy("sesame");
        let rules: Vec<_> = policy.split("; ").collect();
        for rule in [
            "default-src 'none'",
            "script-src 'nonce-sesame'",
            "style-src 'nonce-sesame'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ] {
            assert!(rules.contains(&rule), "{rule} is not in {policy}");
        }
    }
}
