//! `engine chat` through a pipe: what a script meets.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{Made, Run, command, engine, make, tiny, write_tokenizer};
#[cfg(target_os = "linux")]
use crate::process::UnderWay;

/// Words that the tokenizer knows, between spaces.
const TEMPLATE: &str = "{% for m in messages %} {{ 'w9' if m.role == 'system' else 'w1' }} {{ m.content }} w2\
    {% endfor %}{% if enable_thinking %} w4{% endif %}{% if add_generation_prompt %} w3{% endif %}";

pub fn chatty() -> Made {
    let made = make(&tiny());
    write_tokenizer(&made.dir, 256);
    fs::write(made.file("chat_template.jinja"), TEMPLATE).unwrap();
    made
}

/// What comes of typing these lines.
fn chat(rest: &str, typed: &str) -> Run {
    let mut child = command()
        .arg("chat")
        .args(rest.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it has read all.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn with(made: &Made, rest: &str, typed: &str) -> Run {
    let model = made.name();
    chat(&format!("--model {model} --max-new-tokens 8 {rest}"), typed)
}

/// The answer of `engine generate` to the conversation of these messages, the user's first.
fn generated(base: &str, messages: &[&str], file: &Path) -> String {
    let roles = ["user", "assistant"].into_iter().cycle();
    let messages: Vec<Value> = roles
        .zip(messages)
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect();
    fs::write(file, Value::from(messages).to_string()).unwrap();
    let file = file.display().to_string();
    let line = format!("generate {base} --max-new-tokens 8 --json --messages {file}");
    let json = engine(line.split_whitespace()).ok().json();
    json["text"].as_str().unwrap().to_owned()
}

#[test]
fn piped_turns_give_what_generate_gives_for_the_same_conversation() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("talk.json");
    let made = chatty();
    let tiny = format!("--model {}", made.name());
    let streamed = format!("{tiny} --num-gpu-layers 0");
    let sampled = format!("{tiny} --temperature 0.8 --seed 5");
    let demo = "--num-gpu-layers 20".to_owned();
    for base in [tiny, streamed, sampled, demo] {
        let questions = ["w5 w6", "w7", "w8 w8 w8"];
        let typed = questions.join("\n");
        let run = chat(&format!("{base} --max-new-tokens 8"), &typed).ok();
        let mut messages: Vec<String> = Vec::new();
        let mut expected = String::new();
        for question in questions {
            messages.push(question.to_owned());
            let said: Vec<&str> = messages.iter().map(String::as_str).collect();
            let answer = generated(&base, &said, &file);
            assert!(!answer.is_empty());
            expected.push_str(&answer);
            if !answer.ends_with('\n') {
                expected.push('\n');
            }
            messages.push(answer);
        }
        // Answers and nothing else; no prompts anywhere.
        assert_eq!(run.stdout, expected, "{base}");
        assert!(!run.stderr.contains("> "), "{run:?}");
    }
}

/// The tokens of the prompt, and those of them that had been read before, at each `/stats`.
fn cached(run: &Run) -> Vec<(usize, usize)> {
    let lines = run.stderr.lines();
    let turns = lines.filter_map(|line| line.strip_prefix("last turn  "));
    turns
        .map(|turn| {
            let numbers = turn.split(' ').filter_map(|word| word.parse().ok());
            let numbers: Vec<usize> = numbers.collect();
            (numbers[0], numbers[1])
        })
        .collect()
}

#[test]
fn only_what_is_new_is_read() {
    let made = chatty();
    let typed = "w5 w6\n/stats\nw7\n/stats\n/retry\n/stats\n/clear\nw5 w6\n/stats\n";
    let run = with(&made, "--quiet", typed).ok();
    // A prompt of `w1 w5 w6 w2 w3`, an answer of 8 tokens, the last of which was not read.
    // The next one begins with the same tokens up to `w3`, behind which the answer now stands.
    let [first, second, retried, cleared] = cached(&run)[..] else {
        panic!("{run:?}");
    };
    assert_eq!(first, (5, 0), "{run:?}");
    assert_eq!(second, (18, 4), "{run:?}");
    // All of it is there, and the last token is read again.
    assert_eq!(retried, (second.0, second.0 - 1), "{run:?}");
    assert_eq!(cleared, (5, 4), "{run:?}");
    assert!(
        run.stderr.contains("context    12 of 512 positions"),
        "{run:?}"
    );
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((lines[1], lines[0]), (lines[2], lines[3]), "{run:?}");
}

/// As the templates of real models: the answer stands where the prompt before ended.
#[test]
fn what_was_generated_is_not_read_again() {
    let made = chatty();
    let template = "{% for m in messages %} {{ 'w3' if m.role == 'assistant' else 'w1' }} {{ m.content }}\
        {% if m.role != 'assistant' %} w2{% endif %}{% endfor %} w3";
    fs::write(made.file("chat_template.jinja"), template).unwrap();
    let run = with(&made, "--quiet", "w5 w6\n/stats\nw7\n/stats\n").ok();
    // `w1 w5 w6 w2 w3` and 7 of 8 tokens were read; then come the last of them and `w1 w7 w2 w3`.
    assert_eq!(cached(&run), [(5, 0), (17, 12)], "{run:?}");
}

#[test]
fn an_answer_is_drawn_again_and_a_seed_pins_them_all() {
    let made = chatty();
    let typed = "w5 w6\n/retry\n/retry\n";
    let draw = |seed| {
        with(&made, &format!("--temperature 1.5 --seed {seed}"), typed)
            .ok()
            .stdout
    };
    let drawn = draw(1);
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!(lines.len(), 3, "{drawn}");
    assert_ne!(lines[0], lines[1]);
    assert_ne!(lines[1], lines[2]);
    assert_eq!(draw(1), drawn);
    assert_ne!(draw(9), drawn);
    with(&made, "", "/retry\n").fails(2, &["no message to answer again"]);
}

#[test]
fn a_conversation_is_saved_and_goes_on_elsewhere() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("my talk.json");
    let name = file.display();
    let made = chatty();
    let whole = with(&made, "--system w10", "w5 w6\nw7\n").ok().stdout;
    let (first, second) = whole.split_once('\n').unwrap();
    let run = with(&made, "", &format!("/system w10\nw5 w6\n/save {name}\n")).ok();
    assert_eq!(run.stdout, format!("{first}\n"));
    assert!(run.stderr.contains("Saved 3 messages in "), "{run:?}");
    let saved = fs::read_to_string(&file).unwrap();
    let expected = json!([
        {"role": "system", "content": "w10"},
        {"role": "user", "content": "w5 w6"},
        {"role": "assistant", "content": first},
    ]);
    assert_eq!(serde_json::from_str::<Value>(&saved).unwrap(), expected);
    // It is not written over by accident.
    let refused = with(&made, "--quiet", &format!("w5\n/save {name}\n"));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("is there already"), "{refused:?}");
    assert!(
        refused.stderr.contains("/save! FILE writes over it"),
        "{refused:?}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), saved);
    let run = with(&made, "", &format!("/load {name}\nw7\n/save! {name}\n")).ok();
    assert_eq!(run.stdout, second);
    assert!(run.stderr.contains("Loaded 3 messages\n"), "{run:?}");
    let saved: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(saved.as_array().unwrap().len(), 5);
    // A message without an answer is answered by a retry.
    fs::write(
        &file,
        r#"[{"role": "system", "content": "w10"}, {"role": "user", "content": "w5 w6"}]"#,
    )
    .unwrap();
    let run = with(&made, "", &format!("/load {name}\n/retry\n")).ok();
    assert_eq!(run.stdout, format!("{first}\n"));
    let run = with(
        &made,
        "",
        &format!("/save {}\n", temp.path().join("x").display()),
    );
    run.fails(2, &["the conversation is empty"]);
}

