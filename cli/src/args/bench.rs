//! `engine bench`: prompts, repeats, and the two sides of a comparison.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};

use super::count::{at_least_one, decimal, streams, three_rounds, warmup};
use super::residency::Layers;
use super::{SayingArgs, SetupArgs};

/// After each prompt, where nothing was typed.
const TOKENS: usize = 32;

const EXAMPLES: &str = "\
Examples:
  engine bench
  engine bench --model DIR --num-gpu-layers 20 --tokens 64
  engine bench --num-gpu-layers 20 --compare '' '--no-prefetch'
  engine bench --model DIR --compare '--num-gpu-layers 12' '--num-gpu-layers 20'
  engine bench --model DIR --num-gpu-layers 0 --parallel 4
  engine bench --c2c BASE TEACHER FUSER --num-gpu-layers all
  engine bench --prompts prompts.txt --repeats 5 --save runs
  engine bench --model SPEAKS --speech texts.txt --num-gpu-layers all

A prompts file has one prompt a line, with a label and a tab before it if you like; empty lines
and lines that begin with # are skipped.

--compare takes two sets of flags, of what runs, not of what measures. Each is added to the rest of the command line, the two sides
run in turns, and the ratio is taken round by round; where the rounds disagree about which side is
faster, or differ by less than they scatter, the difference is called noise.";

/// Time a set of prompts, repeatedly, and compare flags
///
/// Every round opens the model once and continues each prompt; the first rounds warm up and are
/// not counted. Rates come with the share of the limit they are measured against.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "Examples: engine bench --help")]
pub struct BenchArgs {
    #[command(flatten)]
    pub setup: SetupArgs,
    /// A file of prompts, one a line [default: three texts of the program's own]
    #[arg(long, value_name = "FILE", help_heading = "Measuring")]
    pub prompts: Option<PathBuf>,
    /// Tokens to generate after each prompt; the model's end of text is ignored [default: 32]
    ///
    /// With --speech, as many frames of each text, whatever it says; by default as many as it takes.
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one, help_heading = "Measuring")]
    pub tokens: Option<usize>,
    /// Rounds that are not counted
    #[arg(
        long,
        value_name = "ROUNDS",
        default_value_t = 1,
        value_parser = warmup,
        help_heading = "Measuring"
    )]
    pub warmup: usize,
    /// Rounds that are counted: 3 or more
    #[arg(long, value_name = "ROUNDS", default_value_t = 3, value_parser = three_rounds, help_heading = "Measuring")]
    pub repeats: usize,
    /// Continue each prompt in this many sequences together as well, and compare with one
    #[arg(long, value_name = "STREAMS", value_parser = streams, help_heading = "Measuring")]
    pub parallel: Option<usize>,
    /// Run the base alone, the teacher alone and both with the fuser in turns, over prompts of 16, 128
    /// and 1024 tokens
    #[arg(long, num_args = 3, value_names = ["BASE", "TEACHER", "FUSER"], help_heading = "Measuring")]
    #[arg(conflicts_with_all = ["model", "prompts", "parallel", "compare", "save"])]
    pub c2c: Option<Vec<PathBuf>>,
    /// Speak texts from a file like that of --prompts, with a model that speaks
    #[arg(long, value_name = "FILE", help_heading = "Measuring")]
    #[arg(conflicts_with_all = ["prompts", "parallel", "compare", "save", "c2c"])]
    pub speech: Option<PathBuf>,
    /// With --speech, for VibeVoice: how much the prompt counts; several are measured in turns, and
    /// compared. 1 needs no second branch
    #[arg(long, value_name = "SCALE", num_args = 1.., value_parser = decimal, requires = "speech", help_heading = "Measuring")]
    pub cfg_scale: Vec<f32>,
    #[command(flatten)]
    pub saying: SayingArgs,
    /// With --c2c, the teacher's layers that stay resident: a number, auto or all [default: auto]
    #[arg(long, value_name = "M", requires = "c2c", help_heading = "Measuring")]
    pub teacher_gpu_layers: Option<Layers>,
    /// With --c2c, the projectors that stay resident: a number, auto or all [default: auto]
    #[arg(long, value_name = "P", requires = "c2c", help_heading = "Measuring")]
    pub projector_gpu_layers: Option<Layers>,
    /// Run two sets of flags in turns and print the ratio of B over A
    #[arg(long, num_args = 2, value_names = ["A", "B"], allow_hyphen_values = true, help_heading = "Measuring")]
    pub compare: Option<Vec<String>>,
    /// Keep the results in DIR/DATE-MACHINE, as text and as JSON
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub save: Option<PathBuf>,
    /// One JSON object on stdout instead of tables
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Nothing on stderr but errors
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

