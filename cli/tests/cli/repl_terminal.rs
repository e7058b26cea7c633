//! `engine chat` on a terminal: what a person meets. The terminal is that of `script`.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::repl::chatty;

const HANGS: Duration = Duration::from_secs(60);
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// Someone at a terminal, who reads before typing on.
struct Person {
    child: Child,
    keys: Option<ChildStdin>,
    seen: Receiver<Vec<u8>>,
    shown: String,
    /// What was looked at.
    read: usize,
}

impl Person {
    /// In front of what a shell makes of this line.
    fn sits_at(line: &str, state: &Path) -> Self {
        let mut child = Command::new("script")
            .args(["-qec", line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env("XDG_STATE_HOME", state)
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, seen) = channel();
        let mut out = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut piece = vec![0; 4096];
            while let Ok(got @ 1..) = out.read(&mut piece) {
                if to.send(piece[..got].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            keys: child.stdin.take(),
            child,
            seen,
            shown: String::new(),
            read: 0,
        }
    }

    /// Waits until this is shown, after what was looked at before.
    #[track_caller]
    fn sees(&mut self, words: &str) -> &mut Self {
        let from = Instant::now();
        loop {
            if let Some(at) = self.shown[self.read..].find(words) {
                self.read += at + words.len();
                return self;
            }
            match self.seen.recv_timeout(HANGS.saturating_sub(from.elapsed())) {
                Ok(piece) => self.shown.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => panic!("{words:?} did not come: {:?}", self.shown),
            }
        }
    }

    fn types(&mut self, keys: &str) -> &mut Self {
        let to = self.keys.as_mut().unwrap();
        to.write_all(keys.as_bytes()).unwrap();
        to.flush().unwrap();
        self
    }

    /// The exit code, and everything that was shown.
    fn leaves(mut self) -> (i32, String) {
        for piece in &self.seen {
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        drop(self.keys.take());
        (code, self.shown)
    }
}

fn line(rest: &str) -> String {
    format!(
        "stty cols 100 rows 40; exec '{}' chat {rest}",
        env!("CARGO_BIN_EXE_engine")
    )
}

#[test]
fn an_answer_is_stopped_and_the_conversation_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let made = chatty();
    let file = temp.path().join("talk.json");
    // An answer of 500 tokens would take half a minute.
    let line = line(&format!(
        "--model {} --num-gpu-layers 0 --link-gbps 0.005",
        made.name()
    ));
    let mut person = Person::sits_at(&line, temp.path());
    person.sees("Ctrl-D leaves.").sees("> ");
    person
        .types(CTRL_C)
        .sees("Ctrl-D or /quit leaves.")
        .sees("> ");
    person
        .types("/sav\r")
        .sees("error:")
        .sees("the nearest is /save")
        .sees("> ");
    for _ in 0..2 {
        // The answer begins, and is stopped; so is the next.
        person
            .types("w5 w6\r")
            .sees("\n")
            .sees(" w")
            .types(CTRL_C)
            .sees("> ");
    }
    person
        .types(&format!("/save {}\r", file.display()))
        .sees("Saved 4 messages")
        .sees("> ");
    person.types(CTRL_D);
    let (code, shown) = person.leaves();
    assert_eq!(code, 0, "{shown:?}");
    let saved: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for at in [1, 3] {
        let said = saved[at]["content"].as_str().unwrap().split(' ').count();
        assert!((1..400).contains(&said), "{saved}");
    }
    let history = fs::read_to_string(temp.path().join("engine/chat_history")).unwrap();
    for typed in ["/sav\n", "w5 w6\n", "/save "] {
        assert!(history.contains(typed), "{typed}: {history}");
    }
}

#[test]
fn without_history_nothing_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let made = chatty();
    let rest = format!("--model {} --max-new-tokens 2 --no-history", made.name());
    let mut person = Person::sits_at(&line(&rest), temp.path());
    person
        .sees("Ctrl-D leaves.")
        .sees("> ")
        .types("w5\\\r")
        .sees("… ")
        .types("w6\r")
        .sees("\n");
    person
        .sees("note: the answer ends here, after 2 tokens")
        .sees("> ")
        .types("/quit\r");
    let (code, shown) = person.leaves();
    assert_eq!(code, 0, "{shown:?}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

/// Whoever ends the process while a line is edited gets back a terminal that echoes.
#[test]
fn a_kill_leaves_the_terminal_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let made = chatty();
    let pid = temp.path().join("pid");
    let line = format!(
        "sh -c 'echo $$ > {}; exec {} chat --model {} --no-history'; echo code $?; stty -a",
        pid.display(),
        env!("CARGO_BIN_EXE_engine"),
        made.name()
    );
    let mut person = Person::sits_at(&line, temp.path());
    person.sees("Ctrl-D leaves.").sees("> ");
    person.types("w5").sees("w5");
    let pid = fs::read_to_string(&pid).unwrap();
    let killed = Command::new("kill")
        .args(["-s", "TERM", pid.trim()])
        .status();
    assert!(killed.unwrap().success());
    person.sees("interrupted").sees("code 130");
    let (_, shown) = person.leaves();
    assert!(shown.contains("\x1b[?2004l"), "{shown:?}");
    assert!(
        shown.contains(" icanon") && shown.contains(" echo "),
        "{shown:?}"
    );
}
