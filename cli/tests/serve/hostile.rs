//! Clients that mean no good, or know no better: clear refusals, and the others undisturbed.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use crate::client::{connect, raw, text};
use crate::served::Served;

const TEXT: &str = "/v1/completions";

#[test]
fn a_body_is_read_up_to_its_limit() {
    let served = Served::demo("--body-limit 64KiB");
    let large = vec![b' '; 80 << 10];
    raw(served.address, &text("POST", TEXT, &[], &large)).refuses(413, "65536 bytes");
    // It says that it is a gigabyte: nothing of it is waited for.
    let said = [("content-length", "1000000000")];
    raw(served.address, &text("POST", TEXT, &said, b"{")).refuses(413, "65536 bytes");
    // And one that does not say how long it is.
    let mut chunked = text(
        "POST",
        TEXT,
        &[("transfer-encoding", "chunked"), ("content-length", "0")],
        b"",
    );
    let head = String::from_utf8(chunked.clone()).unwrap().replace(
        "content-length: 0\r\n",
        "content-type: application/json\r\n",
    );
    chunked = head.into_bytes();
    for _ in 0..10 {
        chunked.extend(format!("{:x}\r\n", 16 << 10).into_bytes());
        chunked.extend(vec![b' '; 16 << 10]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    raw(served.address, &chunked).refuses(413, "65536 bytes");
    served
        .post(TEXT, &json!({"prompt": "Once", "max_tokens": 1}))
        .ok();
}

#[test]
fn what_is_no_request_is_told_why() {
    let served = Served::demo("");
    let post = |body: &[u8]| raw(served.address, &text("POST", TEXT, &[], body));
    post(b"{\"prompt\": \"\xff\"}").refuses(400, "not UTF-8: see byte 12");
    post(b"{").refuses(400, "no JSON");
    post(b"[1]").refuses(400, "must be a JSON object");
    post(b" ").refuses(400, "empty");
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    post(&[b"{\"prompt\": ", deep.as_slice(), b"}"].concat()).refuses(400, "recursion limit");
    let kind = [("content-type", "text/plain")];
    raw(served.address, &text("POST", TEXT, &kind, b"{}")).refuses(415, "application/json");
    let none = text("POST", TEXT, &[], b"{}");
    let none = String::from_utf8(none)
        .unwrap()
        .replace("content-type: application/json\r\n", "");
    raw(served.address, none.as_bytes()).refuses(415, "no content-type");
    served.get("/nowhere").refuses(404, "no such path");
    served.get("/../../etc/passwd").refuses(404, "no such path");
    served.get(TEXT).refuses(405, "GET");
    raw(served.address, &text("DELETE", "/health", &[], b"")).refuses(405, "DELETE");
    let garbage = raw(served.address, b"\x16\x03\x01\x02\x00\x01\r\n\r\n");
    assert_eq!(garbage.status, 400);
    let long = "x".repeat(400_000);
    let reply = raw(
        served.address,
        &text("GET", "/health", &[("x-long", &long)], b""),
    );
    assert_eq!(reply.status, 431);
    served.get("/health").ok();
}

#[test]
fn a_key_is_wanted_where_there_is_one() {
    let body = json!({"prompt": "Once", "max_tokens": 1});
    for served in [
        Served::demo("--api-key secret"),
        Served::start(None, "", &[("ENGINE_API_KEY", "secret")]),
    ] {
        let with = |headers: &[(&str, &str)]| served.post_with(TEXT, headers, &body);
        with(&[]).refuses(401, "wants a key");
        for wrong in [
            "Bearer secre",
            "Bearer secrets",
            "Bearer ",
            "secret",
            "Basic secret",
        ] {
            assert_eq!(with(&[("authorization", wrong)]).status, 401, "{wrong}");
        }
        with(&[("x-api-key", "Secret")]).refuses(401, "not this server's");
        with(&[("authorization", "Bearer secret")]).ok();
        with(&[("x-api-key", "secret")]).ok();
        assert_eq!(served.get("/metrics").status, 401);
        assert_eq!(served.get("/v1/models").status, 401);
        for open in ["/health", "/livez", "/readyz"] {
            served.get(open).ok();
        }
    }
}

#[test]
fn no_strange_name_and_no_strange_page() {
    let served = Served::demo("--allow-host box.example --cors https://chat.example");
    let get =
        |headers: &[(&str, &str)]| raw(served.address, &text("GET", "/v1/models", headers, b""));
    for fine in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:8080",
        "[::1]:80",
        "10.0.0.7",
        "box.example:9",
    ] {
        get(&[("host", fine)]).ok();
    }
    for strange in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[::1].evil",
    ] {
        assert!(
            matches!(get(&[("host", strange)]).status, 400 | 403),
            "{strange}"
        );
    }
    get(&[("host", "evil.example")]).refuses(403, "--allow-host");
    assert_eq!(
        raw(served.address, b"GET /v1/models HTTP/1.1\r\n\r\n").status,
        400
    );
    assert_eq!(
        raw(
            served.address,
            b"GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
        )
        .status,
        403
    );
    assert_eq!(
        raw(
            served.address,
            b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nhost: a\r\n\r\n"
        )
        .status,
        400
    );
    // Its own page, and the one that was allowed.
    let own = get(&[("host", "localhost:80"), ("origin", "http://localhost:80")]).ok();
    assert_eq!(own.header("access-control-allow-origin"), None);
    let other = get(&[("origin", "https://chat.example")]).ok();
    assert_eq!(
        other.header("access-control-allow-origin"),
        Some("https://chat.example")
    );
    for strange in [
        "https://evil.example",
        "null",
        "http://chat.example",
        "http://localhost:81",
    ] {
        get(&[("host", "localhost:80"), ("origin", strange)]).refuses(403, "--cors");
    }
    let ask = [
        ("origin", "https://chat.example"),
        ("access-control-request-method", "POST"),
    ];
    let preflight = raw(served.address, &text("OPTIONS", TEXT, &ask, b""));
    assert_eq!(preflight.status, 204);
    assert!(
        preflight
            .header("access-control-allow-headers")
            .unwrap()
            .contains("authorization")
    );
    let ask = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
    ];
    assert_eq!(
        raw(served.address, &text("OPTIONS", TEXT, &ask, b"")).status,
        403
    );
}

#[test]
fn slow_clients_hold_no_place() {
    let served = Served::demo("--parallel 1 --queue 0");
    // A head and a body that never end.
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut head = connect(served.address);
        head.write_all(b"GET / HTTP/1.1\r\nhost: loc").unwrap();
        let mut body = connect(served.address);
        body.write_all(&text("POST", TEXT, &[("content-length", "100")], b"{"))
            .unwrap();
        slow.push((head, body));
    }
    std::thread::sleep(Duration::from_millis(100));
    served
        .post(TEXT, &json!({"prompt": "Once", "max_tokens": 4}))
        .ok();
    assert_eq!(served.figure("engine_places_taken"), 0.0);
}
