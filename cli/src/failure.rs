//! How a command can end without having done its work, and what that means for the exit code.
//! Messages of the libraries are theirs; only what the command line adds is worded here.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use engine::EngineError;
use engine::speech::ScriptError;
use engine::text::TextError;
use offload::{OffloadError, PlanError};

use crate::args::Idle;

/// Why a command ended without what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Usage(#[from] Usage),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{file} cannot be read")]
    ReadPrompt { file: String, source: io::Error },
    #[error("no checkpoint can be made with these sizes: {0}")]
    Sizes(loader::Error),
    #[error(transparent)]
    Synth(loader::Error),
    #[error("the checkpoint cannot be run: {0}")]
    Inspect(EngineError),
    #[error("{file}: {source}")]
    Sound {
        file: String,
        source: engine::audio::AudioError,
    },
    #[error("{file} cannot be written")]
    Write { file: String, source: io::Error },
    #[error("{count} of {tensors} tensors are not what {file} says; the first is {first}")]
    Differs {
        file: String,
        count: usize,
        tensors: usize,
        first: String,
    },
    #[error("{location} has no checksums.json to check against")]
    NoManifest { location: String },
    #[error("stdout cannot be written")]
    Output(#[source] io::Error),
    #[error("no thread could be started to listen for Ctrl-C")]
    Signals(#[source] io::Error),
    #[error("{address} cannot be listened on")]
    Listen { address: String, source: io::Error },
    #[error("requests cannot be served")]
    Serve(#[source] io::Error),
    #[error("the model's thread ended without a word")]
    ModelThread,
    /// The reader of our output has seen enough. Not an error.
    #[error("the reader of stdout went away")]
    BrokenPipe,
    /// The user's wish. The text so far is written and there is nothing to say.
    #[error("interrupted")]
    Interrupted,
}

/// Arguments that parse one by one and make no sense together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Usage {
    #[error("there is no prompt")]
    NoPrompt,
    #[error("the shapes of systems that speak have their own sizes")]
    SizesOfSystem,
    #[error(transparent)]
    Script(engine::speech::ScriptError),
    #[error("{flag} has no effect with {system}")]
    OfOtherSystem {
        flag: &'static str,
        system: &'static str,
    },
    #[error("the script names its speakers, and --speaker names them, too")]
    NamedTwice,
    #[error("the demo model does not speak")]
    NoSpeech,
    #[error("{flag} is of models that speak, and this one does not")]
    OfSpeech { flag: &'static str },
    #[error("{flag} is of models of text, and this one speaks")]
    OfText { flag: &'static str },
    #[error("{file}: {problem}")]
    KeptVoice { file: String, problem: String },
    #[error("two voices are named {name}")]
    VoiceTwice { name: String },
    #[error("{saved} files are to keep voices, and {given} voices were given")]
    SavedVoices { saved: usize, given: usize },
    #[error("{file} is there: a run was interrupted")]
    Interrupted { file: String },
    #[error("there is nothing to resume: {file} is not there")]
    NothingToResume { file: String },
    #[error("{file} cannot be resumed: {problem}")]
    Resume { file: String, problem: String },
    #[error("the script has {speakers} speakers, and {voices} voices were given")]
    TooFewVoices { speakers: usize, voices: usize },
    #[error("{file}: {problem}")]
    Injected { file: String, problem: String },
    #[error("{teachers} teachers and {fusers} fusers were given")]
    Pairs { teachers: usize, fusers: usize },
    #[error("the prompt in {file} is empty")]
    EmptyPromptFile { file: String },
    #[error("{file} has {}more than the {most_bytes} bytes that are read of it", of_bytes(.bytes))]
    FileTooLong {
        file: String,
        /// `None`: it has no length, or none that is known.
        bytes: Option<u64>,
        most_bytes: u64,
    },
    #[error("the JSON schema is no JSON: {problem}")]
    Schema { problem: String },
    #[error("the tokenizer has no token {token}: it knows {tokens}")]
    NoSuchToken { token: u32, tokens: usize },
    #[error("the flags of side {name} make no command line: {reason}")]
    Side { name: &'static str, reason: String },
    #[error("{} is not a file", path.display())]
    PromptIsNoFile { path: PathBuf },
    #[error("two report files are to be written to {}", path.display())]
    SameFile { path: PathBuf },
    #[error("the runs need {needed} positions and the context holds {context}")]
    TooManyTokens { needed: usize, context: usize },
    #[error(transparent)]
    Idle(Idle),
    #[error("{} cannot be a file to write", path.display())]
    SaveIsNoFile { path: PathBuf },
    #[error("there is no command {name}")]
    UnknownCommand { name: String, nearest: &'static str },
    #[error("{name} needs {what}")]
    CommandNeeds {
        name: &'static str,
        what: &'static str,
    },
    #[error("{name} takes nothing behind it, and got: {rest}")]
    CommandAlone { name: &'static str, rest: String },
    #[error("{} is there already", path.display())]
    SaveExists { path: PathBuf },
    #[error("the conversation is empty: there is nothing to save")]
    NothingToSave,
    #[error("there is no message to answer again")]
    NothingToRetry,
    #[error("the conversation has {tokens} tokens and the context holds {context}")]
    ConversationTooLong { tokens: usize, context: usize },
    #[error("the conversation has {bytes} bytes, more than {context} tokens can have")]
    ConversationBytes { bytes: usize, context: usize },
}

/// The exit codes that `--help` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Fine = 0,
    RunTime = 1,
    Usage = 2,
    Checkpoint = 3,
    Memory = 4,
    Interrupted = 130,
}

impl Failure {
    pub fn not_written(path: &Path, source: io::Error) -> Self {
        let file = path.display().to_string();
        Self::Write { file, source }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code() as u8)
    }

    /// Whether there is something to tell the user.
    pub fn is_silent(&self) -> bool {
        matches!(
            self,
            Self::BrokenPipe | Self::Interrupted | Self::Engine(EngineError::Interrupted)
        )
    }

    fn code(&self) -> Code {
        match self {
            Self::Usage(_) | Self::Sizes(_) => Code::Usage,
            Self::Engine(error) => engine_code(error),
            Self::Inspect(_) | Self::Differs { .. } | Self::NoManifest { .. } => Code::Checkpoint,
            Self::ReadPrompt { .. }
            | Self::Synth(_)
            | Self::Write { .. }
            | Self::Sound { .. }
            | Self::Output(_)
            | Self::Signals(_)
            | Self::Listen { .. }
            | Self::Serve(_)
            | Self::ModelThread => Code::RunTime,
            Self::BrokenPipe => Code::Fine,
            Self::Interrupted => Code::Interrupted,
        }
    }

    /// The next step, where there is one worth naming.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage(Usage::NoPrompt) => {
                "give it some text with --prompt, --txt-path (- is stdin) or --prompt-tokens"
            }
            Self::Usage(Usage::SizesOfSystem) => {
                "leave out the sizes, or take a text model's shape"
            }
            Self::Usage(Usage::Script(ScriptError::Empty)) => "give it a line of text",
            Self::Usage(Usage::Script(ScriptError::Mixed { .. })) => {
                "begin all lines with `Speaker N:`, or all with names of --voice"
            }
            Self::Usage(Usage::OfOtherSystem { .. } | Usage::NamedTwice) => "leave that flag out",
            Self::Usage(Usage::NoSpeech) => {
                "say which model: --model DIR; `engine synth` makes one"
            }
            Self::Usage(Usage::OfSpeech { .. } | Usage::OfText { .. }) => "leave that flag out",
            Self::Usage(Usage::KeptVoice { .. }) => {
                "give a WAV file, or one that --save-voice wrote with a model of this kind"
            }
            Self::Usage(Usage::VoiceTwice { .. }) => "give each voice a name of its own",
            Self::Usage(Usage::SavedVoices { .. }) => {
                "give --save-voice one file for each of --voice-files and --voice, in that order"
            }
            Self::Usage(Usage::Interrupted { .. }) => {
                "add --resume to go on with it, or delete that file to begin anew"
            }
            Self::Usage(Usage::NothingToResume { .. }) => {
                "leave out --resume; a run that was interrupted leaves that file beside its sound"
            }
            Self::Usage(Usage::Resume { .. }) => {
                "give the same script, voices and flags, or delete that file to begin anew"
            }
            Self::Usage(Usage::TooFewVoices { .. }) => {
                "give a WAV file for each speaker, in their order, or none at all"
            }
            Self::Usage(Usage::Injected { .. }) => {
                "write f32 tensors of these shapes, or leave a name out: it is then drawn"
            }
            Self::Usage(Usage::Pairs { .. }) => {
                "give a --fuser for each --teacher, in the same order"
            }
            Self::Usage(Usage::EmptyPromptFile { .. }) => "give it at least one word",
            Self::Usage(Usage::FileTooLong { .. }) => "give it a shorter text",
            Self::Usage(Usage::Schema { .. }) => "--json-schema takes a file with a JSON schema",
            Self::Usage(Usage::NoSuchToken { .. }) => {
                "check the ids: `engine tokenize` prints those of a text"
            }
            Self::Usage(Usage::PromptIsNoFile { .. }) => {
                "--txt-path and --messages take a file of text, or - for stdin"
            }
            Self::Usage(Usage::Side { .. }) => {
                "--compare takes two texts of flags, like '--slots 2' '--slots 3'"
            }
            Self::Usage(Usage::SameFile { .. }) => {
                "give each a place of its own, or all of them a folder with --profile-dir"
            }
            Self::Usage(Usage::TooManyTokens { .. }) => {
                "use fewer --tokens, a shorter prompt or a longer --context"
            }
            Self::Usage(Usage::Idle(Idle::NothingStreamed { .. })) => {
                "leave it out, or stream some layers: lower --num-gpu-layers, or `auto`"
            }
            Self::Usage(Usage::Idle(Idle::NothingResident)) => {
                "leave it out, or keep some layers: --num-gpu-layers 1 or more"
            }
            Self::Usage(Usage::Idle(Idle::Slots { streamed, .. })) => {
                return Some(format!("use --slots {streamed} or fewer"));
            }
            Self::Usage(Usage::SaveIsNoFile { .. }) => {
                "--save takes a file in a folder that exists"
            }
            Self::Usage(Usage::UnknownCommand { nearest, .. }) => {
                return Some(format!(
                    "the nearest is {nearest}, /help lists all; a message that begins with / is \
                     typed with //"
                ));
            }
            Self::Usage(Usage::CommandNeeds { .. } | Usage::CommandAlone { .. }) => {
                "/help lists the commands"
            }
            Self::Usage(Usage::SaveExists { .. }) => "/save! FILE writes over it",
            Self::Usage(Usage::NothingToSave | Usage::NothingToRetry) => "type a message first",
            Self::Usage(Usage::ConversationTooLong { .. } | Usage::ConversationBytes { .. }) => {
                "/clear and then /retry ask in a new conversation; a longer --context holds more"
            }
            Self::Engine(error) | Self::Inspect(error) => return error.hint(),
            Self::ReadPrompt { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                "save the file as UTF-8 text"
            }
            Self::ReadPrompt { .. } => "check the path that was given; - is stdin",
            Self::Sizes(_) => "change the sizes; `engine synth --help` says what each of them is",
            Self::Synth(error) => return error.hint(),
            Self::Differs { .. } => {
                "the weights are damaged: fetch them again; if they were replaced on purpose, run \
                 `engine checksum DIR`"
            }
            Self::NoManifest { .. } => {
                "run `engine checksum DIR` while the weights are known to be good"
            }
            Self::Sound { source, .. } => return source.hint(),
            Self::Write { .. } => "check that the folder exists, can be written to, and has room",
            Self::Signals(_) | Self::Serve(_) => offload::THREADS_HINT,
            Self::Listen { .. } => {
                "another program may listen there, or the address is not this machine's: use another \
                 --port or --host"
            }
            Self::ModelThread => {
                "this is a fault of the program: what was said before may tell why"
            }
            Self::Output(_) => "check the disk or the program that stdout goes to",
            Self::BrokenPipe | Self::Interrupted => return None,
        };
        Some(hint.into())
    }

    /// The reasons behind it, outermost first, without those that the message already tells.
    pub fn causes(&self) -> Vec<String> {
        let mut told = self.to_string();
        let mut causes = Vec::new();
        let mut next = self.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !told.contains(&text) {
                told.clone_from(&text);
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

impl From<io::Error> for Failure {
    /// An error of writing to stdout: everything else has a variant of its own.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Output(error),
        }
    }
}

fn of_bytes(bytes: &Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| format!("{bytes} bytes, "))
}

fn engine_code(error: &EngineError) -> Code {
    match error {
        EngineError::Of { source, .. } => engine_code(source),
        EngineError::OtherTokenizer { .. } | EngineError::OtherVocabulary { .. } => {
            Code::Checkpoint
        }
        EngineError::Loader(_)
        | EngineError::NoTokenizer { .. }
        | EngineError::NoChatTemplate { .. }
        | EngineError::TokenOutOfRange { text: Some(_), .. }
        | EngineError::Text(
            TextError::TokenizerJson { .. }
            | TextError::GgufTokenizer { .. }
            | TextError::TokenizerConfig { .. }
            | TextError::Template { .. }
            | TextError::TemplateLimit { .. },
        ) => Code::Checkpoint,
        EngineError::TooManyStrays { .. } => Code::Checkpoint,
        EngineError::Plan(
            PlanError::TooLarge { .. }
            | PlanError::TooLargeTogether { .. }
            | PlanError::HomesTooLarge { .. },
        )
        | EngineError::PlainTooLarge { .. }
        | EngineError::MemoryRefused { .. }
        | EngineError::DeviceFull { .. }
        | EngineError::Offload(
            OffloadError::OutOfMemory { .. } | OffloadError::OutOfDeviceMemory { .. },
        ) => Code::Memory,
        EngineError::Plan(_)
        | EngineError::TooManyThreads { .. }
        | EngineError::ThreadsOfClear
        | EngineError::NoSuchSpeaker { .. }
        | EngineError::NoSuchLanguage { .. }
        | EngineError::NothingToSpeak
        | EngineError::SaidElsewhere
        | EngineError::StopWithoutText
        | EngineError::Text(
            TextError::Sampling { .. }
            | TextError::BiasedToken { .. }
            | TextError::EmptyStopString { .. }
            | TextError::Grammar { .. }
            | TextError::GrammarTokenizer { .. }
            | TextError::ChatInput { .. },
        )
        | EngineError::TextTooLong { .. }
        | EngineError::NoSuchChatTemplate { .. }
        | EngineError::EmptyPrompt
        | EngineError::Windows { .. }
        | EngineError::NothingToScore { .. }
        | EngineError::PromptTooLong { .. }
        | EngineError::ContextTooLong { .. }
        | EngineError::NoContext
        | EngineError::TokenOutOfRange { text: None, .. }
        | EngineError::EmulatedOnDevice
        | EngineError::IdleTf32
        | EngineError::NoCompactForm { .. }
        | EngineError::Offload(OffloadError::NotBuilt | OffloadError::NoSuchDevice { .. })
        | EngineError::EmulatedDisk
        | EngineError::VerifyOnDevice
        | EngineError::CacheOnDevice { .. }
        | EngineError::LinkRate { .. } => Code::Usage,
        EngineError::Interrupted => Code::Interrupted,
        _ => Code::RunTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_promised_ones() {
        let code = |failure: Failure| failure.code() as u8;
        assert_eq!(code(io::Error::from(io::ErrorKind::BrokenPipe).into()), 0);
        assert_eq!(code(io::Error::from(io::ErrorKind::StorageFull).into()), 1);
        assert_eq!(code(Usage::NoPrompt.into()), 2);
        let layers = PlanError::TooManyLayers {
            asked: 9,
            layers: 3,
        };
        assert_eq!(code(EngineError::from(layers).into()), 2);
        let damaged = loader::Error::FieldMissing {
            file: "config.json".into(),
            field: "hidden_size".into(),
        };
        assert_eq!(code(EngineError::from(damaged).into()), 3);
        let large = PlanError::TooLarge {
            resident: 0,
            needed_bytes: 2,
            reserve_bytes: 0,
            memory_bytes: 1,
            fits: None,
        };
        assert_eq!(code(EngineError::from(large).into()), 4);
        assert_eq!(code(Failure::Interrupted), 130);
    }

    #[test]
    fn a_cause_is_told_once() {
        let read = loader::Error::Shrunk {
            file: "a.safetensors".into(),
            expected_bytes: 2,
            found_bytes: 1,
        };
        let failure = Failure::Engine(EngineError::Offload(OffloadError::Load {
            block: offload::BlockId::new(offload::StackId(0), offload::LayerIndex(5)),
            origin: "a.safetensors".into(),
            source: offload::LinkError::from(read).into(),
        }));
        assert!(
            failure
                .to_string()
                .starts_with("layer 5 could not be loaded")
        );
        assert_eq!(failure.causes(), Vec::<String>::new());
        let failure = Failure::ReadPrompt {
            file: "x".into(),
            source: io::Error::other("why"),
        };
        assert_eq!(failure.causes(), ["why"]);
    }
}
