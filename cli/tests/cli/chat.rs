//! Conversations from the command line, and what `tokenize` says of them.

use std::ffi::OsStr;
use std::fs;

use serde_json::{Value, json};

use crate::common::{Made, Run, engine, make, tiny, write_tokenizer};

/// A template that says all it was given.
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.reasoning_content }}{% endfor %}\
    {% if tools %}[{{ tools|tojson }}]{% endif %}{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}\
    {{ pad_token }}{% if add_generation_prompt %}>{% endif %}";

fn chatty() -> Made {
    let made = make(&tiny());
    write_tokenizer(&made.dir, 256);
    fs::write(made.file("chat_template.jinja"), TEMPLATE).unwrap();
    made
}

fn tokenize<S: AsRef<OsStr>>(made: &Made, rest: impl IntoIterator<Item = S>) -> Run {
    let start = ["tokenize", "--model", &made.name(), "--json"].map(Into::into);
    let rest = rest.into_iter().map(|word| word.as_ref().to_owned());
    engine(start.into_iter().chain(rest))
}

fn text(run: Run) -> String {
    run.ok().json()["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_conversation_comes_from_flags_or_from_a_file() {
    let made = chatty();
    let of = |words: &[&str]| text(tokenize(&made, words));
    assert_eq!(of(&["--chat", "w1"]), "<user>w1>");
    assert_eq!(of(&["--system", "-w2 s", "w1"]), "<system>-w2 s<user>w1>");
    assert_eq!(
        of(&["--template-kwargs", r#"{"enable_thinking": false}"#, "w1"]),
        "<user>w1False>"
    );
    let kwargs = r#"{"add_generation_prompt": false, "tools": [{"b": 1.0, "a": [2]}]}"#;
    assert_eq!(
        of(&["--template-kwargs", kwargs, "w1"]),
        r#"<user>w1[[{"b": 1.0, "a": [2]}]]"#
    );
    let file = made.file("talk.json");
    let name = file.display().to_string();
    let talk = r#"[{"role": "user", "content": "w1"}, {"role": "assistant", "content": null, "reasoning": "w3"}]"#;
    fs::write(&file, talk).unwrap();
    assert_eq!(of(&["--messages", &name]), "<user>w1<assistant>w3>");
    assert_eq!(
        of(&["--messages", &name, "--system", "w9"]),
        "<system>w9<user>w1<assistant>w3>"
    );
    fs::write(
        &file,
        format!(r#"{{"messages": {talk}, "tools": [{{"n": 1}}]}}"#),
    )
    .unwrap();
    assert_eq!(
        of(&["--messages", &name]),
        r#"<user>w1<assistant>w3[[{"n": 1}]]>"#
    );
    // And so it is generated from.
    let generate = made.run(
        "generate",
        &format!("--messages {name} --max-new-tokens 2 --json"),
    );
    let ids = tokenize(&made, ["--messages", &name]).ok().json()["ids"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(generate.ok().json()["prompt_tokens"], json!(ids));
}

#[test]
fn what_has_no_effect_is_said_and_what_is_wrong_is_refused() {
    let made = chatty();
    let run = tokenize(
        &made,
        ["--template-kwargs", r#"{"reasoning_effort": "low"}"#, "w1"],
    )
    .ok();
    assert!(
        run.stderr.contains("never names `reasoning_effort`"),
        "{run:?}"
    );
    fs::write(
        made.file("chat_template.jinja"),
        "{{ messages[-1].content }}",
    )
    .unwrap();
    let run = tokenize(&made, ["--system", "w2", "w1"]).ok();
    assert!(
        run.stderr.contains("does not repeat the system message"),
        "{run:?}"
    );
    let file = made.file("talk.json");
    let name = file.display().to_string();
    for (json, word) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "there are none"),
        ("3", "neither a list"),
        (r#"["hi"]"#, "message 1 is string"),
        (
            r#"{"messages": [{"role": "user"}], "temperature": 1}"#,
            "`temperature` is none of",
        ),
        (
            r#"{"messages": [{"role": "user"}], "tools": {}}"#,
            "tools must be a list",
        ),
        (
            r#"[{"role": "user", "role": "system"}]"#,
            "`role` is given twice",
        ),
    ] {
        fs::write(&file, json).unwrap();
        let word = if json.is_empty() { "is empty" } else { word };
        tokenize(&made, ["--messages", &name]).fails(2, &[word]);
    }
    fs::write(&file, r#"[{"role": "system", "content": "w1"}]"#).unwrap();
    tokenize(&made, ["--messages", &name, "--system", "w2"])
        .fails(2, &["begin with a system message"]);
    tokenize(&made, ["--template-kwargs", "[]", "w1"]).fails(
        2,
        &[
            "no object of names",
            "hint: template arguments are a JSON object",
        ],
    );
    tokenize(&made, ["--template-kwargs", r#"{"messages": []}"#, "w1"])
        .fails(2, &["messages are no argument"]);
    // A flag that could have no effect is refused.
    for rest in [
        "--prompt-tokens 1 --chat",
        "--prompt-tokens 1 --system x",
        "--messages x --prompt w1",
    ] {
        let run = made.run("generate", rest);
        assert_eq!(run.code, 2, "{run:?}");
    }
    let run = tokenize(&made, ["--no-bos", "--chat", "w1"]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn a_template_is_chosen_by_its_name_or_by_the_tools() {
    let made = chatty();
    fs::remove_file(made.file("chat_template.jinja")).unwrap();
    let config = json!({"chat_template": [{"name": "default", "template": "w1"}, {"name": "tool_use", "template": "w2"}]});
    fs::write(made.file("tokenizer_config.json"), config.to_string()).unwrap();
    let of = |words: &[&str]| text(tokenize(&made, words));
    assert_eq!(of(&["--chat", "x"]), "w1");
    assert_eq!(of(&["--template", "tool_use", "x"]), "w2");
    assert_eq!(of(&["--template-kwargs", r#"{"tools": []}"#, "x"]), "w2");
    assert_eq!(
        of(&[
            "--template-kwargs",
            r#"{"tools": []}"#,
            "--template",
            "default",
            "x"
        ]),
        "w1"
    );
    tokenize(&made, ["--template", "rag", "x"]).fails(
        2,
        &["no chat template `rag`", "default, tool_use", "--template"],
    );
    let more = made.file("additional_chat_templates");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("rag.jinja"), "w3").unwrap();
    assert_eq!(of(&["--template", "rag", "x"]), "w3");
    tokenize(&made, ["--chat", "x"]).fails(2, &["no chat template `default`", "it has rag"]);
}

#[test]
fn a_prompt_may_begin_with_a_hyphen() {
    let made = chatty();
    let prompts = ["-n 5", "--", "-", "--not-a-flag", "- a list"];
    let name = made.name();
    for prompt in prompts {
        let base = [
            "generate",
            "--model",
            &name,
            "--max-new-tokens",
            "1",
            "--prompt",
            prompt,
        ];
        engine(base).ok();
        engine(
            base.into_iter()
                .chain(["--system", prompt, "--stop", prompt]),
        )
        .ok();
    }
    let run = engine(["generate", "--model", &name, "--prompt", "--chat"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("`--chat` is a flag"), "{run:?}");
    let line = ["generate", "--model", &name, "--max-new-tokens", "1"];
    let with = |rest: &[&str]| engine(line.iter().chain(rest));
    let run = with(&["--prompt", "--top-k", "5"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("--prompt=--top-k"), "{run:?}");
    with(&["--prompt=--top-k"]).ok();
}

#[test]
fn tokens_are_printed_and_read_back() {
    let made = chatty();
    let lines = made.run("tokenize", "w7").ok();
    assert_eq!(
        (lines.stdout.as_str(), lines.stderr.as_str()),
        ("7  w7\n", "1 token of 2 bytes\n")
    );
    let json = tokenize(&made, ["w7 w300"]).ok().json();
    assert_eq!(
        json,
        json!({"text": "w7 w300", "ids": [7, 0], "pieces": ["w7", "w0"], "special": [false, false]})
    );
    assert_eq!(made.run("tokenize", "--decode 7,0").ok().stdout, "w7 w0");
    assert_eq!(tokenize(&made, ["--decode", "7"]).ok().json()["text"], "w7");
    made.run("tokenize", "--decode 7,256")
        .fails(2, &["no token 256", "256"]);
    // The demo model has special tokens, and a way back for every text.
    let text = "Once <|im_end|> upon é🙂\n";
    let json = engine(["tokenize", "--json", text]).ok().json();
    let special = json["special"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|flag| **flag == json!(true));
    assert_eq!(special.count(), 1);
    let ids: Vec<String> = json["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    let back = engine(["tokenize", "--decode", &ids.join(",")]).ok().stdout;
    assert_eq!(back, text.replace("<|im_end|>", ""));
}

#[test]
fn a_begin_of_text_can_be_left_out() {
    let made = chatty();
    let path = made.file("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing", "pair": [],
        "single": [{"SpecialToken": {"id": "w5", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"w5": {"id": "w5", "ids": [5], "tokens": ["w5"]}}
    });
    fs::write(&path, tokenizer.to_string()).unwrap();
    let ids = |rest: &[&str]| tokenize(&made, rest).ok().json()["ids"].clone();
    assert_eq!(ids(&["w7"]), json!([5, 7]));
    assert_eq!(ids(&["--no-bos", "w7"]), json!([7]));
    // A template writes its own.
    assert_eq!(ids(&["--chat", "w7"]), json!([0]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_template_asks_for_the_local_time() {
    let made = chatty();
    fs::write(made.file("chat_template.jinja"), "{{ strftime_now('%H') }}").unwrap();
    let hour = |zone: &str| {
        let mut command = crate::common::command();
        command.args([
            "tokenize",
            "--model",
            &made.name(),
            "--chat",
            "--json",
            "w1",
        ]);
        let output = command.env("TZ", zone).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json["text"].as_str().unwrap().parse::<u32>().unwrap()
    };
    let (here, ahead) = (hour("UTC0"), hour("XXX-07"));
    // An hour may have ended in between.
    assert!(matches!((ahead + 24 - here) % 24, 7 | 8), "{here} {ahead}");
}
