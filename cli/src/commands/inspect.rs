//! `engine inspect`: what a checkpoint holds, or why it cannot be run.

mod mix;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use engine::kernels::{CacheType, LayerCache};
use engine::text::Tokenizer;
use engine::{Blocks, EngineError, Source};
use loader::{Checkpoint, RopeScaling};
use mix::Mix;
use serde::Serialize;

use super::unread::{self, UnreadTensors};
use crate::args::InspectArgs;
use crate::failure::Failure;
use crate::output::{Align, Stdout, Table, gigabytes, memory, short_count};

#[derive(Debug, Serialize)]
struct Inspection {
    model: String,
    supported: bool,
    family: &'static str,
    dtype: &'static str,
    /// Encodings of what the model reads; the largest share comes first.
    encodings: Vec<Share>,
    /// Where layers are not all alike.
    mixes: Vec<Mix>,
    parameters: u64,
    tensors: usize,
    /// Those of them that the model does not read.
    unread: Vec<UnreadTensors>,
    unread_files: Vec<String>,
    files: Vec<File>,
    layers: usize,
    /// Bytes of the largest layer.
    layer_bytes: usize,
    hidden_size: usize,
    intermediate_size: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab_size: usize,
    max_positions: usize,
    tied_embeddings: bool,
    rope: String,
    window: Option<usize>,
    /// Bytes in f32, as this engine keeps it on the host unless `--cache-type` says something else.
    kv_cache_bytes_per_token: usize,
    access: &'static str,
    tokenizer_tokens: Option<usize>,
    tokenizer_kind: Option<String>,
    chat_template: bool,
    /// What works only in part, in words.
    problems: Vec<String>,
}

/// The weights in one number format.
#[derive(Debug, Serialize)]
struct Share {
    encoding: &'static str,
    bytes: u64,
    /// Its share of the bytes of all weights.
    share: f64,
}

#[derive(Debug, Serialize)]
struct File {
    name: String,
    bytes: u64,
}

/// The same door for programs when there is nothing to describe.
#[derive(Debug, Serialize)]
struct Unsupported<'a> {
    model: &'a str,
    supported: bool,
    error: String,
    hint: Option<String>,
}

pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let mut out = Stdout::lock();
    let source = match &args.model {
        Some(dir) => Source::Directory(dir.clone()),
        None => Source::Demo,
    };
    let checkpoint = match source.open() {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            if args.json {
                let model = args.model.as_deref().map(|dir| dir.display().to_string());
                out.json(&Unsupported {
                    model: model.as_deref().unwrap_or("the demo model"),
                    supported: false,
                    error: error.to_string(),
                    hint: error.hint(),
                })?;
            }
            return Err(Failure::Inspect(error));
        }
    };
    let inspection = inspect(&checkpoint);
    match args.json {
        true => out.json(&inspection),
        false => out.show(format_args!("{}\n", text(&inspection))),
    }
}

fn inspect(checkpoint: &Checkpoint) -> Inspection {
    let config = &checkpoint.config;
    let mut problems = Vec::new();
    let mut note = |error: EngineError| problems.push(error.to_string());
    let layer_bytes = match Blocks::of(checkpoint, None) {
        Ok(blocks) => blocks.largest_bytes(),
        Err(error) => {
            note(error.into());
            0
        }
    };
    let tokenizer = engine::tokenizer_of(checkpoint).unwrap_or_else(|error| {
        note(error);
        None
    });
    let tokenizer_kind = tokenizer.as_ref().map(|it| kind(checkpoint, it));
    let tokenizer_tokens = tokenizer.map(|tokenizer| tokenizer.vocab_size());
    let chat_template = match chat_template(checkpoint) {
        Ok(found) => found,
        Err(error) => {
            note(error);
            false
        }
    };
    // Those of the model: a vision tower beside it is none of it, nor a second copy of the head.
    let parameters = checkpoint
        .tensors()
        .filter(|(name, _)| checkpoint.purpose(name).is_none())
        .map(|(_, entry)| entry.shape.iter().product::<u64>());
    let files = checkpoint.sources().iter().map(|source| File {
        name: source.name().to_owned(),
        bytes: source.len(),
    });
    Inspection {
        model: checkpoint.location().to_owned(),
        supported: true,
        family: config.family.name,
        dtype: checkpoint.encoding().name(),
        encodings: encodings(checkpoint),
        mixes: mix::of(checkpoint),
        parameters: parameters.sum(),
        tensors: checkpoint.tensors().count(),
        unread: unread::of(checkpoint),
        unread_files: checkpoint.unread_files(),
        files: files.collect(),
        layers: config.layers,
        layer_bytes,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        vocab_size: config.vocab_size,
        max_positions: config.max_positions,
        tied_embeddings: config.tied_embeddings,
        rope: rope(checkpoint),
        window: (0..config.layers).find_map(|layer| config.window(layer)),
        kv_cache_bytes_per_token: LayerCache::position_bytes(
            CacheType::F32,
            config.kv_heads,
            config.head_dim,
        ) * config.layers,
        access: checkpoint.access_report().name(),
        tokenizer_tokens,
        tokenizer_kind,
        chat_template,
        problems,
    }
}

