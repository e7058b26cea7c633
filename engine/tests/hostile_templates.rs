//! A chat template cannot take more memory than is promised, nor more time, whatever it does.
//! Counted by an allocator that watches every thread.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::{Duration, Instant};

use engine::text::{Chat, ChatTemplate, Message, TextError};
use support::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The result, the most bytes held on the way there, and how long it took.
fn render(source: &str) -> (Result<String, TextError>, usize, Duration) {
    let chat = Chat::new([
        Message::new("user", "<think>why</think> a story"),
        Message::new("assistant", "é🙂"),
    ]);
    let started = Instant::now();
    let (result, peak) = Counting::peak_of(|| {
        ChatTemplate::new(source.to_owned(), Vec::new()).and_then(|template| template.render(&chat))
    });
    (result, peak, started.elapsed())
}

/// Runs `step` on `ns.x`, which begins as `start`, a hundred times, then `end`.
fn rounds(start: &str, step: &str, end: &str) -> String {
    format!(
        "{{% set ns = namespace(x={start}, y=[]) %}}{{% for i in range(100) %}}{step}{{% endfor %}}{end}"
    )
}

// One test: the counters are the process's.
#[test]
fn memory_and_time_are_bounded_and_the_limit_is_named() {
    templates_made_to_take_much();
    templates_made_by_chance();
    the_limit_is_named_and_others_are_far_from_it();
}

fn check(source: &str) {
    let what = source.get(..source.len().min(200)).unwrap_or(source);
    let (_, peak, took) = render(source);
    assert!(
        peak <= ChatTemplate::MEMORY_BYTES_MAX,
        "{peak} bytes: {what}"
    );
    assert!(took < Duration::from_secs(20), "{took:?}: {what}");
}

