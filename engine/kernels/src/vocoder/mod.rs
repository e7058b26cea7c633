//! Codes to audio, a stream at a time: codebooks, a transformer over a window of frames, and stages
//! of convolutions that lengthen the stream to samples. Rows are times, with their channels side by
//! side. Knows nothing of where codes come from, or of sample rates.

mod parts;
mod pass;
mod rows;
mod scratch;
mod snake;
mod state;
mod tasks;

pub use parts::{
    Snake, StageWeights, UnitWeights, UpsampleWeights, VocoderLayer, VocoderShape, VocoderWeights,
};
pub use scratch::{VocoderScratch, VocoderScratchSize};
pub use state::VocoderState;

use smallvec::SmallVec;

use super::cache::LayerCache;
use super::shared::Shared;
use super::team::Team;
use pass::Pass;

/// The audio of `codes`, which follow what `state` has seen: of each frame one code for each
/// codebook, side by side. How a stream is cut into calls, and how many threads there are, changes
/// no bit.
///
/// # Panics
/// If sizes do not agree, there is no such code, or `state` or `scratch` was made for another shape
/// or team.
pub fn decode_codes(
    team: &Team,
    shape: &VocoderShape,
    weights: &VocoderWeights<'_>,
    state: &mut VocoderState,
    codes: &[u32],
    audio: &mut [f32],
    scratch: &mut VocoderScratch,
) {
    weights.check(shape);
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(*shape == state.shape, "state of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    let (width, samples) = (shape.quantisers, shape.samples());
    let frames = codes.len() / width;
    assert!(
        codes.len() == frames * width && audio.len() == frames * samples,
        "{} codes of {width} a frame to {} samples of {samples}",
        codes.len(),
        audio.len()
    );
    let most = *codes.iter().max().unwrap_or(&0) as usize;
    assert!(most < shape.codes, "code {most} of {}", shape.codes);
    let most = scratch.frames.min(state.frames_max());
    let pieces = codes.chunks(most * width);
    for (codes, audio) in pieces.zip(audio.chunks_mut(most * samples)) {
        let frames = codes.len() / width;
        state.make_room(frames);
        let first = state.filled;
        let frequencies = &scratch.frequencies;
        scratch.rope.turn(first, state.frames(), frequencies);
        state.filled += frames;
        let caches = state.caches.iter_mut().map(LayerCache::share);
        let pass = Pass {
            shape,
            weights,
            tasks: &scratch.tasks,
            codes,
            frames,
            first,
            caches: SmallVec::from_iter(caches),
            rope: &scratch.rope,
            buffers: scratch.block.share(),
            state: Shared::new(&mut state.floats),
            memories: scratch
                .memories
                .each_mut()
                .map(|buffer| Shared::new(buffer)),
            own: Shared::new(&mut scratch.own),
            shown: Shared::new(&mut scratch.shown),
            room: scratch.frames,
            audio: Shared::new(audio),
            level: team.level(),
            threads: team.threads(),
            block_phases: 0,
        };
        team.run(&pass.ready());
    }
}

#[cfg(test)]
mod tests;