fn encodings(checkpoint: &Checkpoint) -> Vec<Share> {
    let mut bytes_of: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (name, entry) in checkpoint.tensors() {
        if let (None, Some(encoding)) = (checkpoint.purpose(name), entry.encoding()) {
            *bytes_of.entry(encoding.name()).or_default() += entry.bytes;
        }
    }
    let all: u64 = bytes_of.values().sum();
    let share = |(encoding, bytes): (&'static str, u64)| Share {
        encoding,
        bytes,
        share: bytes as f64 / all.max(1) as f64,
    };
    let mut shares: Vec<Share> = bytes_of.into_iter().map(share).collect();
    shares.sort_by_key(|share| Reverse(share.bytes));
    shares
}

/// The kind of a vocabulary; in a GGUF file as the file calls it.
fn kind(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> String {
    match checkpoint.gguf_tokenizer() {
        Ok(Some(found)) => match (found.model.as_str(), found.pre) {
            ("gpt2", None) => "gpt2, words cut as by default".into(),
            ("gpt2", Some(pre)) => format!("gpt2, words cut as {pre} does"),
            (model, _) => model.into(),
        },
        _ => tokenizer.kind().into(),
    }
}

fn chat_template(checkpoint: &Checkpoint) -> Result<bool, EngineError> {
    let names = checkpoint.chat_template_names()?;
    for name in &names {
        engine::chat_template_of(checkpoint, Some(name), false)?;
    }
    Ok(!names.is_empty())
}

fn rope(checkpoint: &Checkpoint) -> String {
    let rope = &checkpoint.config.rope;
    let divided = match rope.divisors {
        Some(_) => ", each frequency divided by a number of its own",
        None => "",
    };
    let scaled = match &rope.scaling {
        RopeScaling::None => format!("theta {}", rope.theta),
        RopeScaling::Linear { factor } => format!("theta {}, linear x {factor}", rope.theta),
        RopeScaling::Llama3 { factor, .. } => format!("theta {}, llama3 x {factor}", rope.theta),
        RopeScaling::LongRope {
            original_max_positions,
            ..
        } => format!(
            "theta {}, longrope (short factors up to a context of {original_max_positions}, long \
             ones beyond)",
            rope.theta
        ),
    };
    scaled + divided
}

fn text(found: &Inspection) -> String {
    let mut table = Table::new(&[Align::Left, Align::Left], 0);
    let mut line = |name: &str, value: String| table.row([name.to_owned(), value]);
    line("model", found.model.clone());
    line("family", found.family.into());
    line(
        "parameters",
        format!("{} in {}", short_count(found.parameters), found.dtype),
    );
    if let [_, _, ..] = found.encodings[..] {
        let shares = found.encodings.iter().map(|it| {
            let percent = 100.0 * it.share;
            format!("{} {percent:.1} %", it.encoding)
        });
        line("bytes in", shares.collect::<Vec<_>>().join(", "));
    }
    let up_to = match found.mixes[..] {
        [] => "",
        _ => "up to ",
    };
    let layer = memory(found.layer_bytes as u64);
    line("layers", format!("{} of {up_to}{layer}", found.layers));
    for (index, mix) in found.mixes.iter().take(mix::SHOWN_MAX).enumerate() {
        let name = if index == 0 { "layers differ" } else { "" };
        line(name, mix.to_string());
    }
    if let Some(more @ 1..) = found.mixes.len().checked_sub(mix::SHOWN_MAX) {
        line("", format!("and {more} mixes more"));
    }
    line("hidden", found.hidden_size.to_string());
    line("intermediate", found.intermediate_size.to_string());
    line(
        "attention",
        format!(
            "{} heads of {}, {} of keys and values{}",
            found.heads,
            found.head_dim,
            found.kv_heads,
            match found.window {
                Some(window) => format!(", window {window}"),
                None => String::new(),
            }
        ),
    );
    let tied = if found.tied_embeddings {
        ", embedding tied to the head"
    } else {
        ""
    };
    line("vocabulary", format!("{} tokens{tied}", found.vocab_size));
    line(
        "positions",
        format!("{}, rope {}", found.max_positions, found.rope),
    );
    line(
        "KV cache",
        format!(
            "{} a token in f32, half of it with --cache-type f16 or bf16",
            memory(found.kv_cache_bytes_per_token as u64)
        ),
    );
    line("tensors", found.tensors.to_string());
    for (index, unread) in found.unread.iter().enumerate() {
        let name = if index == 0 { "not read" } else { "" };
        line(name, unread.to_string());
    }
    if let Some(files) = unread::files_line(&found.unread_files) {
        let name = if found.unread.is_empty() {
            "not read"
        } else {
            ""
        };
        line(name, files);
    }
    for (index, file) in found.files.iter().enumerate() {
        let name = if index == 0 { "files" } else { "" };
        line(name, format!("{}, {}", file.name, gigabytes(file.bytes)));
    }
    line("read by", found.access.into());
    let kind = found.tokenizer_kind.iter();
    let kind: String = kind.map(|kind| format!("; {kind}")).collect();
    line(
        "tokenizer",
        match found.tokenizer_tokens {
            Some(tokens) if tokens > found.vocab_size => format!(
                "{tokens} tokens, of which the embedding has rows for {}{kind}",
                found.vocab_size
            ),
            Some(tokens) => format!("{tokens} tokens{kind}"),
            None => "none: use --prompt-tokens".into(),
        },
    );
    let chat = if found.chat_template {
        "yes"
    } else {
        "none: --chat is not possible"
    };
    line("chat template", chat.into());
    for problem in &found.problems {
        line("problem", problem.clone());
    }
    table.to_string()
}
