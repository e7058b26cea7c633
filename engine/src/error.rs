//! What can go wrong between opening a model and its last token.

use kernels::CacheType;
use loader::{DType, Encoding, Role, units};
use offload::{LayerIndex, OffloadError, PlanError, THREADS_HINT};

use crate::compute::finite::Culprit;
use crate::machine::memory;
use crate::text::TextError;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Loader(#[from] loader::Error),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Offload(OffloadError),
    /// What is read during a pass, beside its layers.
    #[error("{what} could not be read: {source}")]
    Unread {
        what: &'static str,
        source: Box<loader::Error>,
    },
    #[error("the head could not be read: an earlier error says why")]
    NoHead,
    /// Of a model that was opened to be read only.
    #[error("the model was opened without its head, and gives no logits")]
    NoLogits,
    #[error("a pass of {rows} rows was asked for, and there is room for {most}")]
    TooManyRows { rows: usize, most: usize },
    #[error("more than {most} sequences were asked for, and the plan counted that many")]
    TooManySequences { most: usize },
    #[error("position {asked} was asked for, and the sequence has seen {seen} tokens")]
    NotSeen { asked: usize, seen: usize },
    #[error("windows of {window} tokens, {stride} apart, do not score each token once")]
    Windows { window: usize, stride: usize },
    #[error("the text has {tokens} token{}: nothing is foretold", if *.tokens == 1 { "" } else { "s" })]
    NothingToScore { tokens: usize },
    #[error("the sequence was made by another session")]
    OtherModel,
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("the prompt has {prompt} tokens and the context holds {context}")]
    PromptTooLong { prompt: usize, context: usize },
    #[error("a context of {asked} tokens was asked for, the model knows {max_positions} positions")]
    ContextTooLong { asked: usize, max_positions: usize },
    #[error("a context of 0 tokens holds no prompt")]
    NoContext,
    /// Refused before it is tokenized.
    #[error(
        "the text has {} bytes; {context} tokens of at most {longest_bytes} bytes cannot hold more than \
         {most_bytes}",
        text_bytes.map_or("too many".to_owned(), |bytes| bytes.to_string())
    )]
    TextTooLong {
        /// `None`: more than was read.
        text_bytes: Option<u64>,
        most_bytes: u64,
        context: usize,
        longest_bytes: usize,
    },
    #[error("token {token}{} is beyond the {vocab_size} rows of the embedding", spelled(.text))]
    TokenOutOfRange {
        token: u32,
        /// As the tokenizer spells it, where it knows it.
        text: Option<String>,
        vocab_size: usize,
    },
    #[error("{location} has no tokenizer.json{}", but_has(.instead))]
    NoTokenizer {
        location: String,
        /// A vocabulary in another form.
        instead: Option<&'static str>,
    },
    #[error("{location} has no chat template `{name}` (it has {})", names.join(", "))]
    NoSuchChatTemplate {
        location: String,
        name: String,
        names: Vec<String>,
    },
    #[error("{location} has no chat template")]
    NoChatTemplate { location: String },
    #[error("a link can be emulated on the CPU only, and this computes on a GPU")]
    EmulatedOnDevice,
    #[error("--tf32 was asked for, and no f32 matrices are multiplied on a GPU")]
    IdleTf32,
    /// Where `auto` was not asked to make room.
    #[error(
        "the device was full after {resident} of {asked} resident layers: {} more could not be \
         allocated",
        units::memory(*needed_bytes)
    )]
    DeviceFull {
        asked: usize,
        resident: usize,
        needed_bytes: u64,
    },
    #[error("an emulated link carries weights from RAM, and --weights disk was asked for")]
    EmulatedDisk,
    /// Memory was refused in spite of the plan, or of `--memory`.
    #[error(
        "the system refused some of the {} of memory that a run with {asked} resident layers \
         takes",
        units::memory(*asked_bytes)
    )]
    MemoryRefused {
        asked: usize,
        asked_bytes: u64,
        /// The most layers for which it gives memory, if it does for any number.
        fits: Option<usize>,
        source: Box<EngineError>,
    },
    #[error("{asked} compute threads were asked for, {most} is the most")]
    TooManyThreads { asked: usize, most: usize },
    #[error("--threads was given, and the clear kernels bring threads of their own")]
    ThreadsOfClear,
    #[error("the system refused one of {asked} compute threads: {source}")]
    ComputeThreadRefused {
        asked: usize,
        source: std::io::Error,
    },
    #[error("a stop text was given, and without a tokenizer there is no text to stop at")]
    StopWithoutText,
    #[error("a link of {gbps} GB/s cannot be emulated")]
    LinkRate { gbps: f64 },
    #[error("NaN or infinity in the logits at position {position}: {culprit}")]
    NotFinite { position: usize, culprit: Culprit },
    #[error("weights on a device cannot be verified: --verify reads them in host memory")]
    VerifyOnDevice,
    #[error("weights in {encoding} are computed on the CPU only")]
    EncodedOnDevice { encoding: Encoding },
    #[error(
        "the model turns neighbouring dimensions together, as GGUF files of the Llama family do, and \
         that is computed on the CPU only"
    )]
    PairingOnDevice,
    #[error(
        "a KV cache in {} was asked for, and a GPU keeps keys and values in the model's numbers, {}",
        asked.name(),
        own.name()
    )]
    CacheOnDevice { asked: CacheType, own: CacheType },
    #[error("--resident-form compact was asked for, and {why}")]
    NoCompactForm { why: &'static str },
    #[error(
        "{role:?} of layer {layer} has no compact form: {strays} of its numbers have exponents of \
         their own, and there is room for {most}"
    )]
    TooManyStrays {
        layer: LayerIndex,
        role: Role,
        strays: usize,
        most: usize,
    },
    #[error("the resident layers stay plain, because {varied}; so {source}")]
    PlainTooLarge {
        varied: Box<EngineError>,
        source: PlanError,
    },
    /// What went wrong with one of several models.
    #[error("{which}: {source}")]
    Of {
        which: String,
        /// What says how many of its layers stay.
        flag: &'static str,
        source: Box<EngineError>,
    },
    #[error(
        "{teacher} has another tokenizer than {base}: token {token} is {} there and {} here",
        spelled(.theirs), spelled(.ours)
    )]
    OtherTokenizer {
        base: String,
        teacher: String,
        token: u32,
        ours: Option<String>,
        theirs: Option<String>,
    },
    #[error(
        "{teacher} has a vocabulary of {theirs} tokens and {base} one of {ours}, and not both have a \
         tokenizer to compare"
    )]
    OtherVocabulary {
        base: String,
        teacher: String,
        ours: usize,
        theirs: usize,
    },
    #[error("the tokenizer has no token {name}")]
    NoSpecialToken { name: &'static str },
    #[error("there is no speaker {name}: this model has {known}")]
    NoSuchSpeaker { name: String, known: String },
    #[error("there is no language {name}: this model has {known}")]
    NoSuchLanguage { name: String, known: String },
    #[error("the text has no words to speak")]
    NothingToSpeak,
    #[error("nothing was spoken of the text `{label}`")]
    NothingSpoken { label: String },
    #[error("what was said before is not of this model")]
    SaidElsewhere,
    #[error("{location} has no tokenizer.json")]
    NoSpeechTokenizer {
        location: String,
        /// Whose it is, if it says.
        name: Option<String>,
    },
    #[error("{file} cannot be read: {source}")]
    TokenizerFile {
        file: String,
        source: std::io::Error,
    },
    #[error("stages in q8_0 are computed by the fast kernels on the host alone")]
    StageType,
    #[error("no teacher was given")]
    NoTeacher,
    #[error("the generation was interrupted")]
    Interrupted,
    #[error("a {0} tensor cannot be computed with here")]
    DType(DType),
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<OffloadError> for EngineError {
    fn from(error: OffloadError) -> Self {
        match error {
            // The wait for the block was called off.
            OffloadError::Cancelled { .. } => Self::Interrupted,
            error => Self::Offload(error),
        }
    }
}

impl EngineError {
    pub(crate) fn unread(what: &'static str, source: loader::Error) -> Self {
        let source = source.into();
        Self::Unread { what, source }
    }

    /// Whether the system gave less memory than a run asks for, so that a smaller one may do.
    /// The checkpoint is of a system that speaks, and was to be run as a model of text.
    pub fn is_speech(&self) -> bool {
        matches!(self, Self::Loader(loader::Error::Speech { .. }))
    }

    pub(crate) fn is_refused_memory(&self) -> bool {
        match self {
            Self::Offload(OffloadError::OutOfMemory { .. }) => true,
            // Its stack may be what there is no room for.
            Self::Offload(OffloadError::ThreadRefused { .. }) => memory::limits()
                .iter()
                .any(|limit| limit.kind.counts_untouched()),
            _ => false,
        }
    }

    /// The next step, for a `hint:` line.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Loader(error) => return error.hint(),
            Self::Unread { source, .. } => return source.hint(),
            Self::NoHead => "open the model again",
            Self::NoLogits => "open the model for logits",
            Self::Plan(error) => return Some(error.hint()),
            Self::Offload(error) => return error.hint(),
            Self::Text(error) => return error.hint(),
            Self::EmptyPrompt => "give it some text",
            Self::Of { source, flag, .. } => {
                return source
                    .hint()
                    .map(|hint| hint.replace("--num-gpu-layers", flag));
            }
            Self::OtherTokenizer { .. } => {
                "take a teacher of the base model's own kind: tokens of two vocabularies are not \
                 aligned here"
            }
            Self::OtherVocabulary { .. } => {
                "take a teacher with the base model's vocabulary, or add both models' tokenizer.json"
            }
            Self::NoSpecialToken { .. } => {
                "give the tokenizer of the language model that it was trained with: --tokenizer DIR"
            }
            Self::NoSuchSpeaker { .. } => "`engine speak --model DIR --list-voices` lists them",
            Self::NoSuchLanguage { .. } => "leave it out, and the model finds it",
            Self::NothingToSpeak => "give it a line of text",
            Self::NothingSpoken { .. } => "give it a longer text, or more --tokens",
            Self::SaidElsewhere => "begin anew, without --resume",
            Self::NoSpeechTokenizer { name, .. } => {
                let of = name
                    .as_ref()
                    .map_or(String::new(), |name| format!(" of {name}"));
                return Some(format!(
                    "fetch the tokenizer.json{of} into that folder, or say where it is with --tokenizer"
                ));
            }
            Self::TokenizerFile { .. } => "give a tokenizer.json, or the folder that has one",
            Self::StageType => "leave out --stage-type, or --kernels and --device",
            Self::NoTeacher => "give a teacher, and the fuser that was trained for it",
            Self::TooManyRows { .. } => "send the prompts in parts, or one after the other",
            Self::TooManySequences { .. } => "open the model for more sequences",
            Self::NotSeen { .. } => "ask for a position that it has seen",
            Self::Windows { .. } => "use a window of 2 or more, and a stride no longer than it",
            Self::NothingToScore { .. } => "give it a longer text",
            Self::OtherModel => "make it with the session that it is used with",
            Self::PromptTooLong { .. } => {
                "shorten the prompt, or raise --context if it is below what the model knows"
            }
            Self::ContextTooLong { max_positions, .. } => {
                return Some(format!("use --context {max_positions} or less"));
            }
            Self::NoContext => "use --context 1 or more, or leave it out",
            Self::TextTooLong { .. } => {
                "shorten the text, or raise --context if it is below what the model knows"
            }
            Self::TokenOutOfRange { text: None, .. } => {
                "check --prompt-tokens against the model's tokenizer"
            }
            Self::TokenOutOfRange { text: Some(_), .. } => {
                "the tokenizer knows tokens that the model does not: leave this one out of the text, or \
                 fetch the tokenizer.json published with these weights"
            }
            Self::NoTokenizer {
                location,
                instead: Some(_),
            } => {
                return Some(format!(
                    "convert it with transformers: python3 -c \"from transformers import AutoTokenizer as \
                     T; T.from_pretrained('{location}').save_pretrained('{location}')\"; or give token \
                     ids with --prompt-tokens"
                ));
            }
            Self::NoSuchChatTemplate { names, .. } => {
                return Some(format!(
                    "choose one of them: --template {}",
                    names.join(" or ")
                ));
            }
            Self::NoTokenizer { location, .. } if location.ends_with(".gguf") => {
                "use a file that has a tokenizer in it, or give token ids where the command takes \
                 them (--prompt-tokens)"
            }
            Self::NoTokenizer { instead: None, .. } => {
                "add the model's tokenizer.json, or give token ids where the command takes them \
                 (--prompt-tokens)"
            }
            Self::NoChatTemplate { .. } => {
                "`engine generate` without --chat takes a prompt in the format that the model knows"
            }
            Self::EmulatedOnDevice => "leave out --link-gbps: the real bus is measured",
            Self::IdleTf32 => "leave out --tf32, or add --device cuda --dtype f32",
            Self::DeviceFull { resident: 0, .. } => {
                "something else uses the device's memory: `engine devices` shows what is free"
            }
            Self::DeviceFull { resident, .. } => {
                return Some(format!("try --num-gpu-layers {}, or `auto`", resident - 1));
            }
            Self::MemoryRefused {
                fits: Some(fits), ..
            } => {
                return Some(format!("try --num-gpu-layers {fits}, or `auto`"));
            }
            Self::MemoryRefused { fits: None, .. } => {
                "use a shorter --context or fewer --threads, or raise the limit (ulimit -v, ulimit \
                 -d)"
            }
            Self::TooManyThreads { .. } => "leave out --threads: one per core is the fastest",
            Self::ThreadsOfClear => "leave out --threads, or use --kernels fast",
            Self::ComputeThreadRefused { .. } => {
                return Some(format!("use fewer --threads; or {THREADS_HINT}"));
            }
            Self::StopWithoutText => "leave out --stop, or use a model with a tokenizer",
            Self::EmulatedDisk => "use --weights ram with --link-gbps, or leave --link-gbps out",
            Self::NotFinite { culprit, .. } => culprit.hint(),
            Self::PlainTooLarge { source, .. } => {
                return Some(format!(
                    "add --resident-form plain to plan with that from the start; {}",
                    source.hint()
                ));
            }
            Self::NoCompactForm { .. } | Self::TooManyStrays { .. } => {
                "leave out --resident-form compact"
            }
            Self::PairingOnDevice => {
                "compute with --device cpu, or take the model's safetensors files"
            }
            Self::EncodedOnDevice { .. } => {
                "compute with --device cpu, or take a checkpoint in bf16, f16 or f32"
            }
            Self::VerifyOnDevice => {
                "leave out --verify, or compute with --device cpu; `engine checksum DIR --check` \
                 looks at the files"
            }
            Self::CacheOnDevice { .. } => "leave out --cache-type, or compute with --device cpu",
            Self::LinkRate { .. } => {
                "give the rate in GB/s, from 0.001 to 10000; PCIe 4 x16 is about 25"
            }
            Self::Tensor(error) if error.to_string().contains("CUDA_ERROR") => {
                "a device that has failed stays so until the program ends: run it again; what the \
                 driver logged says more (dmesg)"
            }
            _ => return None,
        };
        Some(hint.into())
    }
}

/// A token may be a megabyte of text; a message may not.
fn spelled(text: &Option<String>) -> String {
    const CHARS_MAX: usize = 40;
    let Some(text) = text else {
        return String::new();
    };
    let more = if text.chars().nth(CHARS_MAX).is_some() {
        "…"
    } else {
        ""
    };
    let text: String = text.chars().take(CHARS_MAX).collect();
    format!(" ({text:?}{more})")
}

fn but_has(instead: &Option<&'static str>) -> String {
    instead.map_or_else(String::new, |instead| format!(", but {instead}"))
}
