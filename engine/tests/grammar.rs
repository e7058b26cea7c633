//! Answers that are held to a form: the demo model, which knows nothing of JSON, writes what a schema
//! describes, greedily and by draws, alone and in company, and after it gave way.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;

use engine::text::{Grammar, Rule, Sampling, TextError};
use engine::{
    Ended, EngineError, GenerationOptions, Model, ModelOptions, ScheduleOptions, Scheduler, Source,
    Told,
};
use serde_json::{Value, json};

fn open(sequences: usize, positions: Option<usize>) -> Model {
    let options = ModelOptions {
        sequences,
        positions,
        context: Some(256),
        ..ModelOptions::default()
    };
    Model::open(&Source::Demo, options).unwrap()
}

fn compiled(model: &Model, rule: &Rule) -> Grammar {
    Grammar::new(&model.blueprint().vocabulary().unwrap(), rule).unwrap()
}

fn place() -> Rule {
    Rule::Schema(json!({"type": "object", "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 12},
        "x": {"type": "number", "minimum": -90, "maximum": 90},
        "kinds": {"type": "array", "maxItems": 3, "items": {"enum": ["city", "river"]}}},
        "required": ["name", "x", "kinds"], "additionalProperties": false}))
}

fn is_place(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    let kinds = value["kinds"].as_array().unwrap();
    let name = value["name"].as_str().unwrap().chars().count();
    (2..=12).contains(&name)
        && (-90.0..=90.0).contains(&value["x"].as_f64().unwrap())
        && kinds.iter().all(|kind| kind == "city" || kind == "river")
}

fn options(grammar: Grammar, seed: Option<u64>) -> GenerationOptions {
    let sampling = Sampling {
        temperature: if seed.is_some() { 1.0 } else { 0.0 },
        top_k: 40,
        seed: seed.unwrap_or_default(),
        ..Sampling::default()
    };
    GenerationOptions {
        max_new_tokens: 200,
        grammar: Some(grammar),
        sampling,
        ..GenerationOptions::default()
    }
}

fn alone(model: &mut Model, options: GenerationOptions) -> (String, Vec<u32>, Option<Ended>) {
    let prompt = model.blueprint().encode("Once upon a time").unwrap();
    let mut session = model.session().unwrap();
    let mut generation = session.generate(prompt, options).unwrap();
    let mut text = String::new();
    for token in &mut generation {
        text.push_str(&token.unwrap().text);
    }
    text.push_str(&generation.rest());
    let report = generation.report();
    (text, report.tokens, report.ended)
}

#[test]
fn an_answer_is_of_its_schema() {
    let mut model = open(1, None);
    let grammar = compiled(&model, &place());
    for seed in [None, Some(1), Some(2), Some(3)] {
        let (text, _, ended) = alone(&mut model, options(grammar.clone(), seed));
        assert_eq!(ended, Some(Ended::GrammarComplete), "{text}");
        assert!(is_place(&text), "{text}");
    }
}

#[test]
fn a_pattern_and_a_grammar_are_followed_to_their_end() {
    let mut model = open(1, None);
    let regex = Rule::Regex("(yes|no), [0-9]{3}".to_owned());
    let regex = options(compiled(&model, &regex), None);
    let (text, _, ended) = alone(&mut model, regex);
    assert_eq!(ended, Some(Ended::GrammarComplete));
    let (word, number) = text.split_once(", ").unwrap();
    assert!(["yes", "no"].contains(&word) && number.len() == 3, "{text}");
    let lark = "start: sum \"=\" NUMBER\nsum: NUMBER (\"+\" NUMBER)+\nNUMBER: /[0-9]{1,3}/";
    let lark = Rule::Lark(lark.to_owned());
    let lark = options(compiled(&model, &lark), Some(5));
    let (text, ..) = alone(&mut model, lark);
    let left = text.split_once('=').map_or(text.as_str(), |(left, _)| left);
    assert!(left.split('+').all(|number| number.len() <= 3), "{text}");
}

