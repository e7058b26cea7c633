use super::*;

#[test]
fn what_cannot_be_used_says_why() {
    let cases = [
        (schema(json!(false)), "nothing satisfies `false`"),
        (schema(json!(7)), "neither an object nor a boolean"),
        (
            schema(json!({"type": "string", "minLength": 5, "maxLength": 2})),
            "nsatisfiable",
        ),
        (
            schema(json!({"allOf": [{"type": "string"}, {"type": "integer"}]})),
            "nsatisfiable",
        ),
        (schema(json!({"not": {"type": "string"}})), "\"not\""),
        (
            schema(
                json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}),
            ),
            "\"uniqueItems\"",
        ),
        (
            schema(json!({"$ref": "https://example.com/x.json"})),
            "example.com",
        ),
        (schema(json!({"$ref": "#/$defs/none"})), "none"),
        (
            schema(json!({"type": "string", "pattern": "(?=a)"})),
            "look",
        ),
        (Rule::Regex("(".to_owned()), "regular expression"),
        (Rule::Lark("start: nothing".to_owned()), "nothing"),
        (Rule::Lark("start: <|none|>".to_owned()), "none"),
        (Rule::Lark("(".repeat(9000)), "nest"),
        (Rule::Regex("a".repeat(2 << 20)), "1048576 is the most"),
    ];
    for (rule, words) in cases {
        let told = refused(&rule);
        assert!(told.contains(words), "{words}: {told}");
        assert!(told.len() < 700 && !told.contains('\n'), "{told}");
    }
    let mut deep = json!({"type": "null"});
    for _ in 0..60 {
        deep = json!({"anyOf": [deep]});
    }
    assert!(refused(&schema(deep)).contains("levels deep"));
    let many: Vec<_> = (0..30_000).collect();
    assert!(refused(&schema(json!({"enum": many}))).contains("20000 values"));
}

#[test]
fn a_schema_says_nothing_about_its_own_compilation() {
    let rule = schema(json!({"type": "object", "x-guidance": {"lenient": true}, "not": {}}));
    assert!(refused(&rule).contains("\"not\""));
}

/// Schemas that are small and ask for much: each is refused, or compiled and followed, and soon.
#[test]
fn no_schema_takes_long() {
    let tokenizer = byte_level();
    let vocabulary = vocabulary(&tokenizer);
    for (name, rule) in bombs() {
        let from = Instant::now();
        let told = match Grammar::new(&vocabulary, &rule) {
            Err(error) => error.to_string(),
            Ok(grammar) => {
                let compiled = from.elapsed();
                let mut matcher = grammar.matcher();
                let mut random = Random::new(7);
                let mut slowest = Duration::ZERO;
                let mut end = "went on".to_owned();
                for _ in 0..60 {
                    let at = Instant::now();
                    let mut logits = vec![0.0; tokenizer.vocab_size() + 5];
                    if let Err(error) = matcher.mask(&mut logits, false) {
                        end = error.to_string();
                        break;
                    }
                    let tokens = (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0);
                    let tokens: Vec<u32> = tokens.map(|(token, _)| token).collect();
                    let Some(&token) =
                        tokens.get((random.uniform() * tokens.len() as f64) as usize)
                    else {
                        break;
                    };
                    match matcher.take(token) {
                        Ok(false) => {}
                        Ok(true) => break,
                        Err(error) => {
                            end = error.to_string();
                            break;
                        }
                    }
                    slowest = slowest.max(at.elapsed());
                }
                format!("compiled in {compiled:?}, slowest {slowest:?}: {end}")
            }
        };
        let took = from.elapsed();
        eprintln!("{name}: {took:?}: {told}");
        assert!(took < Duration::from_secs(10), "{name}: {took:?}: {told}");
    }
}

