//! `engine chat`: everything but the model itself.

use clap::Args;

use super::count::tokens;
use super::prompt::text;
use super::{SamplingArgs, SetupArgs};

const EXAMPLES: &str = "\
Examples:
  engine chat
  engine chat --model DIR --memory 6GiB --system 'Be brief.'
  engine chat --model DIR --temperature 0.7 --profile
  engine chat --model DIR --template-kwargs '{\"enable_thinking\": false}' --no-history
  printf 'What is a bus?\\nAnd a slow one?\\n' | engine chat --model DIR --max-new-tokens 60 --quiet

In a conversation, /help lists the commands. Ctrl-C stops an answer, Ctrl-D leaves. Where stdin is
no terminal, each line is a message; answers go to stdout, and the first error ends the run.";

/// Talk with a model, with N layers resident and the others streamed
///
/// Reads messages, puts the conversation into the model's chat template, and streams the answers
/// to stdout. Of each turn only what is new is read by the model. Everything else goes to stderr.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "Examples: engine chat --help")]
pub struct TalkArgs {
    #[command(flatten)]
    pub conversation: ConversationArgs,
    #[command(flatten)]
    pub setup: SetupArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Conversation")]
pub struct ConversationArgs {
    /// A system message before the others
    #[arg(long, value_name = "TEXT")]
    #[arg(allow_hyphen_values = true, value_parser = text)]
    pub system: Option<String>,
    /// What the template finds beside the messages, as a JSON object: tools, documents,
    /// enable_thinking, reasoning_effort, or what else it asks for
    #[arg(long, value_name = "JSON")]
    pub template_kwargs: Option<String>,
    /// One of the model's chat templates [default: `tool_use` if there is one and tools are given,
    /// else `default`]
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// Stop an answer after this many tokens [default: when the context is full]
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    pub max_new_tokens: Option<usize>,
    /// Stop an answer before this text, which is not printed; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = text)]
    pub stop: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct ScreenArgs {
    /// Print after each answer where its time went, and what limits it
    #[arg(long)]
    pub profile: bool,
    /// Neither read nor write the file of what was typed before
    #[arg(long)]
    pub no_history: bool,
    /// Nothing on stderr but errors, and what was asked for
    #[arg(long, short)]
    pub quiet: bool,
}
