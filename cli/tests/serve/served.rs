//! A server that runs for a test, and models to run it with.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use loader::Family;
use loader::synth::{self, SynthSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Reply, Stream, raw, text};

const HANGS: Duration = Duration::from_secs(60);

pub struct Served {
    child: Child,
    pub address: SocketAddr,
    said: Arc<Mutex<String>>,
    model: Option<TempDir>,
}

impl Served {
    /// With the demo model.
    pub fn demo(flags: &str) -> Self {
        Self::start(None, flags, &[])
    }

    /// With a small model that has a chat template.
    pub fn chatty(flags: &str) -> Self {
        Self::start(Some(chatty()), flags, &[])
    }

    /// `variables`: of its environment.
    pub fn start(model: Option<TempDir>, flags: &str, variables: &[(&str, &str)]) -> Self {
        let served = Self::loading(model, flags, variables);
        served.until("it is ready", || served.get("/health").status == 200);
        served
    }

    /// The same before it has loaded.
    pub fn loading(model: Option<TempDir>, flags: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.args(["serve", "--port", "0"]);
        command
            .env_remove("ENGINE_API_KEY")
            .envs(variables.iter().copied());
        if let Some(model) = &model {
            command.arg("--model").arg(model.path().join("model"));
        }
        command.args(flags.split_whitespace());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("Listening on http://");
        let address = address
            .unwrap_or_else(|| panic!("{first:?}"))
            .parse()
            .unwrap();
        let said = Arc::new(Mutex::new(first));
        let heard = Arc::clone(&said);
        thread::spawn(move || listen(lines, &heard));
        Self {
            child,
            address,
            said,
            model,
        }
    }

    /// The directory of its model, which is not the demo.
    pub fn model(&self) -> PathBuf {
        self.model.as_ref().unwrap().path().join("model")
    }

    pub fn get(&self, path: &str) -> Reply {
        raw(self.address, &text("GET", path, &[], b""))
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, &[], body)
    }

    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let body = body.to_string();
        raw(self.address, &text("POST", path, headers, body.as_bytes()))
    }

    pub fn stream(&self, path: &str, body: &Value) -> Stream {
        let body = body.to_string();
        Stream::open(self.address, &text("POST", path, &[], body.as_bytes()))
    }

    /// A figure of `/metrics`.
    #[track_caller]
    pub fn figure(&self, name: &str) -> f64 {
        let page = self.get("/metrics").ok().body;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {page}"))
            .parse()
            .unwrap()
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut there: impl FnMut() -> bool) {
        let started = Instant::now();
        while !there() {
            assert!(
                started.elapsed() < HANGS,
                "waited in vain until {what}: {}",
                self.said()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote to stderr so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
    }

    /// Waits for its end.
    pub fn end(&mut self) -> (ExitStatus, Duration) {
        let from = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, from.elapsed());
            }
            assert!(from.elapsed() < HANGS, "it hangs: {}", self.said());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(mut lines: BufReader<ChildStderr>, said: &Mutex<String>) {
    let mut line = String::new();
    while let Ok(1..) = lines.read_line(&mut line) {
        said.lock().unwrap().push_str(&line);
        line.clear();
    }
}

/// Tokens that are a whole call of a tool, and a thought with an answer. A bias makes the model say
/// them.
pub const CALL: u32 = 250;
pub const THOUGHT: u32 = 251;

/// Says all that it was given.
const TEMPLATE: &str = "{% for m in messages %} {{ m.role }} {{ m.content }}{% endfor %}\
    {% if tools %} {{ tools|tojson }}{% endif %}\
    {% if enable_thinking is defined %} thinking {{ enable_thinking }}{% endif %}\
    {% if add_generation_prompt %} assistant{% endif %}";

/// Random weights and no tokenizer, as `engine synth` makes them.
pub fn mute() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let spec = SynthSpec {
        max_positions: 32768,
        ..SynthSpec::tiny(Family::QWEN2)
    };
    synth::write(&temp.path().join("model"), &spec, &mut |_, _| {}).unwrap();
    temp
}

pub fn chatty() -> TempDir {
    let temp = mute();
    let dir: PathBuf = temp.path().join("model");
    // Words that are known; all others are the first.
    let words = (0..256).map(|word| match word {
        0 => "?".to_owned(),
        1 => "user".to_owned(),
        2 => "system".to_owned(),
        3 => "assistant".to_owned(),
        CALL => r#"<tool_call>{"name":"look","arguments":{"z":1,"a":"b"}}</tool_call>"#.to_owned(),
        THOUGHT => "<think>hm</think>yes".to_owned(),
        word => format!("w{word}"),
    });
    let vocabulary: serde_json::Map<String, Value> = words
        .enumerate()
        .map(|(id, word)| (word, id.into()))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "?"}
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
    temp
}
