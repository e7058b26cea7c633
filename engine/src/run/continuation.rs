//! The continuation of a prompt as a value: how its tokens are chosen, the text that they become, and
//! when it ends. It makes no pass and borrows nothing, so that several can share passes.

use std::time::Instant;

use super::generation::{Ended, GeneratedToken, GenerationOptions};
use crate::error::EngineError;
use crate::model::Model;
use crate::profile::PassKind;
use crate::text::sampler::{Stretch, Times};
use crate::text::{
    Candidates, Detokenizer, Grammar, LikelyTokens, Logprobs, Matcher, Sampler, StopStrings, Wanted,
};

/// A text that is going on.
#[derive(Debug)]
pub struct Continuation {
    options: GenerationOptions,
    eos_token_ids: Vec<u32>,
    sampler: Sampler,
    /// What may come next, where a grammar says it.
    matcher: Option<Matcher>,
    /// When the last mask was made and applied.
    masked: Option<Stretch>,
    /// The token that was chosen last completes the grammar.
    completes: bool,
    detokenizer: Option<Detokenizer>,
    stop: StopStrings,
    /// Of the token that was chosen last.
    logprobs: Option<Logprobs>,
    /// Prompt and generated tokens: what the penalties look at.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    ended: Option<Ended>,
    /// Which of the stop strings ended it.
    stopped_by: Option<usize>,
}

impl Continuation {
    pub fn new(
        model: &Model,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Self, EngineError> {
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let sampler = Sampler::new(options.sampling, model.config().vocab_size)?
            .after_prompt(prompt.len())
            .with_bias(options.bias.clone())?;
        let eos_token_ids = match options.ignore_eos {
            true => Vec::new(),
            false => model.eos_token_ids().to_vec(),
        };
        let stop = StopStrings::new(options.stop.clone())?;
        let detokenizer = match model.tokenizer() {
            Ok(tokenizer) => Some(tokenizer.detokenizer().showing(&options.show)),
            // Token ids came in, token ids go out.
            Err(EngineError::NoTokenizer { .. }) if options.stop.is_empty() => None,
            Err(EngineError::NoTokenizer { .. }) => return Err(EngineError::StopWithoutText),
            Err(error) => return Err(error),
        };
        Ok(Self {
            eos_token_ids,
            sampler,
            matcher: options.grammar.as_ref().map(Grammar::matcher),
            masked: None,
            completes: false,
            detokenizer,
            stop,
            logprobs: None,
            prompt_tokens: prompt.len(),
            tokens: prompt,
            ended: None,
            stopped_by: None,
            options,
        })
    }

    /// The tokens that the next pass takes, after those that its sequence has seen: the prompt, or the
    /// last token. `None`: it has ended. `room`: positions that its sequence has left.
    pub fn next(&mut self, room: usize) -> Option<(PassKind, &[u32])> {
        let done = self.generated().len();
        if self.ended.is_none() && done >= self.options.max_new_tokens {
            self.ended = Some(Ended::MaxNewTokens);
        }
        if self.ended.is_none() && done > 0 && room == 0 {
            self.ended = Some(Ended::ContextFull);
        }
        match (self.ended, done) {
            (Some(_), _) => None,
            (None, 0) => Some((PassKind::Prompt, &self.tokens)),
            (None, _) => Some((PassKind::Decode, &self.tokens[self.tokens.len() - 1..])),
        }
    }

    /// What it needs of the next pass's last row.
    pub fn wants(&self) -> Wanted {
        match (self.options.logprobs, &self.matcher) {
            (None, None) => self.sampler.wants(),
            _ => Wanted::Logits,
        }
    }

    /// The next token, if the candidates decide it; else it is that of all logits.
    pub fn choose(&mut self, candidates: &Candidates) -> Option<u32> {
        if self.matcher.is_some() {
            return None;
        }
        self.sampler.choose(candidates, &self.tokens).ok()
    }

    /// The next token, from all logits, which it changes.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, EngineError> {
        // As the model says it: before a grammar, a bias or a penalty.
        let before = (self.options.logprobs).map(|count| LikelyTokens::of(logits, count));
        if let Some(matcher) = &mut self.matcher {
            let from = Instant::now();
            matcher.mask(logits, !self.eos_token_ids.is_empty())?;
            self.masked = Some((from, Instant::now()));
        }
        let token = self.sampler.sample(logits, &self.tokens)?;
        if let Some(matcher) = &mut self.matcher
            && !self.eos_token_ids.contains(&token)
        {
            self.completes = matcher.take(token)?;
        }
        self.logprobs = before.map(|likely| likely.with(token));
        Ok(token)
    }

    /// What took time when the last token was chosen.
    pub fn times(&self) -> Times {
        Times {
            mask: self.masked,
            ..self.sampler.times()
        }
    }

    /// Whether the token is the model's end of a text, which is then ended.
    pub fn is_end(&mut self, token: u32) -> bool {
        let is_end = self.eos_token_ids.contains(&token);
        if is_end {
            self.ended = Some(Ended::EndOfText);
        }
        is_end
    }

    /// Goes on with the token, and gives the text that can be printed now.
    pub fn take(&mut self, token: u32) -> GeneratedToken {
        self.tokens.push(token);
        let text = self.text_of(token);
        if self.completes {
            self.ended.get_or_insert(Ended::GrammarComplete);
        }
        GeneratedToken {
            token,
            text,
            logprobs: self.logprobs.take(),
        }
    }

    fn text_of(&mut self, token: u32) -> String {
        let Some(detokenizer) = &mut self.detokenizer else {
            return String::new();
        };
        let emit = self.stop.push(&detokenizer.push(token));
        if emit.stopped.is_some() {
            self.ended = Some(Ended::StopString);
            self.stopped_by = emit.stopped;
        }
        emit.text
    }

    /// Text held back for a stop string or an unfinished character, once there is no more.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        if let Some(detokenizer) = &mut self.detokenizer {
            let last = detokenizer.finish();
            if self.ended != Some(Ended::StopString) {
                text.push_str(&self.stop.push(&last).text);
            }
        }
        if self.ended != Some(Ended::StopString) {
            text.push_str(&self.stop.finish());
        }
        text
    }

    /// The prompt and what was generated.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt_tokens..]
    }

    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The index of the stop string that ended it, if it was one.
    pub fn stopped_by(&self) -> Option<usize> {
        self.stopped_by
    }

    /// It ends here, for a reason that the maker of its passes has.
    pub fn end(&mut self, why: Ended) {
        self.ended = Some(why);
    }
}
