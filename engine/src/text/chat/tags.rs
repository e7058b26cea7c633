//! Looks at a template as the words that it is made of, before it is parsed.

use std::collections::BTreeSet;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// transformers has a block of its own, `{% generation %}`: it marks what the assistant said, for
/// training. To the text it does what `{% with %}` does, a scope, so that is put in its place: with
/// spaces, so that every line and column stays where it was.
pub(super) fn without_generation(source: &str, syntax: SyntaxConfig) -> String {
    let mut text = source.to_owned();
    let mut after_block_start = false;
    // What the lexer refuses the parser refuses after it, and says so.
    for (token, span) in tokenize(source, false, syntax).map_while(Result::ok) {
        let word = match token {
            Token::Ident("generation") if after_block_start => "with",
            Token::Ident("endgeneration") if after_block_start => "endwith",
            _ => "",
        };
        let place = span.start_offset as usize..span.end_offset as usize;
        if !word.is_empty() {
            let width = place.len();
            text.replace_range(place, &format!("{word:width$}"));
        }
        after_block_start = matches!(token, Token::BlockStart);
    }
    text
}

/// Every name that stands somewhere in the template's code.
pub(super) fn names(source: &str, syntax: SyntaxConfig) -> BTreeSet<String> {
    let tokens = tokenize(source, false, syntax).map_while(Result::ok);
    tokens
        .filter_map(|(token, _)| match token {
            Token::Ident(name) => Some(name.to_owned()),
            _ => None,
        })
        .collect()
}