impl BenchArgs {
    /// After each prompt.
    pub fn tokens(&self) -> usize {
        self.tokens.unwrap_or(TOKENS)
    }
}

/// A command line of `bench`, without the program and the command.
#[derive(Debug, Parser)]
#[command(
    name = "engine bench",
    no_binary_name = true,
    args_override_self = true
)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

/// The flags of one side: those of the setup, and no other. What measures is shared.
#[derive(Debug, Parser)]
#[command(
    name = "engine bench --compare",
    no_binary_name = true,
    args_override_self = true
)]
struct Side {
    #[command(flatten)]
    _setup: SetupArgs,
}

/// The setup of one side: the command line without `--compare`, with the side's flags added.
/// What is typed twice counts as typed last, so a side may change what both would share.
pub fn side(typed: &[OsString], flags: &str) -> Result<SetupArgs, clap::Error> {
    let flags = shlex::split(flags).ok_or_else(|| {
        let text = format!("a quote in `{flags}` is not closed\n");
        clap::Error::raw(clap::error::ErrorKind::ValueValidation, text)
    })?;
    Side::try_parse_from(&flags)?;
    let compare = typed.iter().position(|word| word == "--compare");
    let shared = typed.iter().enumerate().filter_map(|(index, word)| {
        let compared = compare.is_some_and(|at| (at..at + 3).contains(&index));
        (!compared).then(|| word.clone())
    });
    let line = shared.chain(flags.into_iter().map(OsString::from));
    Ok(Line::try_parse_from(line)?.bench.setup)
}

#[cfg(test)]
mod tests {
    use offload::{Prefetch, Residency};

    use super::*;

    fn typed(line: &str) -> Vec<OsString> {
        shlex::split(line)
            .unwrap()
            .into_iter()
            .map(OsString::from)
            .collect()
    }

    #[test]
    fn a_side_is_the_command_line_with_its_flags() {
        let typed = typed("--slots 3 --num-gpu-layers 4 --compare '--no-prefetch' '' --tokens 9");
        let a = side(&typed, "--no-prefetch").unwrap().options();
        let b = side(&typed, "--num-gpu-layers 7").unwrap().options();
        assert_eq!((a.slots, a.residency), (Some(3), Residency::Layers(4)));
        assert_eq!(
            (a.prefetch, b.prefetch),
            (Prefetch::AtNeed, Prefetch::Ahead)
        );
        assert_eq!((b.slots, b.residency), (Some(3), Residency::Layers(7)));
    }

    #[test]
    fn a_side_that_makes_no_sense_is_refused() {
        assert!(side(&typed("--tokens 9"), "--num-gpu-layer 7").is_err());
        assert!(side(&typed("--num-gpu-layers 4"), "--no-offload").is_err());
        assert!(side(&[], "'open").is_err());
        for shared in [
            "--tokens 16",
            "--repeats 5",
            "--parallel 2",
            "--json",
            "--save x",
        ] {
            let refused = side(&typed("--num-gpu-layers 4"), shared).unwrap_err();
            let flag = shared.split(' ').next().unwrap();
            assert!(refused.to_string().contains(flag), "{refused}");
        }
    }
}
