use super::*;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(
        source.to_owned(),
        special(&[("bos_token", "<s>"), ("eos_token", "</s>")]),
    )
    .unwrap()
}

fn special(tokens: &[(&str, &str)]) -> Vec<(String, String)> {
    let tokens = tokens.iter();
    tokens
        .map(|&(name, token)| (name.into(), token.into()))
        .collect()
}

fn talk(pairs: &[(&str, &str)]) -> Chat {
    let messages = pairs.iter();
    Chat::new(messages.map(|&(role, content)| Message::new(role, content)))
}

fn render(source: &str, pairs: &[(&str, &str)]) -> Result<String, TextError> {
    template(source).render(&talk(pairs))
}

const CHATML: &str = "\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
";

#[test]
fn a_chatml_template_renders_with_and_without_a_system_message() {
    assert_eq!(
        render(CHATML, &[("user", "Hi {{ x }}")]).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi {{ x }}<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let mut chat = talk(&[("system", "S"), ("user", "é"), ("assistant", "🙂")]);
    chat.add_arguments(br#"{"add_generation_prompt": false}"#)
        .unwrap();
    assert_eq!(
        template(CHATML).render(&chat).unwrap(),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\né<|im_end|>\n\
         <|im_start|>assistant\n🙂<|im_end|>\n"
    );
}

const HEADERS: &str = "\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now('%d %b %Y') %}
    {%- else %}
        {%- set date_string = '26 Jul 2024' %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start|>system<|end|>\\n\\n' }}
{%- if tools is not none %}
    {{- 'tools!' }}
{%- endif %}
{{- 'Today: ' + date_string + '\\n' + system_message + '<|eot|>' }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}
";

#[test]
fn a_template_with_headers_and_a_date_renders() {
    let text = render(
        HEADERS,
        &[
            ("system", " S "),
            ("user", " Hi\n"),
            ("assistant", "Yes"),
            ("user", "No"),
        ],
    )
    .unwrap();
    let (start, rest) = text.split_once("Today: ").unwrap();
    let (date, rest) = rest.split_once('\n').unwrap();
    assert_eq!(start, "<s><|start|>system<|end|>\n\n");
    assert_eq!(date.split(' ').map(str::len).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(
        rest,
        "S<|eot|><|start|>user<|end|>\n\nHi<|eot|><|start|>assistant<|end|>\n\nYes<|eot|>\
         <|start|>user<|end|>\n\nNo<|eot|><|start|>assistant<|end|>\n\n"
    );
}

const INSTRUCT: &str = "\
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0].content %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if message.role == 'tool' %}
        {%- continue %}
    {%- endif %}
    {%- if (message.role == 'user') != (ns.index % 2 == 0) %}
        {{- raise_exception('roles must alternate: message ' ~ loop.index) }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message.role == 'user' %}
        {%- if loop.last and system_message is defined %}
            {{- '[INST] ' + system_message + '\\n\\n' + message.content + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message.content + '[/INST]' }}
        {%- endif %}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content.strip() + eos_token }}
    {%- endif %}
{%- endfor %}
";

#[test]
fn an_instruct_template_renders_and_refuses_wrong_turns() {
    let text = render(
        INSTRUCT,
        &[
            ("system", "S"),
            ("user", "a"),
            ("tool", "t"),
            ("assistant", " b "),
            ("user", "c"),
        ],
    );
    assert_eq!(
        text.unwrap(),
        "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]"
    );
    let error = render(INSTRUCT, &[("user", "a"), ("user", "b")]).unwrap_err();
    match &error {
        TextError::TemplateRefused { reason } => {
            assert_eq!(reason, "roles must alternate: message 2")
        }
        other => panic!("{other}"),
    }
    assert!(error.hint().is_some());
}

#[test]
fn blocks_take_their_line_with_them() {
    let source = "a\n  {% if true %}\nb\n  {% endif %}\nc\n";
    assert_eq!(render(source, &[]).unwrap(), "a\nb\nc");
    let source = "{% for m in messages %}{% if m.role == 'stop' %}{% break %}{% endif %}{{ m.content }}{% endfor %}";
    assert_eq!(
        render(source, &[("u", "1"), ("stop", "2"), ("u", "3")]).unwrap(),
        "1"
    );
}

#[test]
fn think_blocks_are_cut_as_templates_cut_them() {
    let source = "{% for m in messages[::-1] %}{{ m.content.split('</think>')[-1].lstrip('\\n') }};{% endfor %}\
        {% macro tag(x, n=1) %}<{{ x }}{{ n }}>{% endmacro %}{{ tag('t', n=2) }}\
        {{ messages | selectattr('role', 'equalto', 'user') | list | length }}\
        {{ messages | map(attribute='role') | join(',') }}{{ messages[-1].content is string }}";
    let text = render(
        source,
        &[("user", "q"), ("assistant", "<think>x</think>\n\ny")],
    )
    .unwrap();
    assert_eq!(text, "y;q;<t2>1user,assistantTrue");
}

#[test]
fn what_is_missing_prints_nothing_but_has_no_members() {
    assert_eq!(
        render("[{{ missing }}{{ messages[0].name }}]", &[("user", "a")]).unwrap(),
        "[]"
    );
    assert!(render("{{ messages[0]['role'] }}", &[]).is_err());
    let bare = ChatTemplate::new("{{ bos_token is defined }}".to_owned(), Vec::new()).unwrap();
    assert_eq!(bare.render(&talk(&[])).unwrap(), "False");
}

#[test]
fn errors_name_the_line() {
    let line_of = |error: TextError| match error {
        TextError::Template { line, .. } => line,
        other => panic!("{other}"),
    };
    let error = ChatTemplate::new("\n\n{% if %}".to_owned(), Vec::new()).unwrap_err();
    assert_eq!(line_of(error), Some(3));
    let error = render("a\n{{ messages.nothing.more }}", &[]).unwrap_err();
    assert!(
        error.to_string().starts_with("chat template line 2: "),
        "{error}"
    );
    assert_eq!(line_of(error), Some(2));
    assert_eq!(
        line_of(render("{{ 'a'.unknown() }}", &[]).unwrap_err()),
        Some(1)
    );
}

#[test]
fn an_error_is_short_whatever_it_quotes() {
    for source in [
        "{{ raise_exception('é' * 1000000) }}",
        "{{ messages[('é' * 1000000)].x }}",
    ] {
        let message = render(source, &[]).unwrap_err().to_string();
        assert!(
            message.chars().count() < REASON_CHARS_MAX + 100,
            "{}",
            message.len()
        );
    }
}

#[test]
fn a_template_cannot_run_or_write_without_end() {
    let turns = "{% for a in range(100000) %}{% for b in range(100000) %}";
    let end = "{% endfor %}{% endfor %}";
    let unit = |source: &str| match render(source, &[]).unwrap_err() {
        TextError::TemplateLimit { unit, .. } => unit,
        other => panic!("{other}"),
    };
    assert_eq!(unit(&format!("{turns}{end}")), "instructions");
    assert_eq!(
        unit(&format!("{turns}{{{{ 'x' * 1000 }}}}{end}")),
        "bytes of output"
    );
    // What stands in the template counts like what it makes.
    let text = "x".repeat(1000);
    assert_eq!(unit(&format!("{turns}{text}{end}")), "bytes of output");
    let same = "{% set ns = namespace(x=['a']) %}{% for i in range(100) %}\
        {% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for walk in [
        "{{ ns.x == ns.x }}",
        "{{ ns.x in ns.x }}",
        "{{ ns.x|unique|length }}",
    ] {
        assert_eq!(
            unit(&format!("{same}{walk}")),
            "bytes of values looked through"
        );
    }
    assert!(ChatTemplate::new("x".repeat(SOURCE_BYTES_MAX + 1), Vec::new()).is_err());
}

#[test]
fn a_template_cannot_include_files_or_recurse_without_end() {
    for source in [
        "{% include '/etc/hostname' %}",
        "{% import 'other' as other %}",
        "{% include 'chat' %}",
        "{% from 'other' import x %}",
        "{% extends 'other' %}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ range(*messages) }}",
        "{{ dict(**messages) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        &"{{ [".repeat(5000),
        &format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)),
        "{{ messages[:-9223372036854775808:-9223372036854775808] }}",
        "{{ 'abc'[5:1:-1] }}{{ missing.x }}",
    ] {
        let result = ChatTemplate::new(source.to_owned(), Vec::new())
            .and_then(|template| template.render(&talk(&[])));
        assert!(
            matches!(result, Err(TextError::Template { .. })),
            "{source} {result:?}"
        );
    }
}

#[test]
fn a_deeply_nested_value_does_not_overflow_the_stack() {
    let levels = 40;
    let nest = format!("{}ns.x{}", "[".repeat(levels), "]".repeat(levels));
    let rounds = INSTRUCTIONS_MAX as usize / (levels + 8);
    for last in [
        "",
        "{% set y = ns.x|string %}",
        "{% set y = ns.x == ns.x %}",
        "{{ ns.x|tojson }}",
        "{% set y = {ns.x: [ns.x, ns.x]|unique|sort|list} %}",
        "{{ ns.x.missing() }}",
    ] {
        let source = format!(
            "{{% set ns = namespace(x=[]) %}}{{% for i in range({rounds}) %}}\
             {{% set ns.x = {nest} %}}{{% endfor %}}{last}"
        );
        let _ = render(&source, &[]);
    }
}

#[test]
fn long_conversations_stay_inside_the_limits() {
    let turn = [("user", "question"), ("assistant", "answer")];
    let messages: Vec<_> = turn.iter().copied().cycle().take(2000).collect();
    assert!(render(INSTRUCT, &messages).unwrap().len() > 2000 * 8);
}

/// What Jinja2 3.1.6 gives for the same.
#[test]
fn lists_and_texts_are_cut_into_pieces_as_jinja2_cuts_them() {
    let cases = [
        (
            r#"{{ [1,2,3,4,5]|batch(2)|list }}"#,
            r#"[[1, 2], [3, 4], [5]]"#,
        ),
        (
            r#"{{ [1,2,3,4,5]|batch(2, 'x')|list }}"#,
            r#"[[1, 2], [3, 4], [5, 'x']]"#,
        ),
        (
            r#"{{ [1,2,3,4]|batch(2, 'x')|list }}"#,
            r#"[[1, 2], [3, 4]]"#,
        ),
        (r#"{{ []|batch(3, 'x')|list }}"#, r#"[]"#),
        (
            r#"{{ 'abc'|batch(linecount=2, fill_with=0)|list }}"#,
            r#"[['a', 'b'], ['c', 0]]"#,
        ),
        (
            r#"{{ [1,2,3,4,5,6,7]|slice(3)|list }}"#,
            r#"[[1, 2, 3], [4, 5], [6, 7]]"#,
        ),
        (
            r#"{{ [1,2,3,4,5,6,7]|slice(3, 'x')|list }}"#,
            r#"[[1, 2, 3], [4, 5, 'x'], [6, 7, 'x']]"#,
        ),
        (
            r#"{{ [1,2,3,4,5,6]|slice(3, 'x')|list }}"#,
            r#"[[1, 2, 'x'], [3, 4, 'x'], [5, 6, 'x']]"#,
        ),
        (r#"{{ [1]|slice(3)|list }}"#, r#"[[1], [], []]"#),
        (
            r#"{{ []|slice(slices=2, fill_with=0)|list }}"#,
            r#"[[0], [0]]"#,
        ),
        (r#"[{{ 'ab'|center(5) }}]"#, r#"[  ab ]"#),
        (r#"[{{ 'abc'|center(6) }}]"#, r#"[ abc  ]"#),
        (r#"[{{ 'é'|center(4) }}]"#, r#"[ é  ]"#),
        (r#"[{{ 7|center(width=3) }}]"#, r#"[ 7 ]"#),
        (r#"[{{ 'long'|center(2) }}]"#, r#"[long]"#),
        (r#"{{ 'x'|center|length }}"#, r#"80"#),
        (r#"{{ 'one two three four'|truncate(9) }}"#, r#"one..."#),
        (
            r#"{{ 'one two three four five'|truncate(9) }}"#,
            r#"one..."#,
        ),
        (
            r#"{{ 'one two three four five'|truncate(9, True) }}"#,
            r#"one tw..."#,
        ),
        (
            r#"{{ 'one two three four five'|truncate(9, leeway=0, end='…') }}"#,
            r#"one two…"#,
        ),
        (
            r#"{{ 'one two three four five'|truncate(length=12, killwords=false, end='') }}"#,
            r#"one two"#,
        ),
        (
            r#"{{ 'onetwothreefourfivesix'|truncate(9) }}"#,
            r#"onetwo..."#,
        ),
        (
            r#"{{ 'one two three'|truncate(9, leeway=4) }}"#,
            r#"one two three"#,
        ),
        (
            r#"{{ 'one two three'|truncate(9, leeway=3) }}"#,
            r#"one..."#,
        ),
        (
            r#"{{ 'one two  three four five'|truncate(12) }}"#,
            r#"one two ..."#,
        ),
        (r#"{{ ('word ' * 60)|truncate|length }}"#, r#"252"#),
        (r#"{{ 'one, two-three fo_ur  5 é.'|wordcount }}"#, r#"6"#),
        (r#"{{ ''|wordcount }}"#, r#"0"#),
        (r#"{{ 12.5|wordcount }}"#, r#"2"#),
    ];
    for (source, expected) in cases {
        let found = render(source, &[]).unwrap();
        assert_eq!(found, expected, "{source}");
    }
    for wrong in [
        "{{ [1]|batch(0) }}",
        "{{ [1]|batch }}",
        "{{ [1]|slice('a') }}",
        "{{ [1]|slice(-1) }}",
        "{{ 'a'|center(-1) }}",
        "{{ 'a'|truncate(2) }}",
        "{{ 5|truncate }}",
        "{{ 5|batch(2) }}",
    ] {
        assert!(render(wrong, &[]).is_err(), "{wrong}");
    }
}
