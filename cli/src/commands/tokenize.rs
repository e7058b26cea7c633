//! `engine tokenize`: what a text becomes, and what tokens say, without the weights.

use engine::text::Tokenizer;
use engine::{EngineError, Prompter, Source};
use serde::Serialize;

use crate::args::TokenizeArgs;
use crate::failure::{Failure, Usage};
use crate::output::{Align, Console, Stdout, Table};
use crate::prompt;

#[derive(Debug, Serialize)]
struct Tokens<'a> {
    text: &'a str,
    /// The chat template that made the text of a conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'a str>,
    ids: &'a [u32],
    pieces: Vec<Option<String>>,
    special: Vec<bool>,
}

pub fn run(mut args: TokenizeArgs) -> Result<(), Failure> {
    let console = Console::new(args.quiet);
    let source = match args.model.take() {
        Some(dir) => Source::Directory(dir),
        None => Source::Demo,
    };
    let checkpoint = source.open()?;
    let tokenizer = engine::tokenizer_of(&checkpoint)?;
    let tokenizer = tokenizer.ok_or_else(|| engine::no_tokenizer(&checkpoint))?;
    let json = args.json;
    if let Some(ids) = args.decode {
        return decode(&ids, &tokenizer, json);
    }
    let special = !args.no_bos;
    let (text, chat) = args.input();
    let prompter = Prompter::new(&checkpoint, &tokenizer, checkpoint.config.max_positions);
    let encoded = prompt::encode(text, chat, special, &prompter, &console)?;
    let rows = checkpoint.config.vocab_size;
    for &token in encoded.ids.iter().filter(|&&id| id as usize >= rows) {
        let error = EngineError::TokenOutOfRange {
            token,
            text: tokenizer.token(token),
            vocab_size: rows,
        };
        console.say(format_args!(
            "note: {error}, so `engine generate` refuses it"
        ));
    }
    if json {
        return Stdout::lock().json(&Tokens {
            text: &encoded.text,
            template: encoded.template.as_deref(),
            ids: &encoded.ids,
            pieces: encoded.ids.iter().map(|&id| tokenizer.token(id)).collect(),
            special: encoded
                .ids
                .iter()
                .map(|&id| tokenizer.is_special(id))
                .collect(),
        });
    }
    let mut table = Table::new(&[Align::Right, Align::Left], 0);
    for &id in &encoded.ids {
        table.row([id.to_string(), spelled(&tokenizer, id)]);
    }
    Stdout::lock().show(format_args!("{table}\n"))?;
    console.say(format_args!(
        "{} token{} of {} bytes",
        encoded.ids.len(),
        if encoded.ids.len() == 1 { "" } else { "s" },
        encoded.text.len()
    ));
    Ok(())
}

/// As the vocabulary has it, without what would move a terminal's cursor.
fn spelled(tokenizer: &Tokenizer, id: u32) -> String {
    let piece = tokenizer.token(id).unwrap_or_default();
    let letters = piece.chars();
    letters
        .map(|letter| match letter.is_control() {
            true => letter.escape_default().to_string(),
            false => letter.to_string(),
        })
        .collect()
}

fn decode(ids: &[u32], tokenizer: &Tokenizer, json: bool) -> Result<(), Failure> {
    if let Some(&token) = ids.iter().find(|&&id| tokenizer.token(id).is_none()) {
        let tokens = tokenizer.vocab_size();
        return Err(Usage::NoSuchToken { token, tokens }.into());
    }
    let text = tokenizer.decode(ids).map_err(EngineError::from)?;
    let mut out = Stdout::lock();
    if json {
        return out.json(&Tokens {
            text: &text,
            template: None,
            ids,
            pieces: ids.iter().map(|&id| tokenizer.token(id)).collect(),
            special: ids.iter().map(|&id| tokenizer.is_special(id)).collect(),
        });
    }
    out.show(&text)?;
    match out.is_terminal() {
        true => out.show("\n"),
        false => Ok(()),
    }
}
