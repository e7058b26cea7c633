use super::*;

#[test]
fn numbers_come_out_as_they_were_written() {
    let printed = |json: &str| parse(json.as_bytes()).map(|value| value.to_string());
    for fine in [
        "18446744073709551615",
        "-9223372036854775808",
        "1.5",
        "-3",
        "[1, 2.5, 3]",
    ] {
        assert_eq!(printed(fine).as_deref(), Ok(fine));
    }
    assert!(printed(r#"{"1": "99999999999999999999 \\\" 99999999999999999999"}"#).is_ok());
    for wrong in [
        "18446744073709551616",
        "[1, -9223372036854775809]",
        r#"{"a\"": 100000000000000000000}"#,
    ] {
        assert!(
            printed(wrong).unwrap_err().contains("more than 64 bits"),
            "{wrong}"
        );
    }
}

#[test]
fn values_are_counted_and_keys_are_unique() {
    let many = format!("[{}1]", "1,".repeat(VALUES_MAX));
    assert!(
        parse(many.as_bytes())
            .unwrap_err()
            .contains("more than 1000000 values")
    );
    let twice = |value: &str| parse(format!(r#"{{"a": 1, "b": 2, "a": {value}}}"#).as_bytes());
    assert_eq!(twice("1").unwrap().to_string(), "{'a': 1, 'b': 2}");
    assert!(twice("2").unwrap_err().contains("`a` is given twice"));
    assert!(
        parse("[".repeat(1000).as_bytes())
            .unwrap_err()
            .contains("recursion limit")
    );
}

#[test]
fn tools_that_are_given_twice_must_be_the_same() {
    let json = br#"{"messages": [{"role": "user"}], "tools": [{"a": 1}]}"#;
    let mut chat = Chat::from_json(json).unwrap();
    chat.add_arguments(br#"{"tools": [{"a": 1}]}"#).unwrap();
    let error = chat.add_arguments(br#"{"tools": [{"a": 2}]}"#).unwrap_err();
    assert!(error.to_string().contains("given before"), "{error}");
    assert!(error.hint().is_some());
}
