//! The `engine` binary: reads what was typed, lets the library do it, prints, and says by its
//! exit code how it went. Nothing here computes, and nothing here knows how weights move.

#[forbid(unsafe_code)]
mod args;
#[forbid(unsafe_code)]
mod commands;
#[forbid(unsafe_code)]
mod failure;
#[forbid(unsafe_code)]
mod grammar;
#[forbid(unsafe_code)]
mod interrupt;
mod out_of_memory;
#[forbid(unsafe_code)]
mod output;
#[forbid(unsafe_code)]
mod prompt;
#[forbid(unsafe_code)]
mod serve;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use failure::Failure;
use output::Console;

fn main() -> ExitCode {
    say_nothing_of_panics_that_become_errors();
    out_of_memory::map_what_is_large();
    out_of_memory::share_one_heap_if_limited();
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let forgotten = args::forgotten_text(std::env::args_os()).filter(|_| error.use_stderr());
        match forgotten {
            Some(told) => Cli::command().error(ErrorKind::InvalidValue, told).exit(),
            None => error.exit(),
        }
    });
    match interrupt::watch().and_then(|()| run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                Console::new(false).failure(&failure);
            }
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "profiling")]
        Command::Generate(args) => commands::spans::generate(*args),
        #[cfg(not(feature = "profiling"))]
        Command::Generate(args) => commands::generate::run(*args),
        Command::C2c(args) => commands::c2c::run(*args),
        Command::Chat(args) => commands::chat::run(*args),
        Command::Speak(args) => commands::speak::run(*args),
        Command::Serve(args) => commands::serve::run(*args),
        Command::Logits(args) => commands::logits::run(&args),
        Command::Perplexity(args) => commands::perplexity::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Tune(args) => commands::tune::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Diagnose(args) => commands::diagnose::run(&args),
        Command::Devices(args) => commands::devices::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Checksum(args) => commands::checksum::run(&args),
        Command::Synth(args) => commands::synth::run(&args),
        Command::Tokenize(args) => commands::tokenize::run(args),
        Command::Completions(args) => commands::completions::run(&args),
    }
}

/// Code of other crates may panic on a damaged file. Where that is caught, the error tells it.
fn say_nothing_of_panics_that_become_errors() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !engine::text::panics_are_errors() {
            usual(panic);
        }
    }));
}
