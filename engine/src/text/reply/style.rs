//! How a model writes its answers: the marks around thoughts and around calls of tools, found in the
//! text of its chat template and in the end of the prompt. It must not know answers.

use serde_json::Value;

use super::harmony::Channel;
use super::types::Types;

/// The tags around what a model thinks before it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Think {
    pub open: &'static str,
    pub close: &'static str,
}

/// The first is looked for whatever the template says; the others where it has them.
static THINK: [Think; 7] = [
    think("<think>", "</think>"),
    think("[THINK]", "[/THINK]"),
    think("<seed:think>", "</seed:think>"),
    think("<|START_THINKING|>", "<|END_THINKING|>"),
    think("<thinking>", "</thinking>"),
    think("<thought>", "</thought>"),
    think("<reasoning>", "</reasoning>"),
];

const fn think(open: &'static str, close: &'static str) -> Think {
    Think { open, close }
}

/// The tags around calls, and what may stand between them besides JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub open: &'static str,
    /// Empty where the calls end of themselves.
    pub close: &'static str,
    /// A tag that may stand after calls which end of themselves.
    pub stray: &'static str,
    /// `<function=name>` after the opening tag.
    pub functions: bool,
    /// `<function=name>` without the tag around it.
    pub bare_functions: bool,
    /// An object without any tag, where an answer begins with it; several with `;` between.
    pub bare_objects: bool,
    /// `name[ARGS]{..}`.
    pub names: bool,
    /// The template itself writes calls so.
    pub announces_names: bool,
    /// Tags that stand inside calls.
    pub inside: &'static [&'static str],
}

const NONE: Marks = Marks {
    open: "",
    close: "",
    stray: "",
    functions: false,
    bare_functions: false,
    bare_objects: false,
    names: false,
    announces_names: false,
    inside: &[],
};

static HERMES: Marks = Marks {
    open: "<tool_call>",
    close: "</tool_call>",
    functions: true,
    ..NONE
};

static CODER: Marks = Marks {
    bare_functions: true,
    stray: HERMES.close,
    ..HERMES
};

static MISTRAL: Marks = Marks {
    open: "[TOOL_CALLS]",
    names: true,
    inside: &["[ARGS]", "[CALL_ID]"],
    ..NONE
};

/// Of the newer templates.
static MISTRAL_NAMES: Marks = Marks {
    announces_names: true,
    ..MISTRAL
};

static PIPES: Marks = Marks {
    open: "<|tool_call|>",
    stray: "<|/tool_call|>",
    ..NONE
};

static LLAMA: Marks = Marks {
    open: "<|python_tag|>",
    bare_objects: true,
    ..NONE
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Thoughts alone.
    Thoughts,
    Tagged(&'static Marks),
    /// What the prompt has begun of the answer.
    Harmony(Channel),
}

/// How a model writes its answers. See [`super::Reply`].
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    pub(super) format: Format,
    pub(super) thinks: Vec<&'static Think>,
    /// The tags that the prompt has left open.
    pub(super) thinking: Option<&'static Think>,
    /// The tags that the answer may begin with, where the template has them.
    pub(super) may_think: Option<&'static Think>,
    /// Whether calls are looked for at all.
    pub(super) has_tools: bool,
    pub(super) types: Types,
    shows: Vec<&'static str>,
}

impl Style {
    /// Of a chat template's source, and of a prompt that it made: where the prompt ends with an open
    /// tag, the answer begins with thoughts. Without tools nothing is taken for a call.
    pub fn of(template: &str, prompt: &str, has_tools: bool) -> Self {
        if template.contains("<|channel|>") && template.contains("<|message|>") {
            return Self {
                format: Format::Harmony(Channel::of_prompt(prompt)),
                has_tools,
                shows: super::harmony::MARKS.to_vec(),
                ..Self::plain()
            };
        }
        let format = match has_tools {
            true => Format::Tagged(marks(template)),
            false => Format::Thoughts,
        };
        let named =
            |think: &&Think| template.contains(think.open) || template.contains(think.close);
        let thinks: Vec<_> = (THINK.iter().take(1))
            .chain(THINK.iter().skip(1).filter(named))
            .collect();
        let end = prompt.trim_end();
        let may_think = (THINK.iter().find(named))
            .filter(|think| !end.ends_with(think.open) && !end.ends_with(think.close));
        let mut shows: Vec<_> = thinks.iter().flat_map(|t| [t.open, t.close]).collect();
        if let Format::Tagged(marks) = format {
            shows.extend([marks.open, marks.close, marks.stray]);
            shows.extend(marks.inside);
            shows.retain(|mark| !mark.is_empty());
            shows.dedup();
        }
        Self {
            format,
            may_think,
            thinking: (thinks.iter().copied()).find(|think| end.ends_with(think.open)),
            thinks,
            has_tools,
            types: Types::default(),
            shows,
        }
    }

    /// All of it is text.
    pub fn plain() -> Self {
        Self {
            format: Format::Thoughts,
            thinks: Vec::new(),
            thinking: None,
            may_think: None,
            has_tools: false,
            types: Types::default(),
            shows: Vec::new(),
        }
    }

    /// The tools as a request has them: where parameters are written as texts, their schemas say
    /// what they become.
    pub fn with_tools(mut self, tools: &Value) -> Self {
        self.types = Types::of(tools);
        self
    }

    /// The marks that have to be in the text. Where they are special tokens, a detokenizer has to be
    /// told to show them.
    pub fn shows(&self) -> &[&'static str] {
        &self.shows
    }
}

/// The first format that the template shows; what most models know where it shows none.
fn marks(template: &str) -> &'static Marks {
    let has = |text: &str| template.contains(text);
    if has(MISTRAL.open) && has("[ARGS]") {
        &MISTRAL_NAMES
    } else if has(MISTRAL.open) {
        &MISTRAL
    } else if has("<function=") && has("<parameter=") {
        &CODER
    } else if has(HERMES.open) {
        &HERMES
    } else if has(PIPES.open) {
        &PIPES
    } else if has(LLAMA.open) || (has("<|start_header_id|>") && has("\"parameters\"")) {
        &LLAMA
    } else {
        &HERMES
    }
}