fn bombs() -> Vec<(&'static str, Rule)> {
    let object = |count: usize, of: Value| {
        let properties = (0..count).map(|at| (format!("p{at}"), of.clone()));
        json!({"type": "object", "properties": properties.collect::<serde_json::Map<_, _>>()})
    };
    let mut doubled = json!({"type": "string"});
    for _ in 0..12 {
        doubled = json!({"allOf": [{"anyOf": [doubled.clone(), {"type": "null"}]}, {"anyOf": [doubled, {"type": "array"}]}]});
    }
    let chained: serde_json::Map<_, _> = (0..30)
        .map(|at| {
            let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
            (
                format!("d{at}"),
                json!({"anyOf": [next.clone(), {"type": "array", "items": next}]}),
            )
        })
        .chain([("d30".to_owned(), json!({"type": "null"}))])
        .collect();
    let crossed: Vec<_> = (0..14)
        .map(|at| json!({"anyOf": [{"properties": {format!("a{at}"): {"type": "string"}}}, {"properties": {format!("b{at}"): {"type": "null"}}}]}))
        .collect();
    let strings: Vec<_> = (0..15_000)
        .map(|at| format!("{:x}", at * 2_654_435_761_u64))
        .collect();
    let needed: Vec<_> = (0..2000).map(|at| format!("p{at}")).collect();
    let regex = |pattern: &str| Rule::Regex(pattern.to_owned());
    vec![
        (
            "repeated repetitions",
            regex("((a{1,1000}b?){1,1000}c?){1,1000}"),
        ),
        ("a counted any", regex("(?s:.*)x(?s:.){1000}")),
        ("a counted class", regex("[^x]*x[^y]{30}y[^z]{60}z")),
        (
            "many counted",
            schema(json!({"type": "string", "minLength": 100_000, "maxLength": 1_000_000})),
        ),
        (
            "a pattern of repetitions",
            schema(json!({"type": "string", "pattern": "^(([a-z]{1,100}){1,100}){1,100}$"})),
        ),
        (
            "patterns that must all hold",
            schema(
                json!({"allOf": (1..40).map(|at| json!({"type": "string", "pattern": format!("(a|b)*a(a|b){{{at}}}$")})).collect::<Vec<_>>()}),
            ),
        ),
        ("itself", schema(json!({"$ref": "#"}))),
        (
            "an array of itself",
            schema(json!({"type": "array", "items": {"$ref": "#"}})),
        ),
        (
            "all of itself",
            schema(json!({"allOf": [{"$ref": "#"}, {"type": "object"}]})),
        ),
        (
            "any of itself, twice",
            schema(json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"type": "null"}]})),
        ),
        ("doubled choices", schema(doubled)),
        (
            "chained",
            schema(json!({"$ref": "#/$defs/d0", "$defs": chained})),
        ),
        (
            "crossed choices",
            schema(json!({"type": "object", "allOf": crossed})),
        ),
        (
            "many optional properties",
            schema(object(400, json!({"type": "string"}))),
        ),
        (
            "too many optional properties",
            schema(object(3000, json!({"type": "string"}))),
        ),
        (
            "many required properties",
            schema({
                let mut all = object(2000, json!({"type": "string"}));
                all["required"] = json!(needed);
                all
            }),
        ),
        ("many texts", schema(json!({"enum": strings}))),
        (
            "long arrays",
            schema(
                json!({"type": "array", "minItems": 50_000, "maxItems": 1_000_000, "items": {"type": "array", "minItems": 10_000, "items": {"type": "integer"}}}),
            ),
        ),
        (
            "a huge range",
            schema(
                json!({"type": "number", "minimum": -1e300, "maximum": 1e300, "multipleOf": 1e-9}),
            ),
        ),
        (
            "multiples",
            schema(
                json!({"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 7919}]}),
            ),
        ),
        (
            "many pattern properties",
            schema(
                json!({"type": "object", "patternProperties": (0..300).map(|at| (format!("^x{at}.*y$"), json!({"type": "null"}))).collect::<serde_json::Map<_, _>>()}),
            ),
        ),
        (
            "an ambiguous grammar",
            Rule::Lark("start: e\ne: e e | e e e | \"a\" | \"\"".to_owned()),
        ),
        (
            "recursion to the right",
            Rule::Lark("start: \"a\" start | \"a\"".to_owned()),
        ),
        (
            "counted rules",
            Rule::Lark("start: a{1,100000}\na: b{1,100000}\nb: \"x\"{1,100000}".to_owned()),
        ),
    ]
}
