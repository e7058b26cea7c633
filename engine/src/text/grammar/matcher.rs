//! Where one sequence stands in its grammar: which tokens may come next, and whether it is complete.

use std::fmt;

use toktrie::SimpleVob;

use super::super::error::TextError;
use super::error::in_words;
use super::vocabulary::Vocabulary;

/// What the crate says where no token may come.
const NOTHING: &str = "NoExtensionBias";

/// Where one answer is in its grammar.
pub struct Matcher {
    inner: llguidance::Matcher,
    vocabulary: Vocabulary,
    /// The next mask, if it is known.
    next: Option<SimpleVob>,
    /// No token was taken yet.
    at_begin: bool,
}

impl Matcher {
    /// Fails where nothing can come.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        parser: llguidance::TokenParser,
    ) -> Result<Self, String> {
        let mut inner = llguidance::Matcher::new(Ok(parser));
        let mut next = inner
            .compute_mask()
            .map_err(|error| match in_words(&error) {
                reason if reason.contains(NOTHING) => {
                    "no text of this model's tokens satisfies it".to_owned()
                }
                reason => reason,
            })?;
        for &(spaced, rest) in vocabulary.first() {
            let allowed = spaced != rest && next.is_allowed(rest);
            next.set(spaced as usize, allowed);
        }
        Ok(Self {
            inner,
            vocabulary: vocabulary.clone(),
            next: Some(next),
            at_begin: true,
        })
    }

    /// Another one at the same place, which shares nothing with this one.
    pub fn fork(&self) -> Self {
        Self {
            inner: self.inner.deep_clone(),
            vocabulary: self.vocabulary.clone(),
            next: self.next.clone(),
            at_begin: self.at_begin,
        }
    }

    /// Takes the tokens that may not come out of the logits; `ends`: whether those that end a text
    /// may come where the grammar may end. A logit that is no number stays: it is to be reported.
    pub fn mask(&mut self, logits: &mut [f32], ends: bool) -> Result<(), TextError> {
        let expected = self.vocabulary.logits();
        if logits.len() != expected {
            let got = logits.len();
            return Err(TextError::LogitsLength { expected, got });
        }
        if self.next.is_none() {
            let mask = self.inner.compute_mask();
            self.next = Some(mask.map_err(|error| lost(&error))?);
        }
        let Some(mask) = &mut self.next else {
            return Ok(());
        };
        if !ends {
            for &end in self.vocabulary.ends() {
                mask.disallow_token(end);
            }
        }
        for (chunk, &word) in logits.chunks_mut(32).zip(mask.as_slice()) {
            match word {
                u32::MAX => {}
                0 => chunk.iter_mut().for_each(forbid),
                _ => {
                    let forbidden = |bit: &(u32, &mut f32)| word >> bit.0 & 1 == 0;
                    let bits = (0..).zip(chunk.iter_mut()).filter(forbidden);
                    bits.for_each(|(_, logit)| forbid(logit));
                }
            }
        }
        Ok(())
    }

    /// Goes on with a token that may come, and is not an end of a text. `true`: the grammar is
    /// complete, and nothing can follow.
    pub fn take(&mut self, token: u32) -> Result<bool, TextError> {
        let first = match self.at_begin {
            true => self.vocabulary.first(),
            false => &[],
        };
        let token = match first.binary_search_by_key(&token, |&(spaced, _)| spaced) {
            Ok(at) => first[at].1,
            Err(_) => token,
        };
        (self.next, self.at_begin) = (None, false);
        let taken = self.inner.consume_token(token);
        taken.map_err(|error| lost(&error))?;
        Ok(self.inner.is_stopped())
    }

    /// Whether the text so far satisfies the grammar.
    pub fn may_end(&mut self) -> bool {
        self.inner.is_accepting().unwrap_or(false)
    }
}

fn forbid(logit: &mut f32) {
    if logit.is_finite() {
        *logit = f32::NEG_INFINITY;
    }
}

fn lost(error: &impl fmt::Display) -> TextError {
    let reason = match in_words(error) {
        reason if reason.contains(NOTHING) => "no token of the model goes on with it".to_owned(),
        reason => reason,
    };
    TextError::GrammarLost { reason }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("at_begin", &self.at_begin)
            .finish_non_exhaustive()
    }
}
