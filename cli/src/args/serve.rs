//! `engine serve`: who may come, how many at once, and how the model runs.

use std::time::Duration;

use clap::Args;
use engine::{ModelOptions, ScheduleOptions};

use super::count::{at_least_one, few, tokens};
use super::size::Size;
use super::{DrawArgs, SetupArgs};

/// Some ten thousand tokens of a small model.
const KEPT_BYTES_MOST: u64 = 1 << 30;

/// Rows of prompts that a pass has room for: more are no faster, and take memory.
const CHUNK_ROWS_MOST: usize = 2048;

/// A day is long enough for any stream.
const DRAIN_SECONDS_MAX: u64 = 86_400;

const EXAMPLES: &str = "\
Examples:
  engine serve
  engine serve --model DIR --memory 6GiB --parallel 8 --context 16384 --alias my-model
  ENGINE_API_KEY=secret engine serve --model DIR --host 0.0.0.0 --allow-host box.example
  curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is a bus?\"}], \"stream\": true}'

A client sets its base URL to http://127.0.0.1:8080/v1. Any model name is answered. /openapi.json
describes every route, /metrics is for Prometheus, and / is a page to chat with.";

/// Answer requests over HTTP, several at once over one ring of layers
///
/// Speaks the APIs that chat clients, editors and agents have: chat completions, completions,
/// responses and messages. Sequences that run together share each visit of a layer, so streamed
/// weights cross the link once for all of them. It listens at once and loads meanwhile; SIGTERM or
/// Ctrl-C lets answers under way end.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "Examples: engine serve --help")]
pub struct ServeArgs {
    #[command(flatten)]
    pub setup: SetupArgs,
    #[command(flatten)]
    pub listen: ListenArgs,
    #[command(flatten)]
    pub sharing: SharingArgs,
    // No seed: without one of its own, every request draws otherwise.
    #[command(
        flatten,
        next_help_heading = "Sampling, where a request does not say (defaults: generation_config.json where it samples, else greedy)"
    )]
    pub draw: DrawArgs,
    /// Nothing on stderr but errors and where it listens
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenArgs {
    /// Address or name to listen on; 0.0.0.0 and :: are every address of this machine
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// The key that clients must send, as `Authorization: Bearer KEY` or `x-api-key: KEY`
    /// [default: ENGINE_API_KEY, if set]
    ///
    /// Others on this machine can see what was typed: the environment variable is the better place.
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// A name that clients may call this server by in their Host header; may be given several times
    ///
    /// Addresses, localhost and what --host says are always fine. Others are refused, so that no
    /// page can have its name point here.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// An origin whose pages may call this server, like https://chat.example; may be given several
    /// times; * is any
    #[arg(long, value_name = "ORIGIN")]
    pub cors: Vec<String>,
    /// What the model is called [default: the name of its directory or file]
    #[arg(long, value_name = "NAME")]
    pub alias: Option<String>,
    /// Refuse requests with fields that this server does not know, instead of naming the fields in
    /// the header x-engine-ignored
    #[arg(long)]
    pub strict: bool,
    /// Show figures of /metrics a second time, under the names that vLLM has for them
    ///
    /// For routers and scalers that look for those names: docs/serve.md has which.
    #[arg(long)]
    pub vllm_metrics: bool,
    /// The largest body of a request that is read
    #[arg(long, value_name = "SIZE", default_value = "32MiB")]
    pub body_limit: Size,
    /// How long answers under way may go on after SIGTERM or Ctrl-C, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=DRAIN_SECONDS_MAX))]
    drain: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sharing")]
pub struct SharingArgs {
    /// Answers that are computed together, each with a context of its own
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = few)]
    pub parallel: usize,
    /// Answers that may wait for their turn; one more is told to come back later (429)
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = tokens)]
    pub queue: usize,
    /// Tokens of a prompt that are read in one pass, beside the next tokens of those that run
    /// [default: as many as take 200 ms]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub prefill_chunk: Option<usize>,
    /// Positions that all answers share; one alone may have all of --context. Where they run out,
    /// the youngest answer waits and is computed again [default: --parallel times --context]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    pub kv_tokens: Option<usize>,
    /// Memory for the states of conversations that are over, so that their next turn begins there;
    /// the plan counts it [default: an eighth of the memory there is, and 1 GiB at most]
    #[arg(long, value_name = "SIZE")]
    pub cache_memory: Option<Size>,
    /// Read every prompt whole, whatever was seen of it before
    ///
    /// What was seen may have been computed as a prompt or token by token, which may differ in the
    /// last bit: with this, an answer is the same bits whatever came before it.
    #[arg(long, conflicts_with = "cache_memory")]
    pub no_reuse: bool,
}

impl SharingArgs {
    /// How the model is opened and its passes are shared. `memory_bytes`: what there is.
    pub fn apply(&self, options: &mut ModelOptions, memory_bytes: Option<u64>) -> ScheduleOptions {
        let kept_bytes = match (self.no_reuse, self.cache_memory) {
            (true, _) => 0,
            (false, Some(Size(bytes))) => bytes,
            (false, None) => memory_bytes.unwrap_or(0).min(8 * KEPT_BYTES_MOST) / 8,
        };
        options.sequences = self.parallel;
        options.logit_rows = self.parallel;
        options.positions = self.kv_tokens;
        options.kept_bytes = kept_bytes;
        options.prompt_rows = Some(self.prefill_chunk.unwrap_or(CHUNK_ROWS_MOST));
        ScheduleOptions {
            chunk: self.prefill_chunk,
            kept_bytes,
            reuse: !self.no_reuse,
        }
    }
}

impl ListenArgs {
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain)
    }
}
