//! `engine checksum`: sums the weights up, or holds them against what was summed up before.

use std::path::Path;
use std::time::Instant;

use engine::EngineError;
use loader::{CHECKSUM_ALGORITHM, Checkpoint, MANIFEST, Manifest, Mismatch};
use serde::Serialize;

use crate::args::ChecksumArgs;
use crate::failure::Failure;
use crate::output::{Bar, Console, Stdout, gigabytes, seconds, write_whole};

#[derive(Debug, Serialize)]
struct Json<'a> {
    file: &'a str,
    algorithm: &'static str,
    tensors: usize,
    bytes: u64,
    /// `null` when the file was written, not checked.
    mismatches: Option<&'a [Mismatch]>,
}

pub fn run(args: &ChecksumArgs) -> Result<(), Failure> {
    let console = Console::new(args.json);
    let checkpoint = Checkpoint::open(&args.dir).map_err(EngineError::from)?;
    let known = match args.check {
        true => Some(manifest(&checkpoint)?),
        false => None,
    };
    let started = Instant::now();
    let mut bytes = 0;
    let total = checkpoint.tensors().map(|(_, entry)| entry.bytes).sum();
    let bar = Bar::new(&console, "reading", total);
    let mut progress = |read| {
        bytes += read;
        bar.add(read);
    };
    let (manifest, mismatches) = match known {
        Some(manifest) => {
            let mismatches = manifest.mismatches(&checkpoint, &mut progress);
            (manifest, Some(mismatches.map_err(EngineError::from)?))
        }
        None => {
            let manifest = Manifest::of(&checkpoint, &mut progress).map_err(EngineError::from)?;
            write(&checkpoint, &manifest)?;
            (manifest, None)
        }
    };
    drop(bar);
    let file = checkpoint.display(MANIFEST);
    if args.json {
        Stdout::lock().json(&Json {
            file: &file,
            algorithm: CHECKSUM_ALGORITHM,
            tensors: manifest.tensors(),
            bytes,
            mismatches: mismatches.as_deref(),
        })?;
    }
    if let Some(Mismatch {
        file: shard,
        tensor,
        ..
    }) = mismatches.iter().flatten().next()
    {
        return Err(Failure::Differs {
            file,
            count: mismatches.as_ref().map_or(0, Vec::len),
            tensors: manifest.tensors(),
            first: format!("{tensor} in {shard}"),
        });
    }
    console.say(format_args!(
        "{} {file}: {} tensors, {} in {} ({CHECKSUM_ALGORITHM}: finds damage, but not a deliberate change)",
        if args.check { "As in" } else { "Wrote" },
        manifest.tensors(),
        gigabytes(bytes),
        seconds(started.elapsed()),
    ));
    Ok(())
}

fn manifest(checkpoint: &Checkpoint) -> Result<Manifest, Failure> {
    let manifest = Manifest::read(checkpoint).map_err(EngineError::from)?;
    manifest.ok_or_else(|| Failure::NoManifest {
        location: checkpoint.location().into(),
    })
}

fn write(checkpoint: &Checkpoint, manifest: &Manifest) -> Result<(), Failure> {
    let file = checkpoint.display(MANIFEST);
    let json = manifest.to_json().map_err(std::io::Error::from);
    let written = json.and_then(|json| write_whole(Path::new(&file), &json));
    written.map_err(|source| Failure::Write { file, source })
}
