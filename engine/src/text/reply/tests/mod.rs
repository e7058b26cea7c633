use super::*;

mod broken;
mod formats;
pub(super) mod samples;
mod styles;

use samples::{Sample, samples};

/// What is made of an answer that comes in these pieces.
fn read<'a>(style: &Style, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Said> {
    let mut reply = Reply::new(style.clone());
    let mut said = Vec::new();
    for piece in pieces {
        reply.push(piece, &mut said);
    }
    reply.finish(&mut said);
    said
}

/// The places between characters, both ends left out.
fn edges(text: &str) -> Vec<usize> {
    (1..text.len())
        .filter(|&at| text.is_char_boundary(at))
        .collect()
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

fn reasoning(text: &str) -> Said {
    Said::Reasoning(text.to_owned())
}

fn call(index: usize, name: &str, json: &str) -> [Said; 2] {
    let (name, json) = (name.to_owned(), json.to_owned());
    [Said::Call { index, name }, Said::Arguments { index, json }]
}

/// All that is no call.
fn words(said: &[Said]) -> String {
    said.iter()
        .map(|piece| match piece {
            Said::Text(text) | Said::Reasoning(text) => text.as_str(),
            Said::Call { .. } | Said::Arguments { .. } => "",
        })
        .collect()
}

fn has_call(said: &[Said]) -> bool {
    said.iter().any(|piece| matches!(piece, Said::Call { .. }))
}
