//! A causal convolutional encoder or decoder of audio, a stream at a time: audio to latents,
//! latents to audio, and what is kept between two calls. Rows are times, with their channels side
//! by side. Knows nothing of what latents mean, or of sample rates.

mod layers;
mod parts;
mod pass;
mod rows;
mod scratch;
mod state;

pub use parts::{CodecBlock, CodecPart, CodecShape, CodecWeights};
pub use scratch::{CodecScratch, CodecScratchSize};
pub use state::CodecState;

use super::shared::Shared;
use super::team::Team;
use pass::Pass;

/// The latents of `audio`, which follows what `state` has seen: whole hops, a row of latents for
/// each. How a stream is cut into calls, and how many threads there are, changes no bit.
///
/// # Panics
/// If sizes do not agree, the shape is a decoder's, or `state` or `scratch` was made for another
/// shape or team.
pub fn encode(
    team: &Team,
    shape: &CodecShape,
    weights: &CodecWeights<'_>,
    state: &mut CodecState,
    audio: &[f32],
    latents: &mut [f32],
    scratch: &mut CodecScratch,
) {
    assert!(shape.part == CodecPart::Encoder, "a decoder's shape");
    let sizes = (shape.hop() * shape.channels, shape.latent);
    run(
        team,
        shape,
        weights,
        state,
        (audio, latents),
        sizes,
        scratch,
    );
}

/// The audio of `latents`, whole frames that follow what `state` has seen. How a stream is cut into
/// calls, and how many threads there are, changes no bit.
///
/// # Panics
/// If sizes do not agree, the shape is an encoder's, or `state` or `scratch` was made for another
/// shape or team.
pub fn decode(
    team: &Team,
    shape: &CodecShape,
    weights: &CodecWeights<'_>,
    state: &mut CodecState,
    latents: &[f32],
    audio: &mut [f32],
    scratch: &mut CodecScratch,
) {
    assert!(shape.part == CodecPart::Decoder, "an encoder's shape");
    let sizes = (shape.latent, shape.hop() * shape.channels);
    run(
        team,
        shape,
        weights,
        state,
        (latents, audio),
        sizes,
        scratch,
    );
}

fn run(
    team: &Team,
    shape: &CodecShape,
    weights: &CodecWeights<'_>,
    state: &mut CodecState,
    (from, to): (&[f32], &mut [f32]),
    (width_in, width_out): (usize, usize),
    scratch: &mut CodecScratch,
) {
    weights.check(shape);
    assert!(*shape == scratch.shape, "scratch of another shape");
    assert!(*shape == state.shape, "state of another shape");
    assert!(scratch.threads == team.threads(), "scratch of another team");
    let frames = from.len() / width_in;
    assert!(
        from.len() == frames * width_in && to.len() == frames * width_out,
        "{} numbers of frames of {width_in} to {} of {width_out}",
        from.len(),
        to.len()
    );
    let most = scratch.frames;
    let pieces = from.chunks(most * width_in);
    for (from, to) in pieces.zip(to.chunks_mut(most * width_out)) {
        let first = &scratch.layers[0];
        let kept = first.state_floats();
        let [input, output] = &mut scratch.streams;
        input[..kept].copy_from_slice(&state.floats[first.state..first.state + kept]);
        input[kept..kept + from.len()].copy_from_slice(from);
        team.run(&Pass {
            shape,
            weights,
            layers: &scratch.layers,
            phases: &scratch.phases,
            state: Shared::new(&mut state.floats),
            streams: [Shared::new(input), Shared::new(output)],
            gathered: Shared::new(&mut scratch.gathered),
            products: Shared::new(&mut scratch.products),
            normed: Shared::new(&mut scratch.normed),
            inner: Shared::new(&mut scratch.inner),
            own: Shared::new(&mut scratch.own),
            out: Shared::new(to),
            frames: from.len() / width_in,
            level: team.level(),
            threads: team.threads(),
        });
    }
}

#[cfg(test)]
mod tests;