#[test]
fn what_cannot_be_loaded_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let made = chatty();
    let file = temp.path().join("talk.json");
    let load = |path: &Path| with(&made, "--quiet", &format!("/load {}\n", path.display()));
    for (content, word) in [
        (&b""[..], "is empty"),
        (b"{", "EOF"),
        (b"[]", "there are none"),
        (b"3", "neither a list"),
        (b"[\"hi\"]", "message 1 is string"),
        (
            b"[{\"role\": \"user\", \"role\": \"system\"}]",
            "`role` is given twice",
        ),
        ("[".repeat(1 << 20).as_bytes(), "recursion limit"),
        (b"[{\"role\": \"user\", \"content\": \"\xff\"}]", "utf-8"),
    ] {
        fs::write(&file, content).unwrap();
        let run = load(&file);
        assert!([1, 2].contains(&run.code), "{run:?}");
        run_says(&run, word);
    }
    run_says(&load(&temp.path().join("none.json")), "cannot be read");
    run_says(&load(temp.path()), "is not a file");
    #[cfg(target_os = "linux")]
    run_says(&load(Path::new("/dev/zero")), "more than the");
}

#[track_caller]
fn run_says(run: &Run, word: &str) {
    assert!(run.code > 0 && run.stdout.is_empty(), "{run:?}");
    assert!(run.stderr.contains("error: "), "{run:?}");
    assert!(run.stderr.contains(word), "{word}: {run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
}

#[test]
fn a_command_that_is_not_known_is_named_with_its_nearest() {
    let made = chatty();
    with(&made, "", "/sav x\nw5\n").fails(2, &["no command /sav", "the nearest is /save"]);
    with(&made, "", "/load\n").fails(2, &["/load needs a file"]);
    with(&made, "", "/quit now\n").fails(2, &["/quit takes nothing behind it"]);
    let run = with(&made, "--quiet", "/help\n/quit\nw5\n").ok();
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("/system TEXT"), "{run:?}");
}

