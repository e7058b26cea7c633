//! `engine generate --spans FILE`: the raw tracing spans of a run, kept in memory and written when
//! it is over, however it ended. The file is whole or absent.

use std::io;

use engine::profile::SpanLog;

use crate::args::GenerateArgs;
use crate::commands::generate;
use crate::failure::{Failure, Usage};
use crate::output::{Console, build_whole, gigabytes, try_place};

/// [`generate::run`], recorded where that was asked for.
pub fn generate(mut args: GenerateArgs) -> Result<(), Failure> {
    let Some(path) = args.files.spans.take() else {
        return generate::run(args);
    };
    if args.files.wanted().iter().any(|(_, other)| *other == path) {
        return Err(Usage::SameFile { path }.into());
    }
    let failed = |source| Failure::not_written(&path, source);
    try_place(&path).map_err(failed)?;
    let console = Console::new(args.output.quiet);
    let spans = SpanLog::install()
        .map_err(io::Error::other)
        .map_err(failed)?;
    let ran = generate::run(args);
    let written = build_whole(&path, |to| spans.write_chrome(to));
    let written = written.map_err(failed).map(|bytes| {
        console.say(format_args!(
            "Wrote {} ({}), to be opened in ui.perfetto.dev",
            path.display(),
            gigabytes(bytes)
        ));
    });
    if let (Err(_), Err(failure)) = (&ran, &written) {
        // Two things went wrong: the run's is the exit code, and both are told.
        console.failure(failure);
    }
    ran.and(written)
}
