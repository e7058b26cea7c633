//! `--profile=live`, on a terminal and without one. The terminal is that of `script`, which is
//! part of every Debian.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{engine, make, tiny};
use crate::terminal::Terminal;
use loader::synth::SynthSpec;

const STORY: &str = "generate --prompt Once --max-new-tokens 60 --num-gpu-layers 20 --quiet";

/// Enough of a strip to know a panel by.
const LEGEND: &str = ". resident, = ready in time,";

/// `engine` on a terminal of this size, as the shell command that `tail` makes of it.
fn on_terminal(columns: usize, rows: usize, args: &str, tail: &str) -> Child {
    let engine = env!("CARGO_BIN_EXE_engine");
    let line = format!("stty cols {columns} rows {rows}; '{engine}' {args} {tail}");
    Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Its exit code, and all that came to the terminal.
fn finish(mut child: Child) -> (i32, String) {
    // `script` ends a terminal's input with its own; that is not to be before the run's end.
    let typed = child.stdin.take();
    let mut shown = String::new();
    let out = child.stdout.as_mut().unwrap();
    out.read_to_string(&mut shown).unwrap();
    let code = child.wait().unwrap().code().unwrap_or(-1);
    drop(typed);
    (code, shown)
}

fn draws(shown: &str) -> usize {
    shown.matches("\x1b7").count()
}

/// Cursor never hidden, colours reset, no other screen entered.
fn assert_clean(shown: &str) {
    assert!(!shown.contains("\x1b[?"), "{shown:?}");
    let last = shown.rfind("\x1b[").unwrap();
    assert!(shown[last..].starts_with("\x1b[0m"), "{shown:?}");
}

/// What is on it when a run is over: its cursor then is on a line of its own.
fn screen(columns: usize, rows: usize, shown: &str) -> Vec<String> {
    let mut terminal = Terminal::new(columns, rows);
    terminal.feed(shown);
    let mut lines = terminal.lines_to_cursor();
    assert_eq!(terminal.cursor_column(), 0, "{shown:?}");
    assert_eq!(lines.pop(), Some(String::new()), "{shown:?}");
    assert_eq!(lines, terminal.lines(), "{shown:?}");
    lines
}

#[test]
fn the_text_stands_above_one_panel() {
    let text = engine(STORY.split(' ')).ok().stdout;
    for (columns, rows) in [(80, 24), (40, 30), (40, 5)] {
        let args = format!("{STORY} --profile=live");
        let (code, shown) = finish(on_terminal(columns, rows, &args, ""));
        assert_eq!(code, 0, "{shown:?}");
        assert!(draws(&shown) > 1, "{shown:?}");
        assert_clean(&shown);
        let lines = screen(columns, rows, &shown);
        let panel = lines
            .iter()
            .position(|line| line.starts_with("--- token 60 "));
        let panel = panel.unwrap_or_else(|| panic!("{lines:#?}"));
        let legends = lines.iter().filter(|line| line.starts_with(LEGEND)).count();
        assert_eq!(legends, 1, "{lines:#?}");
        // The same text on a terminal that has it to itself.
        assert_eq!(lines[..panel], screen(columns, rows, &format!("{text}\n")));
        let words = lines[panel..].join(" ");
        for word in [
            "tok/s now",
            " mean",
            "compute",
            "Link:",
            "8/8 layers",
            "Verdict: ",
        ] {
            assert!(words.contains(word), "{word}: {lines:#?}");
        }
    }
}

#[test]
fn a_text_that_goes_elsewhere_leaves_the_panel_alone_on_the_terminal() {
    let text = engine(STORY.split(' ')).ok().stdout;
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("story.txt");
    let args = format!("{STORY} --profile=live --link-gbps 0.01");
    let tail = format!("> '{}'", file.display());
    let (code, shown) = finish(on_terminal(80, 24, &args, &tail));
    assert_eq!(code, 0, "{shown:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert!(draws(&shown) > 1, "{shown:?}");
    assert_clean(&shown);
    let lines = screen(80, 24, &shown);
    assert!(
        lines[0].starts_with("--- token 60, emulated link ---"),
        "{lines:#?}"
    );
    assert!(lines.last().unwrap().starts_with(LEGEND), "{lines:#?}");
}

/// A run on a link so slow that it lasts for minutes; returns when a panel is there.
fn under_way(typed: &str) -> (i32, String) {
    let made = make(&SynthSpec {
        max_positions: 20_000,
        ..tiny()
    });
    let args = format!(
        "generate --model '{}' --prompt-tokens 1,2,3 --max-new-tokens 19000 --context 20000 \
         --ignore-eos --num-gpu-layers 0 --link-gbps 0.002 --profile=live --quiet",
        made.name()
    );
    let mut child = on_terminal(60, 20, &args, "");
    let mut shown = Vec::new();
    let out = child.stdout.as_mut().unwrap();
    let from = Instant::now();
    while draws(&String::from_utf8_lossy(&shown)) < 3 {
        let mut some = [0; 4096];
        let got = out.read(&mut some).unwrap();
        assert!(got > 0 && from.elapsed() < Duration::from_secs(60));
        shown.extend_from_slice(&some[..got]);
    }
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(typed.as_bytes())
        .unwrap();
    let mut rest = Vec::new();
    let typed = child.stdin.take();
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_to_end(&mut rest)
        .unwrap();
    let code = child.wait().unwrap().code().unwrap_or(-1);
    drop(typed);
    shown.extend(rest);
    (code, String::from_utf8(shown).unwrap())
}

#[test]
fn ctrl_c_leaves_text_and_panel() {
    let (code, shown) = under_way("\x03");
    assert_eq!(code, 130, "{shown:?}");
    assert_clean(&shown);
    let lines = screen(60, 20, &shown);
    let panels = lines
        .iter()
        .filter(|line| line.starts_with("--- token "))
        .count();
    assert_eq!(panels, 1, "{lines:#?}");
    assert!(lines.last().unwrap().starts_with(LEGEND), "{lines:#?}");
    // The driver of the terminal echoes the key.
    let text = lines.iter().take_while(|line| !line.starts_with("--- "));
    let text: String = text.map(String::as_str).collect();
    let is_id = |id: &str| id.parse::<u32>().is_ok();
    assert!(text.replace("^C", "").split(',').all(is_id), "{lines:#?}");
}

#[test]
fn without_a_terminal_it_is_the_plain_summary() {
    let plain = engine(STORY.split(' ').chain(["--profile=live"])).ok();
    assert!(!plain.stderr.contains('\x1b'), "{plain:?}");
    for token in [10, 60] {
        let head = format!("PROFILING SUMMARY - Token {token}\n");
        assert!(plain.stderr.contains(&head), "{plain:?}");
    }
    let (code, shown) = finish(on_terminal(
        80,
        24,
        &format!("{STORY} --profile=live"),
        "2>&1 | cat",
    ));
    assert_eq!(code, 0);
    assert!(
        shown.contains("PROFILING SUMMARY - Token 60") && !shown.contains('\x1b'),
        "{shown:?}"
    );
}

/// 28 layers of 0.1 MB at 1 MB/s: the prompt takes three seconds.
const SLOW_PROMPT: &str =
    "generate --prompt Once --max-new-tokens 1 --num-gpu-layers 0 --link-gbps 0.001";

#[test]
fn a_prompt_that_takes_its_time_shows_how_far_it_is() {
    let (code, shown) = finish(on_terminal(80, 24, SLOW_PROMPT, ""));
    assert_eq!(code, 0, "{shown:?}");
    let drawn: Vec<&str> = shown
        .split('\r')
        .filter(|part| part.contains("prompt ["))
        .collect();
    assert!(drawn.len() > 1, "{shown:?}");
    for part in &drawn {
        assert!(part.contains(" of 28 layers  "), "{part:?}");
        assert!(!part.contains(" 0 of 28 layers"), "{part:?}");
        assert!(
            part.contains("/token") || part.contains(" tok/s"),
            "{part:?}"
        );
    }
    assert!(drawn[0].contains(" left"), "{shown:?}");
    // It is taken away before the text comes.
    let rest = &shown[shown.rfind("prompt [").unwrap()..];
    let cleared = rest.find("\x1b[2K").unwrap();
    assert!(rest[cleared..].contains("1 token, "), "{shown:?}");
}

#[test]
fn progress_of_a_prompt_is_shown_neither_without_a_terminal_nor_under_quiet() {
    let plain = engine(SLOW_PROMPT.split(' ')).ok();
    assert!(!plain.stderr.contains("prompt ["), "{plain:?}");
    let (code, shown) = finish(on_terminal(80, 24, &format!("{SLOW_PROMPT} --quiet"), ""));
    assert_eq!(code, 0, "{shown:?}");
    assert!(!shown.contains("prompt ["), "{shown:?}");
}

#[test]
fn profile_takes_a_value_only_with_an_equals_sign() {
    let summary = engine([
        "generate",
        "--profile",
        "--prompt",
        "Once",
        "--max-new-tokens",
        "2",
    ])
    .ok();
    assert!(summary.stderr.contains("PROFILING SUMMARY"), "{summary:?}");
    let unknown = engine(["generate", "--profile=often", "--prompt", "Once"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (2, ""));
    assert!(unknown.stderr.contains("summary, live"), "{unknown:?}");
}
