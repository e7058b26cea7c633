//! A run under way: what it has said so far, signals to it, and an end that must come soon.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::Run;

/// However it ends, it ends within this time of the reason.
pub const SOON: Duration = Duration::from_secs(2);

/// A run that hangs is ended after this, and the test fails.
const HANGS: Duration = Duration::from_secs(60);

/// Both of its pipes are read all the time, so that it never waits for us.
pub struct UnderWay {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

struct Pipe {
    seen: std::sync::mpsc::Receiver<Vec<u8>>,
    text: Vec<u8>,
}

impl Pipe {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let (to, seen) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut piece = vec![0; 4096];
            while let Ok(got @ 1..) = from.read(&mut piece) {
                if to.send(piece[..got].to_vec()).is_err() {
                    return;
                }
            }
        });
        let text = Vec::new();
        Self { seen, text }
    }

    /// Waits until something has come.
    fn something(&mut self) {
        while self.text.is_empty() {
            match self.seen.recv_timeout(HANGS) {
                Ok(piece) => self.text.extend(piece),
                Err(_) => return,
            }
        }
    }

    /// All of it, once the run has ended.
    fn rest(&mut self) -> String {
        for piece in &self.seen {
            self.text.extend(piece);
        }
        String::from_utf8(std::mem::take(&mut self.text)).unwrap()
    }
}

impl UnderWay {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Pipe::new(child.stdout.take().unwrap());
        let stderr = Pipe::new(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Until text has come, or the run has ended without any.
    pub fn text_has_come(&mut self) -> &mut Self {
        self.stdout.something();
        self
    }

    /// Until `there` holds.
    pub fn until(&mut self, what: &str, mut there: impl FnMut() -> bool) -> &mut Self {
        let started = Instant::now();
        while !there() {
            assert!(started.elapsed() < HANGS, "waited in vain for {what}");
            if let Some(status) = self.child.try_wait().unwrap() {
                let said = self.stderr.rest();
                panic!("it ended before {what}: {status}: {said}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        self
    }

    /// `INT` or `TERM`. A process that has ended already takes no notice.
    pub fn signal(&mut self, name: &str) -> &mut Self {
        if self.child.try_wait().unwrap().is_none() {
            let pid = self.child.id().to_string();
            let sent = Command::new("kill")
                .args(["-s", name, &pid])
                .stderr(Stdio::null())
                .status();
            sent.unwrap();
        }
        self
    }

    /// How it went, and how long it took from now. `code` is -1 where a signal ended it.
    pub fn end(mut self) -> (Run, Duration) {
        let from = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if from.elapsed() > HANGS => {
                    self.child.kill().unwrap();
                    panic!("it hangs: {} {}", self.stdout.rest(), self.stderr.rest());
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let took = from.elapsed();
        let run = Run {
            code: status.code().unwrap_or(-1),
            stdout: self.stdout.rest(),
            stderr: self.stderr.rest(),
        };
        (run, took)
    }

    /// The same, soon.
    #[track_caller]
    pub fn ends_soon(self) -> Run {
        let (run, took) = self.end();
        assert!(took < SOON, "it took {took:?}: {run:?}");
        run
    }
}
