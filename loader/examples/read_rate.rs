//! How fast blocks come from disk: `read_rate DIR [PRESET]` makes the checkpoint if it is not
//! there and reads every block through each kind of access.

use std::path::Path;
use std::time::{Duration, Instant};

use loader::synth::{self, SynthSpec};
use loader::{Access, AlignedBuf, Arrangement, BlockSource, Checkpoint, Error};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = args.first().map_or("bench-1.3b", String::as_str);
    let preset = args.get(1).map_or("bench-1.3b", String::as_str);
    if let Err(error) = run(Path::new(dir), preset) {
        eprintln!("error: {error}");
        if let Some(hint) = error.hint() {
            eprintln!("hint: {hint}");
        }
        std::process::exit(1);
    }
}

fn run(dir: &Path, preset: &str) -> Result<(), Error> {
    if !dir.exists() {
        let spec = SynthSpec::preset(preset)?;
        let start = Instant::now();
        synth::write(dir, &spec, &mut |_, _| {})?;
        report("written", spec.weight_bytes(), start.elapsed());
    }
    let start = Instant::now();
    let checkpoint = Checkpoint::open(dir)?;
    println!(
        "{:<10} {:>8.1} ms",
        "opened",
        start.elapsed().as_secs_f64() * 1e3
    );
    let rate = loader::measure_read_gbps(&checkpoint, Duration::from_secs(3))?;
    println!("{:<10} {:>8.2} GB/s, {}", "ceiling", rate.gbps, rate.access);
    let blocks = (0..checkpoint.config.layers)
        .map(|layer| checkpoint.block(layer, None, Arrangement::Paged))
        .collect::<Result<Vec<_>, _>>()?;
    let slab_bytes = blocks.iter().map(BlockSource::slab_bytes).max();
    let mut slab = AlignedBuf::new(slab_bytes.unwrap_or(0));
    for (name, access) in [
        ("direct", Access::Direct),
        ("cold", Access::Buffered),
        ("cached", Access::Buffered),
    ] {
        let start = Instant::now();
        let mut bytes = 0;
        for source in &blocks {
            loader::read_block(checkpoint.sources(), source, slab.as_mut_slice(), access)?;
            bytes += source.stored_bytes();
        }
        report(name, bytes, start.elapsed());
    }
    Ok(())
}

fn report(what: &str, bytes: u64, time: Duration) {
    let gbps = bytes as f64 / 1e9 / time.as_secs_f64();
    println!("{what:<10} {gbps:>8.2} GB/s");
}
