//! `engine synth`.

use std::time::Instant;

use loader::Error;
use loader::synth::partial_path;

use crate::args::SynthArgs;
use crate::failure::Failure;
use crate::output::{Bar, Console, PartFolder, gigabytes, seconds};

pub fn run(args: &SynthArgs) -> Result<(), Failure> {
    let console = Console::new(args.quiet);
    let spec = args.spec().map_err(Failure::Sizes)?;
    let started = Instant::now();
    let mut bar = None;
    let mut bytes = 0;
    let _removed_if_interrupted = partial_path(&args.dir).map(PartFolder::announce);
    let written = loader::synth::write(&args.dir, &spec, &mut |done, total| {
        let bar = bar.get_or_insert_with(|| Bar::new(&console, "writing", total));
        bar.set(done);
        bytes = done;
    });
    drop(bar);
    written.map_err(|error| match error {
        Error::Field { .. } | Error::FieldMissing { .. } | Error::Unsupported { .. } => {
            Failure::Sizes(error)
        }
        error => Failure::Synth(error),
    })?;
    let time = started.elapsed();
    console.say(format_args!(
        "Wrote {} to {} in {} ({:.2} GB/s)",
        gigabytes(bytes),
        args.dir.display(),
        seconds(time),
        bytes as f64 / time.as_secs_f64() / 1e9,
    ));
    Ok(())
}
