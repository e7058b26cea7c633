//! How a pre-tokenizer that a GGUF file names cuts a text into words.

/// How a text becomes words, before the words become tokens.
pub(super) struct Words {
    /// Patterns, one after another; what they leave over stands for itself.
    pub patterns: &'static [&'static str],
    /// Cut into single digits, before everything else.
    pub digits: bool,
    /// A word that is a token is that token, whatever its merges make of it.
    pub whole: bool,
    /// Whether texts begin with the token for it, unless the file says so itself.
    pub begins: bool,
}

const WORDS: Words = Words {
    patterns: &[],
    digits: false,
    whole: false,
    begins: false,
};

pub(super) const GPT_2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub(super) const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(in crate::text::tokenizer) const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As the models have it; llama.cpp's own takes no marks for parts of a word, and knows the case of
/// ASCII letters only. Likewise the next.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The pre-tokenizers, by the names that GGUF files have for them.
pub(super) const PRE: [(&[&str], Words); 9] = [
    (
        &["gpt-2", "phi-2", "olmo", "mellum", "a.x-4.0"],
        Words {
            patterns: &[GPT_2],
            ..WORDS
        },
    ),
    (
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "pixtral",
            "midm-2.0",
        ],
        Words {
            patterns: &[LLAMA_3],
            whole: true,
            begins: true,
            ..WORDS
        },
    ),
    (
        // Of OLMo 2 and Phi-4, too.
        &["dbrx", "smaug-bpe"],
        Words {
            patterns: &[LLAMA_3],
            ..WORDS
        },
    ),
    (
        &["qwen2", "deepseek-r1-qwen"],
        Words {
            patterns: &[QWEN_2],
            ..WORDS
        },
    ),
    (
        &["qwen35"],
        Words {
            patterns: &[QWEN_3_5],
            ..WORDS
        },
    ),
    (
        // The second is Granite's.
        &["smollm", "refact", "starcoder"],
        Words {
            patterns: &[GPT_2],
            digits: true,
            ..WORDS
        },
    ),
    (
        &["tekken"],
        Words {
            patterns: &[TEKKEN],
            whole: true,
            begins: true,
            ..WORDS
        },
    ),
    (
        &["deepseek-v3"],
        Words {
            patterns: &[
                r"\p{N}{1,3}",
                "[一-龥\u{3040}-ゟ゠-ヿ]+",
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
            ],
            ..WORDS
        },
    ),
    (
        &["gpt-4o"],
        Words {
            patterns: &[GPT_4O],
            ..WORDS
        },
    ),
];

/// What files without a name have, and files of that name.
pub(super) const DEFAULT: Words = Words {
    patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"],
    ..WORDS
};