/// Words of the language in any order, around values that grow. Most are no templates; of those
/// that are, none may take more than it may.
fn templates_made_by_chance() {
    const WORDS: [&str; 64] = [
        "{% set ns.x = ",
        " %}",
        "{{ ",
        " }}",
        "ns.x",
        "ns.x",
        "'ab'",
        "[1, 'c']",
        "(2,)",
        "{'k': 1}",
        " ~ ",
        " + ",
        " * ",
        " == ",
        " in ",
        " < ",
        "|tojson",
        "|string",
        "|list",
        "|join(ns.x)",
        "|replace('a', ns.x)",
        "|upper",
        "|indent(99)",
        "|sort",
        "|unique",
        "|map('string')",
        ".replace('b', ns.x)",
        ".split('a')",
        ".join(ns.x)",
        ".items()",
        "[::-1]",
        "[0]",
        "100000",
        "{% for a in ns.x %}",
        "{% for a in range(9) %}",
        "{% endfor %}",
        "a",
        "namespace(x=ns)",
        "{% set b %}",
        "{% endset %}",
        "b",
        "[ns.x, ns.x]",
        "messages",
        "|length",
        " % ",
        "'%s%s'",
        "'%9999999s'",
        "|format(ns.x, ns.x)",
        "|sum",
        "|sum(start=[])",
        "|groupby('k')",
        "|batch(9999999, 'x')",
        "|batch(1)",
        "|slice(9999999, ns.x)",
        "|center(999999999)",
        "|truncate(9)",
        "|wordcount",
        "|replace('a', ns.x, 9)",
        "joiner(ns.x)",
        "cycler(ns.x, ns.x)",
        ".next()",
        "()",
        "{% generation %}",
        "{% endgeneration %}",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..3000 {
        let mut source = String::from("{% set ns = namespace(x='ab') %}{% for i in range(40) %}");
        for _ in 0..1 + chance(5) {
            // A step that can work, so that not all of them fail at their first word.
            source.push_str("{% set ns.x = ns.x");
            for _ in 0..1 + chance(4) {
                source.push_str(WORDS[chance(WORDS.len())]);
            }
            source.push_str(" %}");
        }
        source.push_str("{% endfor %}{{ ns.x }}");
        check(&source);
    }
}

fn templates_made_to_take_much() {
    let double = |operator: &str| format!("{{% set ns.x = ns.x {operator} ns.x %}}");
    let nest = "{% set ns.x = [ns.x, ns.x] %}";
    let big = |end: &str| {
        let start = rounds("'xyz '", "", "{% set big = 'é' * 8000000 %}");
        format!("{start}{end}")
    };
    let hostile = [
        rounds("'x'", &double("~"), ""),
        rounds("'x'", &double("+"), ""),
        rounds("[1]", &double("+"), "{{ ns.x|length }}"),
        rounds("(1,)", &double("+"), ""),
        rounds("'x'", "{% set ns.x = ns.x * 1000 %}", ""),
        rounds("[1]", "{% set ns.x = ns.x * 1000 %}", "{{ ns.x|list|length }}"),
        rounds("'x'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}", ""),
        rounds("'x'", "{% set ns.x = ns.x|replace('x', ns.x) %}", ""),
        rounds("'x'", "{% set ns.x = ns.x.replace('', ns.x) %}", ""),
        rounds("'x'", "{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}", ""),
        rounds("'x'", "{% set ns.x = [ns.x, ns.x]|join(ns.x) %}", ""),
        rounds("'x'", "{% set ns.x = [ns.x, ns.x]|tojson %}", ""),
        rounds("'x'", "{% set ns.x = [ns.x, ns.x]|string %}", ""),
        rounds("'x\\n'", "{% set ns.x = (ns.x ~ ns.x)|indent(1000) %}", ""),
        rounds("'x'", &format!("{{% set ns.y = ns.y + [{}] %}}", "'y' * 1000000"), ""),
        rounds("'x'", nest, "{{ ns.x }}"),
        rounds("'x'", nest, "{% set y %}{{ ns.x }}{% endset %}"),
        rounds("'x'", nest, "{{ ns.x|tojson }}"),
        rounds("'x'", nest, "{{ 'a' ~ ns.x }}"),
        rounds("'x'", nest, "{{ {ns.x: 1} }}"),
        rounds("'x'", nest, "{{ messages[0][ns.x] }}"),
        rounds("'x'", nest, "{{ ns.x < ns.x }}"),
        rounds("'x'", nest, "{{ 1 < ns.x < ns.x }}"),
        rounds("'x'", nest, "{{ [ns.x]|map('string')|list }}"),
        rounds("'x'", nest, "{{ [ns.x, ns.x]|sort }}"),
        rounds("'x'", nest, "{{ [ns.x]|select('in', [ns.x]) }}"),
        rounds("'x'", nest, "{{ raise_exception(ns.x) }}"),
        rounds("'x'", "{% set ns.x = ns %}", "{{ ns }}"),
        rounds("'x'", "{% set ns.x = ns %}", "{{ ns.x == ns }}"),
        big("{{ (big|list)|length }}"),
        big("{{ big.split('é')|length }}"),
        big("{{ big|upper|lower|title|tojson|tojson|length }}"),
        big("{% for letter in big %}{% for other in big %}{{ other }}{% endfor %}{% endfor %}"),
        big("{% for i in range(100000) %}{{ big[i] }}{% endfor %}"),
        big("{% for i in range(100000) %}{% if big == big ~ i %}{% endif %}{% endfor %}"),
        big("{% for i in range(100000) %}{{ big.find('x') }}{% endfor %}"),
        big("{{ big[::-1]|length }}"),
        big("{% for i in range(100000) %}{% for a in 'x' recursive %}{% if loop.depth < 9 %}\
             {{ loop(big) }}{% endif %}{% break %}{% endfor %}{% endfor %}"),
        "{{ '{:1000000000}'.format(1) }}".to_owned(),
        "{% set x = [1] * 1000000 %}{% for i in range(100000) %}{{ dict(*x) }}{% endfor %}".to_owned(),
        "{% macro f() %}{% endmacro %}{% set x = ['x' * 1000] * 1000000 %}\
         {% for i in range(100000) %}{{ f(*x) }}{% endfor %}"
            .to_owned(),
        rounds("[1]", "{% set ns.x = cycler(*ns.x, *ns.x) %}", ""),
        rounds("{'a': 1}", "{% set ns.x = dict(a=ns.x, **ns.x) %}", "{{ ns.x }}"),
        big("{% for i in range(100000) %}{% for a in big %}{% break %}{% endfor %}{% endfor %}"),
        "{{ '%1000000000s' % 1 }}".to_owned(),
        "{{ '%.1000000000f' % 1.5 }}".to_owned(),
        "{{ '%-1000000000d'|format(1) }}".to_owned(),
        "{{ '%99999999999999999999999s' % 1 }}".to_owned(),
        "{{ ('%9999999s' * 100) % (range(100)|list) }}".to_owned(),
        rounds("'x'", "{% set ns.x = '%s%s' % (ns.x, ns.x) %}", ""),
        rounds("'x'", "{% set ns.x = '%s%s'|format(ns.x, ns.x) %}", ""),
        rounds("'x'", "{% set ns.x = '%(a)s%(a)s' % {'a': ns.x} %}", ""),
        rounds("'x'", "{% set ns.x = '%r' % ns.x %}", ""),
        rounds("'x'", nest, "{{ '%s' % ns.x }}"),
        big("{{ ('%s' * 1000) % big }}"),
        big("{{ ('%(a)s' * 1000) % {'a': big} }}"),
        rounds("'x'", "{% set ns.x = ns.x|replace('x', ns.x, 1000000000) %}", ""),
        rounds("'x'", "{% set ns.x = ns.x.replace('x', ns.x, 1000000000) %}", ""),
        rounds("'x'", "{% set ns.x = ns.x|replace('', 'xx', 1000000000) %}", ""),
        big("{% for i in range(100000) %}{{ big|replace('y', 'z', 1) }}{% endfor %}"),
        big("{% for i in range(100000) %}{{ big|replace(i, 'z') }}{% endfor %}"),
        rounds("[1]", "{% set ns.x = [ns.x, ns.x]|sum(start=[]) %}", "{{ ns.x|length }}"),
        "{% set x = [[1] * 1000] * 1000 %}{{ x|sum(start=[])|length }}".to_owned(),
        "{{ ((['ab'] * 1000000) + ['b'])|sum }}".to_owned(),
        "{{ ([1.5] * 2000000)|sum }}".to_owned(),
        "{% for i in range(100000) %}{{ ([1] * 100000)|sum }}{% endfor %}".to_owned(),
        rounds("'x'", nest, "{{ [ns.x]|sum(start=[]) == [] }}"),
        "{{ 'a'|center(10000000000) }}".to_owned(),
        "{{ [1]|batch(10000000000, 'x') }}".to_owned(),
        "{{ [1]|slice(10000000000, 'x') }}".to_owned(),
        "{% for i in range(100000) %}{{ ('a b ' * 100000)|wordcount }}{% endfor %}".to_owned(),
        big("{% for i in range(100000) %}{{ big|truncate(100000) }}{% endfor %}"),
        "{% set x = [{'k': 'b'}, {'k': 'a'}] * 500000 %}{{ x|groupby('k')|length }}".to_owned(),
        "{% set ns = namespace(x=[{'k': 1}]) %}{% for i in range(30) %}\
         {% set ns.x = ns.x + (ns.x|groupby('k')|list) + ns.x %}{% endfor %}{{ ns.x|length }}"
            .to_owned(),
        rounds("{'k': 1}", "{% set ns.x = {'k': [ns.x, ns.x]} %}", "{{ [ns.x, ns.x]|groupby('k') }}"),
        big("{{ ([{'k': big}] * 1000)|groupby('k') }}"),
        big("{% for i in range(100000) %}{{ [{'k': big}, {'k': big}]|groupby('k') }}{% endfor %}"),
        "{% set j = joiner('x' * 1000000) %}{% for i in range(100000) %}{{ j() }}{% endfor %}".to_owned(),
        "{% set ns = namespace(x='') %}{% set j = joiner('x' * 1000000) %}\
         {% for i in range(100000) %}{% set ns.x = ns.x + j() %}{% endfor %}"
            .to_owned(),
        "{% set c = cycler('x' * 1000000, ['y'] * 1000000) %}{% for i in range(100000) %}\
         {{ c.next() }}{{ c.current }}{% endfor %}"
            .to_owned(),
        "{% set ns = namespace(x=cycler(1)) %}{% for i in range(20000) %}\
         {% set ns.x = cycler(ns.x, ns.x) %}{% endfor %}{{ ns.x }}{{ ns.x.next() }}"
            .to_owned(),
        "{% set ns = namespace(x=joiner()) %}{% for i in range(20000) %}\
         {% set ns.x = joiner(ns.x) %}{% endfor %}{{ ns.x() }}{{ ns.x() }}"
            .to_owned(),
        "{% set ns = namespace(x=[]) %}{% for i in range(20000) %}\
         {% set ns.x = [{'k': ns.x}]|groupby('k') %}{% endfor %}{{ ns.x }}"
            .to_owned(),
        "{% block a %}x{{ self.b() }}{{ self.b() }}{% endblock %}\
         {% block b %}y{{ self.a() }}{{ self.a() }}{% endblock %}"
            .to_owned(),
        "{% block a %}{% set x = 'x' * 1000000 %}{{ x }}{% endblock %}\
         {% for i in range(100000) %}{% set y = self.a() %}{% endfor %}"
            .to_owned(),
        format!("{}{}", "{% generation %}".repeat(10_000), "{% endgeneration %}".repeat(10_000)),
        rounds("'x'", "{% generation %}{% set ns.x = ns.x + ns.x %}{% endgeneration %}", ""),
        rounds("'<'", "{% set ns.x = ns.x|safe + ns.x %}", ""),
        rounds("'<'", "{% set ns.x = (ns.x|string|e ~ '<') %}", ""),
        big("{{ big|default(big, boolean=true)|length }}{{ big is sameas big }}"),
        "{% for i in range(100000) %}{{ ('9' * 1000000)|int }}{{ ('9' * 1000000)|float }}{% endfor %}"
            .to_owned(),
        "{{ ('x' * 100000000) ~ ('x' * 100000000) ~ ('x' * 100000000) }}".to_owned(),
        format!("{{{{ {} }}}}", vec!["'x' * 100000000"; 400].join(" ~ ")),
        format!("{{{{ {} }}}}", vec!["1"; 100_000].join(" - ")),
        format!("{{{{ {} }}}}", vec!["x"; 100_000].join(" and ")),
        format!("{{{{ [{}] }}}}", vec!["messages"; 100_000].join(", ")),
        "{{ strftime_now('%c' * 10000000)|length }}".to_owned(),
        "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}x{% endmacro %}{{ f(40) }}"
            .to_owned(),
    ];
    for source in &hostile {
        check(source);
    }
}

fn the_limit_is_named_and_others_are_far_from_it() {
    let (result, _, _) = render(&rounds("'x'", "\n{% set ns.x = ns.x ~ ns.x %}", ""));
    let error = result.unwrap_err().to_string();
    assert!(
        error.starts_with("chat template line 2: exceeds the limit of "),
        "{error}"
    );
    assert!(error.ends_with("bytes of memory"), "{error}");
    // And a template that does nothing special takes next to nothing.
    let (result, peak, _) =
        render("{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}{% endfor %}");
    assert_eq!(
        result.unwrap(),
        "user: <think>why</think> a storyassistant: é🙂"
    );
    assert!(peak < 1 << 20, "{peak}");
}
