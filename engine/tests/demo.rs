//! The demo model inside the program: its greedy continuation is pinned, as transformers computed
//! it from the same weights, for every way to keep its layers. A corrupted layer, or a layer in
//! another's place, would show here at once.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use engine::{Continuation, Ended, GenerationOptions, Kernels, Model, ModelOptions, Source};
use offload::{Home, Residency};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    prompt: String,
    prompt_tokens: Vec<u32>,
    greedy: Vec<u32>,
    text: String,
    last_logits: Vec<f32>,
}

fn expected() -> Expected {
    serde_json::from_str(include_str!("fixtures/demo/expected.json")).unwrap()
}

fn continuation(options: ModelOptions) -> (Vec<u32>, String) {
    let expected = expected();
    let mut model = Model::open(&Source::Demo, options).unwrap();
    let prompt = model
        .tokenizer()
        .unwrap()
        .encode(&expected.prompt, true)
        .unwrap();
    assert_eq!(prompt, expected.prompt_tokens);
    let mut session = model.session().unwrap();
    let max_new_tokens = expected.greedy.len();
    let options = GenerationOptions {
        max_new_tokens,
        ..Default::default()
    };
    let mut generation = session.generate(prompt, options).unwrap();
    let mut text = String::new();
    for piece in &mut generation {
        text.push_str(&piece.unwrap().text);
    }
    text.push_str(&generation.rest());
    (generation.report().tokens, text)
}

#[test]
fn the_greedy_continuation_is_pinned_for_every_residency() {
    let expected = expected();
    for (resident, home, link_gbps, kernels) in [
        (28, None, None, Kernels::Fast),
        (20, None, None, Kernels::Fast),
        (0, None, None, Kernels::Fast),
        (20, Some(Home::Ram), None, Kernels::Fast),
        (20, None, Some(1.0), Kernels::Fast),
        (20, None, None, Kernels::Clear),
    ] {
        let residency = Residency::Layers(resident);
        let options = ModelOptions {
            residency,
            home,
            link_gbps,
            kernels,
            ..Default::default()
        };
        let (tokens, text) = continuation(options.clone());
        assert_eq!(tokens, expected.greedy, "{options:?}: {text}");
        assert_eq!(text, expected.text, "{options:?}");
    }
}

#[test]
fn its_logits_agree_with_transformers() {
    let expected = expected();
    let mut model = Model::open(&Source::Demo, ModelOptions::default()).unwrap();
    let mut session = model.session().unwrap();
    session.pass(&expected.prompt_tokens).unwrap();
    let largest = expected
        .last_logits
        .iter()
        .fold(0.0_f32, |most, it| most.max(it.abs()));
    for (found, expected) in session.logits().iter().zip(&expected.last_logits) {
        assert!(
            (found - expected).abs() <= 1e-4 * largest,
            "{found} {expected}"
        );
    }
}

/// The same seed gives the same text, whatever is streamed.
#[test]
fn a_seed_pins_a_sampled_text_for_every_residency() {
    use engine::text::Sampling;

    let sampled = |resident, seed| {
        let residency = Residency::Layers(resident);
        let mut model = Model::open(
            &Source::Demo,
            ModelOptions {
                residency,
                ..Default::default()
            },
        )
        .unwrap();
        let prompt = model.tokenizer().unwrap().encode("One day", true).unwrap();
        let mut session = model.session().unwrap();
        let sampling = Sampling {
            temperature: 0.9,
            top_p: 0.95,
            seed,
            ..Sampling::default()
        };
        let options = GenerationOptions {
            max_new_tokens: 40,
            sampling,
            ..Default::default()
        };
        let generation = session.generate(prompt, options).unwrap();
        generation
            .map(|piece| piece.unwrap().token)
            .collect::<Vec<_>>()
    };
    let first = sampled(28, 1);
    assert_eq!(sampled(0, 1), first);
    assert_eq!(sampled(20, 1), first);
    assert_ne!(sampled(20, 2), first);
}

