use super::*;

fn fields(body: &str) -> Fields {
    Fields::of_body(body.as_bytes()).unwrap()
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for (body, words) in [
        (&b""[..], "no JSON"),
        (b"{\"a\": 1", "no JSON"),
        (b"{\"a\": \"\xff\"}", "no JSON"),
        (b"[1]", "a JSON object"),
        (b"{} {}", "no JSON"),
    ] {
        let refusal = Fields::of_body(body).unwrap_err();
        assert!(refusal.message.contains(words), "{}", refusal.message);
        assert_eq!((refusal.status, refusal.kind), (400, RefusalKind::Invalid));
    }
    let deep = "[".repeat(100_000);
    assert!(Fields::of_body(deep.as_bytes()).is_err());
}

#[test]
fn values_are_counted_before_they_take_memory() {
    let many = format!("{{\"a\": [{}1]}}", "1,".repeat(VALUES_MAX));
    let refusal = Fields::of_body(many.as_bytes()).unwrap_err();
    assert_eq!((refusal.status, refusal.kind), (413, RefusalKind::TooLarge));
    assert!(
        refusal.message.contains("1000000 at most"),
        "{}",
        refusal.message
    );
    let text = format!("{{\"a\": \"\\\"{}\"}}", ",[{".repeat(VALUES_MAX));
    assert!(Fields::of_body(text.as_bytes()).is_ok());
}

#[test]
fn what_is_null_was_not_given() {
    let mut fields = fields(r#"{"a": null, "b": null, "c": null, "d": null}"#);
    assert_eq!(fields.text("a"), Ok(None));
    assert_eq!(fields.flag("b"), Ok(None));
    assert_eq!(fields.number("c", 0.0..=2.0), Ok(None));
    assert_eq!(fields.count("d", 1..=u64::MAX), Ok(None));
    assert!(fields.finish(&[], true, &mut Notes::default()).is_ok());
}

#[test]
fn numbers_are_held_within_their_ranges() {
    let read = |value: &str| fields(&format!("{{\"x\": {value}}}")).number("x", 0.0..=2.0);
    assert_eq!(read("0"), Ok(Some(0.0)));
    assert_eq!(read("2.0"), Ok(Some(2.0)));
    for wrong in ["-0.1", "2.1", "1e999999", "\"1\"", "[1]"] {
        assert!(read_or_body(wrong).contains("x"), "{wrong}");
    }
    let count = |value: &str, range| fields(&format!("{{\"x\": {value}}}")).count("x", range);
    let whole = |value: &str| count(value, 1..=u64::MAX);
    assert_eq!(whole("3.0"), Ok(Some(3)));
    assert_eq!(count("20", 0..=20), Ok(Some(20)));
    let refusal = count("21", 0..=20).unwrap_err();
    let wanted = "`x` must be a whole number from 0 to 20, and it is 21.";
    assert_eq!(refusal.message, wanted);
    assert_eq!(whole("18446744073709551615"), Ok(Some(usize::MAX)));
    for wrong in ["0", "-1", "1.5", "1e30", "true"] {
        let refusal = whole(wrong).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("x"), "{wrong}");
    }
}

fn read_or_body(value: &str) -> String {
    let body = format!("{{\"x\": {value}}}");
    let read =
        Fields::of_body(body.as_bytes()).and_then(|mut fields| fields.number("x", 0.0..=2.0));
    match read {
        Ok(number) => panic!("{number:?}"),
        // A number that no float holds is no JSON.
        Err(refusal) => refusal.field.unwrap_or("x".to_owned()),
    }
}

#[test]
fn texts_may_be_one() {
    let read = |value: &str| fields(&format!("{{\"stop\": {value}}}")).texts("stop");
    assert_eq!(read("\"a\""), Ok(vec!["a".to_owned()]));
    assert_eq!(
        read("[\"a\", \"b\"]"),
        Ok(vec!["a".to_owned(), "b".to_owned()])
    );
    for (wrong, field) in [
        ("[\"a\", \"\"]", "stop[1]"),
        ("[1]", "stop[0]"),
        ("3", "stop"),
    ] {
        assert_eq!(read(wrong).unwrap_err().field.as_deref(), Some(field));
    }
}

#[test]
fn what_is_left_is_a_hint_a_note_or_refused() {
    let body = r#"{"store": true, "flavour": 1, "background": false, "stops": []}"#;
    let unsupported = [("background", "x"), ("stops", "y")];
    let mut notes = Notes::default();
    let mut lenient = fields(body);
    assert_eq!(lenient.refuse(&unsupported), Ok(()));
    assert_eq!(lenient.finish(&["store"], false, &mut notes), Ok(()));
    assert_eq!(notes.ignored, ["flavour"]);
    let refusal = fields(body).finish(&["store", "background", "stops"], true, &mut notes);
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("flavour"));
    assert_eq!(refusal.kind, RefusalKind::Unsupported);
    let refusal = fields(r#"{"background": true}"#)
        .refuse(&unsupported)
        .unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("background"));
    assert_eq!(refusal.message, "`background` is not supported: x");
}

#[test]
fn a_value_that_asks_for_nothing_is_allowed() {
    let mut fields = fields(r#"{"format": {"type": "text"}, "parts": ["text", "audio"]}"#);
    assert!(fields.take_if("format", &["1", r#"{"type":"text"}"#]));
    assert!(!fields.take_if("parts", &[r#"["text"]"#]));
    assert!(!fields.take_if("none", &["1"]));
    let refusal = fields
        .refuse(&[("format", "x"), ("parts", "y")])
        .unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("parts"));
}

#[test]
fn the_order_of_names_is_kept() {
    let mut fields = fields(r#"{"x": {"b": 1, "a": {"d": 1, "c": 2}}}"#);
    let text = fields.take("x").unwrap().to_string();
    assert_eq!(text, r#"{"b":1,"a":{"d":1,"c":2}}"#);
}
