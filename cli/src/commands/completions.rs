//! `engine completions`.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::failure::Failure;
use crate::output::Stdout;

pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "engine", &mut script);
    Stdout::lock().show(String::from_utf8_lossy(&script))
}