#[test]
fn a_message_may_have_several_lines() {
    let made = chatty();
    let one = with(&made, "", "w5 w6 w7\n").ok().stdout;
    for typed in [
        "w5 \\\nw6\\\n\\\nw7",
        "\"\"\"\nw5\n\nw6 w7\"\"\"\n",
        "\n\r\n\u{20}\nw5 w6 w7\r\n",
        "\u{feff}w5 w6 w7",
    ] {
        assert_eq!(with(&made, "", typed).ok().stdout, one, "{typed:?}");
    }
}

#[test]
fn thinking_is_asked_for_where_the_template_knows_it() {
    let made = chatty();
    let typed = "/think\nw5\n/stats\n/nothink\n/clear\nw5\n/stats\n";
    let run = with(&made, "--quiet", typed).ok();
    let prompts: Vec<usize> = cached(&run).iter().map(|turn| turn.0).collect();
    assert_eq!(prompts, [5, 4], "{run:?}");
    // What was typed last counts.
    let kwargs = "--quiet --template-kwargs {\"enable_thinking\":true}";
    let run = with(&made, kwargs, "w5\n/stats\n/nothink\n/retry\n/stats\n").ok();
    let prompts: Vec<usize> = cached(&run).iter().map(|turn| turn.0).collect();
    assert_eq!(prompts, [5, 4], "{run:?}");
    let run = chat("--max-new-tokens 2", "/think\nOnce\n").ok();
    assert!(
        run.stderr.contains("never names `enable_thinking`"),
        "{run:?}"
    );
}

#[test]
fn a_conversation_that_does_not_fit_is_told_in_numbers() {
    let made = chatty();
    for (words, told) in [
        (31, "has 34 tokens and the context holds 32"),
        (300, "has 303 tokens and the context holds 32"),
    ] {
        let typed = "w5 ".repeat(words);
        let run = with(&made, "--context 32", &typed);
        run.fails(2, &[told, "/clear", "--context"]);
    }
    // One that just fits gets an answer as long as there is room.
    let almost = "w5 ".repeat(28);
    let base = format!("--model {} --context 32", made.name());
    let run = chat(&base, &format!("{almost}\n"));
    let run = run.ok();
    assert!(
        run.stderr
            .contains("all 32 positions of the context are taken"),
        "{run:?}"
    );
    // A line without an end is not read to its end.
    let endless = "w5 ".repeat(1 << 20);
    with(&made, "--context 32", &endless).fails(2, &["bytes"]);
}

#[test]
fn what_is_wrong_is_said_before_a_message_is_read() {
    let made = chatty();
    with(&made, "--template-kwargs []", "").fails(2, &["no object of names"]);
    with(&made, "--template rag", "").fails(2, &["no chat template `rag`"]);
    with(&made, "--top-p 2", "").fails(2, &["top_p is 2"]);
    let run = with(&made, "--template-kwargs {\"effort\":1}", "").ok();
    assert!(run.stderr.contains("never names `effort`"), "{run:?}");
    fs::remove_file(made.file("chat_template.jinja")).unwrap();
    with(&made, "", "w5\n").fails(3, &["chat template", "`engine generate` without --chat"]);
    fs::remove_file(made.file("tokenizer.json")).unwrap();
    with(&made, "", "w5\n").fails(3, &["tokenizer"]);
}

#[test]
fn a_profile_ends_each_answer_with_its_verdict() {
    let run = chat(
        "--num-gpu-layers 20 --max-new-tokens 4 --profile",
        "Once\nOne day\n",
    )
    .ok();
    assert_eq!(run.stderr.matches("\nVerdict: ").count(), 2, "{run:?}");
    assert_eq!(run.stderr.matches("\nLink:  ").count(), 2, "{run:?}");
    assert!(!run.stderr.contains("Layer  0"), "{run:?}");
}

/// A script is ended, with the text so far.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_a_script_in_the_middle_of_an_answer() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("typed");
    fs::write(&file, "w5\nw6\n").unwrap();
    let made = chatty();
    let mut command = command();
    command.args(["chat", "--model", &made.name()]);
    command.args("--num-gpu-layers 0 --link-gbps 0.02".split(' '));
    command.stdin(fs::File::open(&file).unwrap());
    let mut under_way = UnderWay::start(&mut command);
    under_way.text_has_come().signal("INT");
    let run = under_way.ends_soon();
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(run.stdout.lines().count(), 1, "{run:?}");
    assert!(!run.stderr.contains("error:"), "{run:?}");
}
