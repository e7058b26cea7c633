//! `engine synth`.

use std::time::Instant;

use engine::EngineError;
use loader::synth::{FuserSpec, partial_path};
use loader::{Checkpoint, DType, Error};

use crate::args::{Speaking, SynthArgs};
use crate::failure::Failure;
use crate::output::{Bar, Console, PartFolder, gigabytes, seconds};

pub fn run(args: &SynthArgs) -> Result<(), Failure> {
    let console = Console::new(args.quiet);
    let write = writer(args)?;
    let started = Instant::now();
    let mut bar = None;
    let mut bytes = 0;
    let _removed_if_interrupted = partial_path(&args.dir).map(PartFolder::announce);
    let written = write(&mut |done, total| {
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

type Writer<'a> = Box<dyn Fn(&mut dyn FnMut(u64, u64)) -> Result<(), Error> + 'a>;

/// What writes that which was asked for.
fn writer(args: &SynthArgs) -> Result<Writer<'_>, Failure> {
    let dir = &args.dir;
    if let Some(speaking) = args.speaking() {
        args.refuse_sizes()?;
        return Ok(match speaking {
            Speaking::VibeVoice(spec) => {
                Box::new(move |progress| loader::synth::write_vibevoice(dir, &spec, progress))
            }
            Speaking::Qwen3Tts(spec) => {
                Box::new(move |progress| loader::synth::write_qwen3_tts(dir, &spec, progress))
            }
        });
    }
    let Some([base, teacher]) = args.fuser.as_deref() else {
        let spec = args.spec().map_err(Failure::Sizes)?;
        return Ok(Box::new(move |progress| {
            loader::synth::write(dir, &spec, progress)
        }));
    };
    let open =
        |path| Checkpoint::open(path).map_err(|error| Failure::from(EngineError::from(error)));
    let (base, teacher) = (open(base)?, open(teacher)?);
    let spec = FuserSpec::between(&base.config, &teacher.config)
        .with_dtype(args.dtype.unwrap_or(DType::Bf16))
        .with_seed(args.seed);
    Ok(Box::new(move |progress| {
        loader::synth::write_fuser(dir, &spec, progress)
    }))
}
