//! `engine generate --spans FILE`: the raw tracing spans of a run, kept by `tracing-chrome`. The
//! file is finished when the run is over, however it ended, and is whole or absent.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_chrome::ChromeLayerBuilder;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    let failed = |source| failed(&path, source);
    try_place(&path).map_err(failed)?;
    let console = Console::new(args.output.quiet);
    let mut ran = Ok(());
    let written = build_whole(&path, |file| {
        record(file.get_ref().try_clone()?, || ran = generate::run(args))
    });
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

fn record(file: File, run: impl FnOnce()) -> io::Result<()> {
    let to = Shared {
        file,
        failed: Arc::default(),
    };
    let first_error = Arc::clone(&to.failed);
    let (layer, writing) = ChromeLayerBuilder::new()
        .writer(to)
        .include_args(true)
        .include_locations(false)
        .build();
    Registry::default()
        .with(layer)
        .try_init()
        .map_err(io::Error::other)?;
    run();
    // Ends the list and waits for the last byte.
    drop(writing);
    let mut failed = first_error.lock().unwrap_or_else(PoisonError::into_inner);
    failed.take().map_or(Ok(()), Err)
}

/// A file that keeps its first error for whoever asks later: the thread that writes the trace
/// would panic over it.
#[derive(Debug)]
struct Shared {
    file: File,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Shared {
    fn keep(&self, result: io::Result<()>) {
        if let Err(error) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_all(bytes);
        self.keep(written);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.keep(flushed);
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> Failure {
    let file = path.display().to_string();
    Failure::Write { file, source }
}
