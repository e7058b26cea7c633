//! Text in, text out: tokens, chat templates, sampling, and what may be printed when.
//! Everything here is a pure function of its inputs (the one exception is the date a
//! template may ask for). It must not know tensors, devices, checkpoints or offloading.

pub mod chat;
pub mod detokenize;
pub mod error;
pub mod grammar;
pub mod logprobs;
pub mod reply;
pub mod sampler;
pub mod special;
pub mod stop;
pub mod tokenizer;

mod guard;
mod python;
pub(crate) mod random;

pub use chat::{Chat, ChatTemplate, Message};
pub use detokenize::Detokenizer;
pub use error::TextError;
pub use grammar::{Grammar, Matcher, Rule, Vocabulary};
pub use guard::panics_are_errors;
pub use logprobs::{LikelyTokens, Logprob, Logprobs};
pub use python::{date_and_time, today};
pub use reply::{Reply, Said, Style, TextWish, ToolWish, Wish};
pub use sampler::{Candidates, NeedsAll, Ranked, Sampler, Sampling, Times, Wanted};
pub use special::{AddedToken, SpecialTokens};
pub use stop::{Emit, StopStrings};
pub use tokenizer::Tokenizer;