#[test]
fn ends_are_the_grammars_and_probabilities_the_models() {
    let mut model = open(1, None);
    let any = compiled(&model, &Rule::Regex("(?s:.*)".to_owned()));
    let free = GenerationOptions {
        max_new_tokens: 40,
        logprobs: Some(2),
        ..GenerationOptions::default()
    };
    let held = GenerationOptions {
        grammar: Some(any),
        ..free.clone()
    };
    // What allows everything changes nothing.
    assert_eq!(alone(&mut model, held).1, alone(&mut model, free).1);
    let digits = compiled(&model, &Rule::Regex("[0-9]{4}".to_owned()));
    let prompt = model.blueprint().encode("Once upon a time").unwrap();
    let mut session = model.session().unwrap();
    let options = GenerationOptions {
        logprobs: Some(1),
        ..options(digits, None)
    };
    let mut generation = session.generate(prompt, options).unwrap();
    let first = generation.next().unwrap().unwrap();
    let logprobs = first.logprobs.unwrap();
    assert_ne!(logprobs.top[0].token, first.token);
    assert!(logprobs.chosen.logprob < logprobs.top[0].logprob);
}

#[test]
fn a_limit_on_tokens_leaves_the_begin_of_an_answer() {
    let mut model = open(1, None);
    let grammar = compiled(&model, &place());
    let few = GenerationOptions {
        max_new_tokens: 5,
        ..options(grammar, None)
    };
    let (text, _, ended) = alone(&mut model, few);
    assert_eq!(ended, Some(Ended::MaxNewTokens));
    assert!(text.starts_with('{'), "{text}");
}

#[test]
fn what_cannot_be_held_is_refused_before_a_pass() {
    let model = open(1, None);
    let vocabulary = model.blueprint().vocabulary().unwrap();
    let none = Rule::Schema(json!({"type": "string", "minLength": 3, "maxLength": 1}));
    let error = Grammar::new(&vocabulary, &none).unwrap_err();
    assert!(matches!(error, TextError::Grammar { .. }) && error.hint().is_some());
    assert!(EngineError::from(error).to_string().contains("JSON schema"));
}

/// Serves requests together, and gives the tokens of each.
fn together(model: &mut Model, all: Vec<GenerationOptions>) -> Vec<(Vec<u32>, Option<Ended>)> {
    let prompt = model.blueprint().encode("Once upon a time").unwrap();
    let session = model.session().unwrap();
    let mut scheduler = Scheduler::new(session, ScheduleOptions::default()).unwrap();
    let count = all.len() as u64;
    for (id, options) in (0..).zip(all) {
        scheduler.submit(id, prompt.clone(), options).unwrap();
    }
    let mut came: HashMap<u64, (Vec<u32>, Option<Ended>)> = HashMap::new();
    let mut tell = |id, told| match told {
        Told::Token(token) => came.entry(id).or_default().0.push(token.token),
        Told::Ended { ended, account, .. } => {
            came.entry(id).or_default().1 = Some(ended);
            assert_eq!(account.masking.is_zero(), id % 2 == 1);
        }
        Told::Prompt { .. } => {}
        Told::Failed(error) => panic!("{error}"),
    };
    while scheduler.step(&mut tell).unwrap() {}
    (0..count).map(|id| came.remove(&id).unwrap()).collect()
}

#[test]
fn company_and_giving_way_change_nothing() {
    let seeds = [None, Some(11), Some(12)];
    let mut model = open(1, None);
    let grammar = compiled(&model, &place());
    let expected: Vec<_> = seeds
        .iter()
        .map(|&seed| alone(&mut model, options(grammar.clone(), seed)).1)
        .collect();
    // With others that are free, with as much memory as they like, and with too little.
    for positions in [None, Some(300)] {
        let mut model = open(6, positions);
        let grammar = compiled(&model, &place());
        let all = seeds.iter().flat_map(|&seed| {
            let held = options(grammar.clone(), seed);
            let free = GenerationOptions {
                grammar: None,
                max_new_tokens: 60,
                ..held.clone()
            };
            [held, free]
        });
        let came = together(&mut model, all.collect());
        for (at, expected) in expected.iter().enumerate() {
            assert_eq!(&came[2 * at].0, expected, "{positions:?}");
            assert_eq!(came[2 * at].1, Some(Ended::GrammarComplete));
        }
    }
}