#[test]
fn a_continuation_shows_marks_and_says_what_stopped_it() {
    let model = Model::open(&Source::Demo, ModelOptions::default()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let said = "One <|im_start|>house<|endoftext|> and one";
    let tokens = tokenizer.encode(said, false).unwrap();
    for (stop, text, stopped_by) in [
        (["tree", "and o", "d o"], "One <|im_start|>house ", Some(1)),
        (["start|>h", "tree", "house"], "One <|im_", Some(0)),
        (
            ["tree", "<|endoftext|>", "cat"],
            "One <|im_start|>house and one",
            None,
        ),
    ] {
        let options = GenerationOptions {
            stop: stop.map(str::to_owned).to_vec(),
            show: vec!["<|im_start|>".to_owned()],
            ..Default::default()
        };
        let mut continuation = Continuation::new(&model, vec![1], options).unwrap();
        assert_eq!(continuation.stopped_by(), None);
        let mut printed = String::new();
        for &token in &tokens {
            printed.push_str(&continuation.take(token).text);
        }
        printed.push_str(&continuation.rest());
        assert_eq!(printed, text);
        assert_eq!(continuation.stopped_by(), stopped_by);
        assert_eq!(continuation.ended(), stopped_by.map(|_| Ended::StopString));
    }
}

/// Through a whole generation: the prompt's tokens are not counted, and probabilities are the
/// model's own.
#[test]
fn a_bias_and_penalties_reach_what_is_generated() {
    use engine::text::Sampling;

    let mut model = Model::open(&Source::Demo, ModelOptions::default()).unwrap();
    let prompt = expected().prompt_tokens;
    let plain = expected().greedy;
    let mut run = |options: GenerationOptions| {
        let mut session = model.session()?;
        let options = GenerationOptions {
            max_new_tokens: 12,
            ignore_eos: true,
            logprobs: Some(2),
            ..options
        };
        session
            .generate(prompt.clone(), options)?
            .collect::<Result<Vec<_>, _>>()
    };
    let without = run(GenerationOptions::default()).unwrap();
    let bias = vec![(7, 50.0)];
    let sampling = Sampling {
        frequency_penalty: 2.0,
        ..Sampling::default()
    };
    let biased = run(GenerationOptions {
        bias: bias.clone(),
        ..Default::default()
    });
    let biased = biased.unwrap();
    assert!(biased.iter().all(|it| it.token == 7), "{biased:?}");
    let top = |piece: &engine::GeneratedToken| piece.logprobs.clone().unwrap().top;
    assert_eq!(top(&biased[0]), top(&without[0]));
    assert_eq!(top(&biased[0])[0].token, plain[0]);
    let both = run(GenerationOptions {
        bias,
        sampling,
        ..Default::default()
    });
    // The first time nothing was said yet; 11 times 2 are less than the bias.
    assert!(both.unwrap().iter().all(|it| it.token == 7));
    let bias = vec![(7, 30.0)];
    let both = run(GenerationOptions {
        bias,
        sampling,
        ..Default::default()
    });
    let both = both.unwrap();
    assert_eq!(both[0].token, 7);
    assert!(both.iter().any(|it| it.token != 7), "{both:?}");
    let error = run(GenerationOptions {
        bias: vec![(9_999_999, 1.0)],
        ..Default::default()
    });
    let told = error.unwrap_err().to_string();
    assert!(
        told.starts_with("a bias is given for token 9999999"),
        "{told}"
    );
}

/// Turns of a conversation: each prompt begins with what was read and said before.
#[test]
fn what_a_prompt_shares_with_what_was_read_is_not_read_again() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let options = || GenerationOptions {
        max_new_tokens: 20,
        ignore_eos: true,
        ..Default::default()
    };
    let mut model = Model::open(&Source::Demo, ModelOptions::default()).unwrap();
    let first = expected().prompt_tokens;
    let fresh = |model: &mut Model, prompt: &[u32]| {
        let mut session = model.session().unwrap();
        let (output, _) = session
            .generate_with_timing(prompt.to_vec(), options())
            .unwrap();
        output.tokens
    };
    let answer = fresh(&mut model, &first);
    let second: Vec<u32> = first
        .iter()
        .chain(&answer)
        .chain(&[5, 6, 7])
        .copied()
        .collect();
    let continued = fresh(&mut model, &second);
    let other: Vec<u32> = first.iter().chain(&[9]).copied().collect();
    let branched = fresh(&mut model, &other);

    let context = model.blueprint().context;
    let mut session = model.session().unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    session.cancel_with(flag.clone());
    // The last token of an answer was not read, and the last of a prompt is always.
    let seen = first.len() + answer.len() - 1;
    for (prompt, expected, cached) in [
        (&first, &answer, 0),
        (&second, &continued, seen),
        (&second, &continued, second.len() - 1),
        (&first, &answer, first.len() - 1),
        (&other, &branched, first.len()),
        (&first, &answer, first.len() - 1),
    ] {
        // What cannot be read changes nothing, nor does a pass that is given up.
        let long = first.iter().copied().cycle().take(context + 1).collect();
        assert!(session.generate_reusing(long, options()).is_err());
        assert!(session.generate_reusing(Vec::new(), options()).is_err());
        let unknown = vec![first[0], u32::MAX];
        assert!(session.generate_reusing(unknown, options()).is_err());
        assert_eq!(session.shared_with(prompt), cached);
        flag.store(true, Ordering::Relaxed);
        let mut given_up = session.generate_reusing(prompt.clone(), options()).unwrap();
        assert!(given_up.next().is_none());
        assert_eq!(given_up.ended(), Some(engine::Ended::Interrupted));
        flag.store(false, Ordering::Relaxed);

        let mut generation = session.generate_reusing(prompt.clone(), options()).unwrap();
        let tokens: Vec<u32> = (&mut generation)
            .map(|piece| piece.unwrap().token)
            .collect();
        assert_eq!(&tokens, expected);
        assert_eq!(generation.cached_tokens(), cached);
        assert_eq!(generation.report().prompt_tokens, prompt.len());
        assert_eq!(
            generation.report().totals.prompt.rows,
            prompt.len() - cached
        );
    }
}
