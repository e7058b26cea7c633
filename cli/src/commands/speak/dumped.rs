//! What is kept of each frame for `--dump`.

use std::borrow::Cow;
use std::path::Path;

use engine::speech::Frame;

use crate::failure::Failure;
use crate::output::{Console, Dump, gigabytes};

/// What is kept of each frame for a file.
#[derive(Debug, Default)]
pub struct Dumped {
    prompt: Vec<f32>,
    rows: Vec<Vec<f32>>,
    tokens: Vec<f32>,
    frames: usize,
    stages: Vec<(Cow<'static, str>, Vec<f32>)>,
    audio: Vec<f32>,
}

impl Dumped {
    /// The prompt of a part begins.
    pub fn prompt(&mut self, tokens: &[u32], rows: Vec<Vec<f32>>) {
        self.prompt.extend(tokens.iter().map(|&token| token as f32));
        self.rows.extend(rows);
    }

    pub fn add(&mut self, token: u32, frame: Option<&Frame>) {
        self.tokens.push(token as f32);
        let Some(frame) = frame else { return };
        self.frames += 1;
        self.audio.extend(&frame.audio);
        for (name, numbers) in &frame.stages {
            match self.stages.iter_mut().find(|(known, _)| known == name) {
                Some((_, all)) => all.extend(numbers),
                None => self.stages.push((name.clone(), numbers.clone())),
            }
        }
    }

    pub fn write(&self, path: &Path, console: &Console) -> Result<(), Failure> {
        let mut dump = Dump::default();
        dump.add("input_ids", &[self.prompt.len()], &self.prompt);
        dump.add("tokens", &[self.tokens.len()], &self.tokens);
        if let Some(first) = self.rows.first() {
            dump.add(
                "prefill",
                &[self.rows.len(), first.len()],
                &self.rows.concat(),
            );
        }
        for (name, numbers) in &self.stages {
            let width = numbers.len() / self.frames;
            dump.add(name.as_ref(), &[self.frames, width], numbers);
        }
        dump.add("audio", &[self.audio.len()], &self.audio);
        let bytes = dump
            .write(path)
            .map_err(|source| Failure::not_written(path, source))?;
        console.say(format_args!(
            "Wrote {} ({})",
            path.display(),
            gigabytes(bytes)
        ));
        Ok(())
    }
}
