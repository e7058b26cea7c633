//! From what was typed to a compiled grammar. Happens before weights are loaded: a mistake in a
//! schema should not take gigabytes to find out.

use engine::text::{Grammar, Rule};
use engine::{Blueprint, EngineError};

use crate::args::{GrammarArgs, GrammarInput};
use crate::failure::{Failure, Usage};
use crate::prompt;

/// A longer file is no schema and no grammar.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What the answer has to be; `None`: anything may come.
pub fn compile(args: GrammarArgs, blueprint: &Blueprint) -> Result<Option<Grammar>, Failure> {
    let Some(input) = args.input() else {
        return Ok(None);
    };
    let rule = match input {
        GrammarInput::Regex(pattern) => Rule::Regex(pattern),
        GrammarInput::Lark(file) => Rule::Lark(prompt::script(file, FILE_BYTES_MAX)?),
        GrammarInput::Schema(file) => {
            let json = prompt::script(file, FILE_BYTES_MAX)?;
            let schema = serde_json::from_str(prompt::without_mark(&json));
            Rule::Schema(schema.map_err(|error| Usage::Schema {
                problem: error.to_string(),
            })?)
        }
    };
    let vocabulary = blueprint.vocabulary()?;
    let grammar = Grammar::new(&vocabulary, &rule).map_err(EngineError::from)?;
    Ok(Some(grammar))
}
