//! `engine logits`.

use engine::{Blueprint, Model};
use serde::Serialize;

use super::generate::prompt_bar;
use super::preface;
use crate::args::{LogitsArgs, PromptInput};
use crate::failure::Failure;
use crate::output::{Bar, Console, Stdout};
use crate::prompt;

#[derive(Debug, Serialize)]
struct Logits<'a> {
    tokens: &'a [u32],
    logits: &'a [f32],
}

pub fn run(args: &LogitsArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    let blueprint = Blueprint::new(&args.setup.source(), args.setup.options())?;
    preface::note(args.setup.idle(&blueprint.plan)?.as_ref(), &console);
    let input = PromptInput::Tokens(args.prompt_tokens.clone());
    let tokens = prompt::tokens(input, &blueprint, &console)?;
    let bar = Bar::new(&console, "loading", Model::bytes_to_load(&blueprint)?);
    let mut model = Model::load(blueprint, &mut |bytes| bar.add(bytes))?;
    drop(bar);
    if let Some(gbps) = model.blueprint().link.emulated_gbps {
        console.say(format_args!("note: over an emulated link of {gbps} GB/s"));
    }
    let mut session = model.session()?;
    let bar = prompt_bar(&session, tokens.len(), &console);
    session.pass(&tokens)?;
    drop(bar);
    Stdout::lock().json(&Logits {
        tokens: &tokens,
        logits: session.logits(),
    })
}
