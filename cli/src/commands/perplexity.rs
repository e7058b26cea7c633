//! `engine perplexity`.

use engine::{Blueprint, EngineError, Model, Prompter, Scored, Windows, perplexity};
use serde::Serialize;

use super::preface;
use crate::args::{PerplexityArgs, PromptInput};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Bar, Console, Stdout, Steps, three_digits};
use crate::prompt;

/// Rows whose logits are computed together: enough to read the head seldom.
const LOGIT_ROWS: usize = 32;

/// Tokens of a text at most. What is longer takes days.
const TOKENS_MAX: usize = 1 << 24;

#[derive(Debug, Serialize)]
struct Json<'a> {
    model: &'a str,
    perplexity: f64,
    standard_error: f64,
    /// Mean of the negative logarithms.
    nll: f64,
    text_tokens: usize,
    scored_tokens: usize,
    window: usize,
    stride: usize,
    windows: usize,
    passed_tokens: usize,
    seconds: f64,
    tokens_per_s: f64,
    /// It was ended before all of the text was scored.
    interrupted: bool,
}

pub fn run(args: &PerplexityArgs) -> Result<(), Failure> {
    let console = Console::new(args.quiet);
    let mut options = args.setup.options();
    options.logit_rows = LOGIT_ROWS;
    options.context = options.context.or(args.window);
    let blueprint = Blueprint::new(&args.setup.source(), options)?;
    let idle = args.setup.idle(&blueprint.plan)?;
    let window = args.window.unwrap_or(blueprint.context);
    if window > blueprint.context {
        return Err(EngineError::PromptTooLong {
            prompt: window,
            context: blueprint.context,
        }
        .into());
    }
    let windows = Windows {
        window,
        stride: args.stride.unwrap_or((window / 2).max(1)),
    };
    let tokens = match args.input() {
        PromptInput::Tokens(tokens) => tokens,
        PromptInput::Text(text, chat) => {
            let prompter = Prompter::new(&blueprint.checkpoint, blueprint.tokenizer()?, TOKENS_MAX);
            prompt::encode(text, chat, true, &prompter, &console)?.ids
        }
    };
    blueprint.check_vocabulary(&tokens)?;
    windows.check(tokens.len())?;
    preface::print(&blueprint, idle.as_ref(), &console);
    let count = windows.count(tokens.len());
    console.say(format_args!(
        "Text:        {} tokens in {count} window{} of {window}, {} apart",
        tokens.len(),
        if count == 1 { "" } else { "s" },
        windows.stride,
    ));
    let bar = Bar::new(&console, "loading", Model::bytes_to_load(&blueprint)?);
    // Never dropped: the process ends with this command, and must not wait for a read under way.
    let model = Box::leak(Box::new(Model::load(blueprint, &mut |bytes| {
        bar.add(bytes)
    })?));
    drop(bar);
    let name = model.blueprint().checkpoint.location().to_owned();
    let mut session = model.session()?;
    session.cancel_with(interrupt::flag());
    let steps = Steps::new(&console, count);
    steps.next("perplexity");
    let mut last = None;
    let ran = perplexity(&mut session, &tokens, windows, &mut |scored| {
        last = Some(*scored);
        if scored.windows < count {
            steps.next(told(scored));
        }
    });
    drop(steps);
    let interrupted = matches!(ran, Err(EngineError::Interrupted));
    let scored = match (ran, last) {
        (Ok(scored), _) => scored,
        // What was scored is shown, whatever then went wrong.
        (Err(EngineError::Interrupted), Some(scored)) => scored,
        (Err(EngineError::Interrupted), None) => {
            console.say("interrupted before a window was scored");
            return Err(Failure::Interrupted);
        }
        (Err(error), _) => return Err(error.into()),
    };
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&Json {
            model: &name,
            perplexity: scored.perplexity(),
            standard_error: scored.error(),
            nll: scored.mean(),
            text_tokens: tokens.len(),
            scored_tokens: scored.tokens,
            window,
            stride: windows.stride,
            windows: scored.windows,
            passed_tokens: scored.rows,
            seconds: scored.time.as_secs_f64(),
            tokens_per_s: scored.tokens_per_s(),
            interrupted,
        })?,
        false => out.show(format_args!(
            "Perplexity: {:.4} +/- {:.4} over {} tokens in {}, {} tok/s\n",
            scored.perplexity(),
            scored.error(),
            scored.tokens,
            match (scored.windows, count) {
                (1, 1) => "1 window".to_owned(),
                (done, all) if done == all => format!("{all} windows"),
                (done, all) => format!("the first {done} of {all} windows"),
            },
            three_digits(scored.tokens_per_s()),
        ))?,
    }
    match interrupted {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

/// How far it is.
fn told(scored: &Scored) -> String {
    format!(
        "perplexity {:.4}, {} tok/s",
        scored.perplexity(),
        three_digits(scored.tokens_per_s())
    )
}
