//! From an ask to what the model's thread takes: tokens, and how to go on from them. Renders and
//! tokenizes, which takes time: not for a thread that others wait for.

use engine::GenerationOptions;
use engine::text::{Grammar, Sampling};

use super::ask::{Ask, Refusal, RefusalKind};
use super::held;
use super::server::Ready;
use super::texts::Prompt;

/// An ask that can be answered.
#[derive(Debug)]
pub struct Prepared {
    /// One for each prompt; each is answered `answers` times.
    pub prompts: Vec<Prompt>,
    /// What the answers to each are held to.
    grammars: Vec<Option<Grammar>>,
    pub options: GenerationOptions,
    /// Whether the ids of the tokens are told as well.
    pub token_ids: bool,
    pub answers: usize,
}

impl Prepared {
    /// What was given to templates that never name it.
    pub fn unnamed(&self) -> impl Iterator<Item = &String> {
        self.prompts.iter().flat_map(|prompt| &prompt.unnamed)
    }

    /// The orders, those of the first prompt first. Each draws otherwise.
    pub fn orders(&self) -> Vec<(Vec<u32>, GenerationOptions)> {
        let mut orders = Vec::with_capacity(self.prompts.len() * self.answers);
        for (prompt, grammar) in self.prompts.iter().zip(&self.grammars) {
            for answer in 0..self.answers {
                let mut options = self.options.clone();
                options.grammar.clone_from(grammar);
                let shows = prompt.style.shows().iter();
                options.show = shows.map(|mark| (*mark).to_owned()).collect();
                options.sampling.seed = options.sampling.seed.wrapping_add(answer as u64);
                orders.push((prompt.tokens.clone(), options));
            }
        }
        orders
    }
}

/// Several asks differ in their prompts alone.
pub fn prepare(ready: &Ready, asks: &[Ask]) -> Result<Prepared, Refusal> {
    let Some(first) = asks.first() else {
        return Err(invalid("prompt", "there is no prompt".to_owned()));
    };
    if first.stop.iter().any(String::is_empty) {
        return Err(invalid("stop", "a text to stop at is empty".to_owned()));
    }
    if !first.stop.is_empty() && ready.texts.tokenizer().is_none() {
        let message = "the model came without a tokenizer: no text can end an answer";
        return Err(invalid("stop", message.to_owned()));
    }
    let prompts = asks.iter().map(|ask| ready.texts.prompt(&ask.input));
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    let grammars = asks.iter().zip(&prompts);
    let grammars = grammars
        .map(|(ask, prompt)| held::grammar(&ready.texts, &ask.input, &prompt.style, &ask.form));
    Ok(Prepared {
        grammars: grammars.collect::<Result<Vec<_>, _>>()?,
        prompts,
        options: options_of(ready, first)?,
        token_ids: first.token_ids,
        answers: first.answers,
    })
}

/// How the sampler is to go on.
fn options_of(ready: &Ready, ask: &Ask) -> Result<GenerationOptions, Refusal> {
    let tokens: Vec<u32> = ask.bias.iter().map(|(token, _)| *token).collect();
    ready.texts.check(&tokens).map_err(|refusal| Refusal {
        field: Some("logit_bias".to_owned()),
        ..refusal
    })?;
    let sampling = Sampling {
        seed: ask.sampling.seed.unwrap_or_else(super::server::chance),
        ..ask.sampling.draw.over(&ready.sampling)
    };
    sampling.validate().map_err(|error| Refusal {
        status: 400,
        kind: RefusalKind::Invalid,
        message: error.to_string(),
        field: None,
    })?;
    Ok(GenerationOptions {
        max_new_tokens: ask.max_tokens.unwrap_or(ready.texts.context),
        sampling,
        stop: ask.stop.clone(),
        ignore_eos: ask.sampling.ignore_eos,
        logprobs: ask.logprobs,
        show: Vec::new(),
        bias: ask.bias.clone(),
        grammar: None,
    })
}

fn invalid(field: &str, message: String) -> Refusal {
    Refusal {
        status: 400,
        kind: RefusalKind::Invalid,
        message,
        field: Some(field.to_owned()),
    }
}
