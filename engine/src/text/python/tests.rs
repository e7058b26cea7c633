use minijinja::Environment;

use super::date::{civil, strftime};
use super::*;

/// The template engine with these words, and nothing counted.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

fn render(template: &str) -> String {
    let environment = environment();
    let context = Value::from_pairs([
        ("nothing", Value::from(())),
        ("text", Value::from("aébé, c")),
    ]);
    environment.render_str(template, context).unwrap()
}

#[test]
fn json_is_what_json_dumps_writes() {
    let cases = [
        (
            "{{ {'b': [1, 2.5, true, none], 'a': {}}|tojson }}",
            r#"{"b": [1, 2.5, true, null], "a": {}}"#,
        ),
        (
            "{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}",
            r#"{"a": 2, "b": 1}"#,
        ),
        (
            "{{ {'b': [1, 2]}|tojson(separators=(',', ':')) }}",
            r#"{"b":[1,2]}"#,
        ),
        ("{{ '<é🙂>'|tojson }}", r#""<é🙂>""#),
        (
            "{{ '<é🙂>'|tojson(ensure_ascii=true) }}",
            r#""<\u00e9\ud83d\ude42>""#,
        ),
        (r#"{{ 'say "hi"\n\t\\'|tojson }}"#, r#""say \"hi\"\n\t\\""#),
        ("{{ {1: 2, none: 3}|tojson }}", r#"{"1": 2, "null": 3}"#),
        (
            "{{ [1, {'a': []}]|tojson(indent=2) }}",
            "[\n  1,\n  {\n    \"a\": []\n  }\n]",
        ),
        ("{{ []|tojson(indent=4) }}", "[]"),
    ];
    for (template, expected) in cases {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn json_of_what_has_none_is_an_error() {
    let environment = environment();
    let deep = format!("{{{{ {}{}|tojson }}}}", "[".repeat(70), "]".repeat(70));
    for template in [
        "{{ missing|tojson }}",
        "{{ range|tojson }}",
        "{{ 1|tojson(wrong=1) }}",
        &deep,
    ] {
        assert!(environment.render_str(template, ()).is_err(), "{template}");
    }
}

#[test]
fn strings_and_mappings_have_their_python_methods() {
    let cases = [
        ("{{ '  a b '.strip() }}|{{ 'xxaxx'.strip('x') }}", "a b|a"),
        ("{{ text.split(', ') }}", "['aébé', 'c']"),
        ("{{ ' a  b c'.split() }}", "['a', 'b', 'c']"),
        ("{{ text.split('é')[-1] }}", ", c"),
        ("{{ 'a-b-c'.rsplit('-', 1) }}", "['a-b', 'c']"),
        ("{{ ' a  b c '.rsplit(none, 1) }}", "[' a  b', 'c']"),
        ("{{ ' a  b c '.rsplit() }}", "['a', 'b', 'c']"),
        (
            "{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=')[0] }}",
            "('a', '=', 'b=c')a=b",
        ),
        (
            "{{ 'preface'.removeprefix('pre').removesuffix('ce') }}",
            "fa",
        ),
        (
            "{{ 'one two'.title() }} {{ 'A'.lower() }} {{ 'a'.upper() }}",
            "One Two a A",
        ),
        (
            "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('ab') }}",
            "True False",
        ),
        (
            "{{ 'aXbX'.replace('X', '-') }} {{ 'abc'.find('c') }}",
            "a-b- 2",
        ),
        (
            "{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
            "b1a2",
        ),
        (
            "{{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b', 9) }} {{ {}.get('b') }}",
            "1 9 None",
        ),
        ("{{ {'b': 1, 'a': 2}.keys()|list }}", "['b', 'a']"),
        ("{{ '-'.join(['a', 'b']) }}", "a-b"),
    ];
    for (template, expected) in cases {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn dates_are_written_as_python_writes_them() {
    // 2024-02-29 13:05:09 UTC, a Thursday.
    let leap_day = Duration::from_secs(1_709_211_909);
    let cases = [
        ("%d %b %Y", "29 Feb 2024"),
        ("%A, %B %d, %Y", "Thursday, February 29, 2024"),
        ("%Y-%m-%d %H:%M:%S", "2024-02-29 13:05:09"),
        ("%a %-m/%-d/%y %I:%M %p", "Thu 2/29/24 01:05 PM"),
        ("%j 100%% %q %", "060 100% %q %"),
    ];
    for (format, expected) in cases {
        assert_eq!(strftime(format, leap_day, 0), expected);
    }
    let at = |format, seconds, ahead| strftime(format, Duration::from_secs(seconds), ahead);
    assert_eq!(at("%Y-%m-%d %a %j", 0, 0), "1970-01-01 Thu 001");
    assert_eq!(at("%F %T %j", 4_102_444_799, 0), "2099-12-31 23:59:59 365");
    assert_eq!(at("%F %j", 951_868_800, 0), "2000-03-01 061");
    // Local time; the second since 1970 is the same everywhere, and there is no zone to name.
    assert_eq!(
        at("%F %R %s[%Z%z]", 951_868_800, -3600),
        "2000-02-29 23:00 951868800[]"
    );
    assert_eq!(at("%F %R", 951_868_800, 19_800), "2000-03-01 05:30");
}

#[test]
fn every_day_of_four_centuries_follows_the_last() {
    let mut last = civil(0);
    for days in 1..146_100 {
        let day = civil(days);
        let (year, month, day_of_month, day_of_year) = day;
        if day_of_month > 1 {
            assert_eq!(day, (last.0, last.1, last.2 + 1, last.3 + 1));
        } else if month > 1 {
            assert_eq!((year, month, day_of_year), (last.0, last.1 + 1, last.3 + 1));
            assert!((28..=31).contains(&last.2));
        } else {
            assert_eq!((year, day_of_year), (last.0 + 1, 1));
            assert_eq!((last.1, last.2), (12, 31));
        }
        last = day;
    }
    assert_eq!(last, (2370, 1, 3, 3));
}

#[test]
fn the_date_of_today_has_its_shape() {
    let date = render("{{ strftime_now('%Y-%m-%d') }}");
    assert_eq!(date.len(), 10);
    assert!(date.as_str() >= "2024-01-01");
}
