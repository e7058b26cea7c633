//! A client of HTTP/1.1 that knows just enough: one request a connection, whole or as it comes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A server that hangs fails the test.
const HANGS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        self
    }

    /// A refusal with a sentence in it.
    #[track_caller]
    pub fn refuses(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let message = self.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{words:?} is missing: {self:?}");
    }
}

/// A request as it is sent; the body's length is added.
pub fn text(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| headers.iter().any(|(known, _)| *known == name);
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !has("host") {
        head.push_str("host: localhost\r\n");
    }
    if !has("connection") {
        head.push_str("connection: close\r\n");
    }
    if !body.is_empty() && !has("content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    if !has("content-length") {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    stream.set_write_timeout(Some(HANGS)).unwrap();
    stream
}

/// Sends bytes, and reads what comes.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = connect(address);
    // A server that refuses a large body does not read it all.
    let _ = stream.write_all(bytes);
    read(&mut BufReader::new(stream))
}

pub fn read(from: &mut impl BufRead) -> Reply {
    let (status, headers) = head(from);
    let mut body = Vec::new();
    match find(&headers, "transfer-encoding") {
        Some("chunked") => {
            while let Some(chunk) = chunk(from) {
                body.extend(chunk);
            }
        }
        _ => {
            let length = find(&headers, "content-length").map_or(0, |text| text.parse().unwrap());
            body.resize(length, 0);
            from.read_exact(&mut body).unwrap();
        }
    }
    Reply {
        status,
        headers,
        body: String::from_utf8(body).unwrap(),
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

fn head(from: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let status = line
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no status: {line:?}"));
    let status = status.parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return (status, headers);
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// `None`: the last one came.
fn chunk(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("{line:?}"));
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes).unwrap();
    bytes.truncate(length);
    (length > 0).then_some(bytes)
}

/// A response whose events are read as they come. Dropping it closes the connection.
pub struct Stream {
    from: BufReader<TcpStream>,
    pub status: u16,
    waiting: String,
    over: bool,
}

impl Stream {
    pub fn open(address: SocketAddr, request: &[u8]) -> Self {
        let mut stream = connect(address);
        stream.write_all(request).unwrap();
        let mut from = BufReader::new(stream);
        let (status, _) = head(&mut from);
        Self {
            from,
            status,
            waiting: String::new(),
            over: false,
        }
    }

    /// What comes after `data: ` next, comments left out. `None`: it ended.
    pub fn next(&mut self) -> Option<String> {
        loop {
            while let Some((event, rest)) = self.waiting.split_once("\n\n") {
                let mut lines = event.lines();
                let data = lines.find_map(|line| line.strip_prefix("data: "));
                let data = data.map(str::to_owned);
                self.waiting = rest.to_owned();
                if data.is_some() {
                    return data;
                }
            }
            if self.over {
                return None;
            }
            match chunk(&mut self.from) {
                Some(bytes) => self.waiting.push_str(std::str::from_utf8(&bytes).unwrap()),
                None => self.over = true,
            }
        }
    }

    /// All that is still to come, as JSON; without the mark at the end, which must be there.
    #[track_caller]
    pub fn rest(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(data) = self.next() {
            if data == "[DONE]" {
                assert_eq!(self.next(), None);
                return events;
            }
            events.push(serde_json::from_str(&data).unwrap());
        }
        panic!("no end: {events:?}");
    }
}
