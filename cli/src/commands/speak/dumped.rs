//! What is kept of each frame for `--dump`.

use std::path::Path;

use engine::speech::Frame;

use crate::failure::Failure;
use crate::output::{Console, Dump, gigabytes};

/// What is kept of each frame for a file.
#[derive(Debug, Default)]
pub struct Dumped {
    prompt: Vec<f32>,
    tokens: Vec<f32>,
    frames: usize,
    latent: Vec<f32>,
    with_prompt: Vec<f32>,
    without: Vec<f32>,
    semantic: Vec<f32>,
    audio: Vec<f32>,
}

impl Dumped {
    /// The prompt of a part begins.
    pub fn prompt(&mut self, tokens: &[u32]) {
        self.prompt.extend(tokens.iter().map(|&token| token as f32));
    }

    pub fn add(&mut self, token: u32, frame: Option<&Frame>) {
        self.tokens.push(token as f32);
        if let Some(frame) = frame {
            self.frames += 1;
            self.latent.extend(&frame.latent);
            self.with_prompt.extend(&frame.with_prompt);
            self.without.extend(&frame.without);
            self.semantic.extend(&frame.semantic);
            self.audio.extend(&frame.audio);
        }
    }

    pub fn write(&self, path: &Path, console: &Console) -> Result<(), Failure> {
        let mut dump = Dump::default();
        dump.add("input_ids", &[self.prompt.len()], &self.prompt);
        dump.add("tokens", &[self.tokens.len()], &self.tokens);
        for (name, numbers) in [
            ("frame.latent", &self.latent),
            ("frame.cond_pos", &self.with_prompt),
            ("frame.cond_neg", &self.without),
            ("frame.semantic", &self.semantic),
        ] {
            let width = numbers.len().checked_div(self.frames).unwrap_or(0);
            dump.add(name, &[self.frames, width], numbers);
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
