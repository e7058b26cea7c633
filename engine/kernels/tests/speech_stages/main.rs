//! The kernels of speech against single stages that the reference computed
//! (`engine/tests/fixtures/vibevoice/make.py`), on the weights as the files have them. Knows the
//! names of tensors, but no engine and no loader: shapes are those of the fixtures' config.json.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../tests/support/numbers.rs"]
mod numbers;
mod weights;

use std::path::{Path, PathBuf};

use kernels::{
    Between, CodecPart, CodecScratch, CodecShape, CodecState, CodecWeights, ConnectScratch,
    ConvWeights, DenoiserScratch, DenoiserShape, Level, Matrix, Team, Weights, condition, connect,
    decode, denoise, denoise_step, embed_times, encode,
};
use numbers::{Numbers, close};
use weights::Checkpoint;

/// Frames that go through together, where more than one does.
const FRAMES: usize = 4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/vibevoice")
}

fn stages() -> Numbers {
    Numbers::read(&fixtures().join("stages.safetensors"))
}

/// A team at each level of this machine.
fn teams() -> impl Iterator<Item = Team> {
    let levels = Level::ALL.into_iter().filter(|level| level.is_supported());
    levels.map(|level| Team::with_level(2, level))
}

const ACOUSTIC_ENCODER: &str = "model.audio_tower.encoder";
const ACOUSTIC_DECODER: &str = "model.audio_tower.decoder";
const SEMANTIC_ENCODER: &str = "model.semantic_tokenizer_encoder";

/// `audio_config` and `semantic_model_config` of tiny-hf differ in `hidden_size`, the latent.
fn tiny(part: CodecPart, latent: usize) -> CodecShape {
    CodecShape {
        part,
        channels: 1,
        latent,
        filters: 3,
        ratios: vec![3, 2, 4],
        depths: match part {
            CodecPart::Encoder => vec![1, 2, 1, 1],
            CodecPart::Decoder => vec![1, 1, 2, 1],
        },
        kernel: 7,
        expansion: 4,
        norm_eps: 1e-5,
    }
}

/// `diffusion_head_config` of tiny-hf.
const HEAD: DenoiserShape = DenoiserShape {
    layers: 2,
    hidden: 24,
    ffn: 72,
    latent: 4,
    frequency: 256,
    norm_eps: 1e-5,
};

/// What the codec makes of `from`: in one call, or in calls of so many frames.
fn run(
    team: &Team,
    shape: &CodecShape,
    weights: &CodecWeights<'_>,
    from: &[f32],
    frames: Option<usize>,
) -> Vec<f32> {
    let audio = shape.hop() * shape.channels;
    let (width_in, width_out) = match shape.part {
        CodecPart::Encoder => (audio, shape.latent),
        CodecPart::Decoder => (shape.latent, audio),
    };
    let frames = frames.unwrap_or(from.len() / width_in);
    let mut state = CodecState::new(shape);
    let mut scratch = CodecScratch::new(team, shape, frames.min(FRAMES));
    let mut out = vec![f32::NAN; from.len() / width_in * width_out];
    let calls = from.chunks(frames * width_in);
    for (from, to) in calls.zip(out.chunks_mut(frames * width_out)) {
        let state = &mut state;
        match shape.part {
            CodecPart::Encoder => encode(team, shape, weights, state, from, to, &mut scratch),
            CodecPart::Decoder => decode(team, shape, weights, state, from, to, &mut scratch),
        }
    }
    out
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Whether it is `expected` that comes of `from`, at each level, in one call as frame by frame.
fn check_codec(what: &str, prefix: &str, shape: &CodecShape, from: &[f32], expected: &[f32]) {
    for (form, checkpoint) in Checkpoint::both("tiny-hf/model.safetensors") {
        let weights = checkpoint.part(prefix).codec(shape);
        for team in teams() {
            let what = format!("{what} {form} {}", team.level());
            let whole = run(&team, shape, &weights, from, None);
            close(&what, &whole, expected);
            for frames in [1, 2, 5] {
                let cut = run(&team, shape, &weights, from, Some(frames));
                assert!(bits(&cut) == bits(&whole), "{what}: {frames} frames a call");
            }
        }
    }
}

/// The recorded sound, filled up to whole frames.
fn sound(stages: &Numbers, name: &str, hop: usize) -> Vec<f32> {
    let mut sound = stages.get(name);
    sound.resize(sound.len().next_multiple_of(hop), 0.0);
    sound
}

#[test]
fn voices_are_encoded_as_by_the_reference() {
    let (stages, shape) = (stages(), tiny(CodecPart::Encoder, 4));
    let from = sound(&stages, "acoustic.encode.in", shape.hop());
    let expected = stages.get("acoustic.encode.out");
    check_codec("acoustic", ACOUSTIC_ENCODER, &shape, &from, &expected);
}

#[test]
fn meaning_is_encoded_as_by_the_reference() {
    let (stages, shape) = (stages(), tiny(CodecPart::Encoder, 6));
    let from = sound(&stages, "semantic.encode.in", shape.hop());
    let expected = stages.get("semantic.encode.out");
    check_codec("semantic", SEMANTIC_ENCODER, &shape, &from, &expected);
}

#[test]
fn latents_are_decoded_as_by_the_reference() {
    let (stages, shape) = (stages(), tiny(CodecPart::Decoder, 4));
    let from = stages.get("acoustic.decode.in");
    let expected = stages.get("acoustic.decode.out");
    check_codec("decoder", ACOUSTIC_DECODER, &shape, &from, &expected);
}

/// The codec up to a stage: it gives the rows of that stage as they are.
fn up_to(shape: &CodecShape, stage: usize) -> CodecShape {
    let count = shape.ratios.len();
    let depths = shape.depths[..=stage].to_vec();
    match shape.part {
        CodecPart::Encoder => CodecShape {
            ratios: shape.ratios[..stage].to_vec(),
            latent: shape.filters << stage,
            depths,
            ..shape.clone()
        },
        CodecPart::Decoder => CodecShape {
            ratios: shape.ratios[count - stage..].to_vec(),
            filters: shape.filters << (count - stage),
            channels: shape.filters << (count - stage),
            depths,
            ..shape.clone()
        },
    }
}

/// A last convolution that gives each time back: the weights of the latest tap are one.
fn unchanged(channels: usize, kernel: usize) -> Vec<f32> {
    let mut weight = vec![0.0; channels * channels * kernel];
    for channel in 0..channels {
        weight[(channel * channels + channel) * kernel + kernel - 1] = 1.0;
    }
    weight
}

#[test]
fn each_stage_of_the_codec_is_the_references() {
    let stages = stages();
    let encoded = sound(&stages, "acoustic.encode.in", 24);
    let cases = [
        (CodecPart::Encoder, ACOUSTIC_ENCODER, "encode", encoded),
        (
            CodecPart::Decoder,
            ACOUSTIC_DECODER,
            "decode",
            stages.get("acoustic.decode.in"),
        ),
    ];
    let checkpoint = Checkpoint::read("tiny-hf/model.safetensors", true);
    for (part, prefix, name, from) in cases {
        for stage in 0..4 {
            let shape = up_to(&tiny(part, 4), stage);
            let channels = match part {
                CodecPart::Encoder => shape.latent,
                CodecPart::Decoder => shape.channels,
            };
            let head = unchanged(channels, shape.kernel);
            let bias = vec![0.0; channels];
            let weights = CodecWeights {
                head: ConvWeights {
                    weight: Matrix::new(Weights::F32(&head), channels, channels * shape.kernel),
                    bias: Weights::F32(&bias),
                },
                ..checkpoint.part(prefix).codec(&shape)
            };
            let expected = stages.get(&format!("acoustic.{name}.stage.{stage}"));
            let times = expected.len() / channels;
            for team in teams() {
                let found = run(&team, &shape, &weights, &from, Some(1));
                // The reference has all times of a channel side by side.
                let found: Vec<f32> = (0..expected.len())
                    .map(|at| found[at % times * channels + at / times])
                    .collect();
                close(
                    &format!("{name} stage {stage} {}", team.level()),
                    &found,
                    &expected,
                );
            }
        }
    }
}

#[test]
fn a_sine_comes_back_from_the_codec_that_only_delays() {
    /// Samples, as `make.py` constructs the weights.
    const DELAY: usize = 11;
    let stages = stages();
    let sine = |part| CodecShape {
        part,
        channels: 1,
        latent: 8,
        filters: 1,
        ratios: vec![2, 2, 2],
        depths: vec![1; 4],
        kernel: 7,
        expansion: 4,
        norm_eps: 1e-5,
    };
    let sound = stages.get("sine.in");
    assert!(sound.iter().any(|sample| *sample > 0.49), "a sine");
    for (form, checkpoint) in Checkpoint::both("sine.safetensors") {
        let shapes = [CodecPart::Encoder, CodecPart::Decoder].map(sine);
        let [encoder, decoder] = [ACOUSTIC_ENCODER, ACOUSTIC_DECODER];
        let encoder = checkpoint.part(encoder).codec(&shapes[0]);
        let decoder = checkpoint.part(decoder).codec(&shapes[1]);
        for team in teams() {
            for frames in [Some(1), None] {
                let what = format!("{form} {} {frames:?} frames a call", team.level());
                let latents = run(&team, &shapes[0], &encoder, &sound, frames);
                let heard = run(&team, &shapes[1], &decoder, &latents, frames);
                // Nothing is rounded: each number is one of those that went in.
                assert!(latents == stages.get("sine.latents"), "{what}: latents");
                assert!(heard == stages.get("sine.out"), "{what}: sound");
                assert!(heard[..DELAY].iter().all(|sample| *sample == 0.0), "{what}");
                assert!(
                    heard[DELAY..] == sound[..sound.len() - DELAY],
                    "{what}: another sine"
                );
            }
        }
    }
}

#[test]
fn connectors_are_the_references() {
    /// transformers' default, which config.json does not name.
    const EPS: f32 = 1e-6;
    let stages = stages();
    for (form, checkpoint) in Checkpoint::both("tiny-hf/model.safetensors") {
        for (name, prefix) in [
            ("acoustic", "model.multi_modal_projector"),
            ("semantic", "model.semantic_connector"),
        ] {
            let part = checkpoint.part(prefix);
            let x = stages.get(&format!("connector.{name}.in"));
            let expected = stages.get(&format!("connector.{name}.out"));
            for team in teams() {
                let mut out = vec![f32::NAN; expected.len()];
                connect(
                    &team,
                    part.matrix("linear_1.weight"),
                    part.vector("linear_1.bias"),
                    Between::Norm(part.vector("act.weight"), EPS),
                    part.matrix("linear_2.weight"),
                    part.vector("linear_2.bias"),
                    &x,
                    &mut out,
                    &mut ConnectScratch::new(&team, HEAD.hidden, 2),
                );
                close(
                    &format!("{name} connector {form} {}", team.level()),
                    &out,
                    &expected,
                );
            }
        }
    }
}

#[test]
fn the_diffusion_head_is_the_references() {
    let stages = stages();
    let [z, times, conditions, expected] =
        ["z", "t", "condition", "out"].map(|name| stages.get(&format!("head.{name}")));
    let (rows, latent, hidden) = (times.len(), HEAD.latent, HEAD.hidden);
    for (form, checkpoint) in Checkpoint::both("tiny-hf/model.safetensors") {
        let weights = checkpoint
            .part("model.diffusion_head")
            .denoiser(HEAD.layers);
        for team in teams() {
            let what = format!("head {form} {}", team.level());
            let mut scratch = DenoiserScratch::new(&team, &HEAD, rows, rows);
            // Each row by itself, at its time.
            let mut alone = vec![f32::NAN; expected.len()];
            for row in 0..rows {
                let range = row * latent..(row + 1) * latent;
                denoise(
                    &team,
                    &HEAD,
                    &weights,
                    &z[range.clone()],
                    times[row],
                    &conditions[row * hidden..(row + 1) * hidden],
                    &mut alone[range],
                    &mut scratch,
                );
            }
            close(&what, &alone, &expected);
            // All rows at all times, as a run prepares them.
            embed_times(&team, &HEAD, &weights, &times, &mut scratch);
            condition(&team, &HEAD, &weights, &conditions, &mut scratch);
            let mut together = Vec::new();
            for time in 0..rows {
                let mut out = vec![f32::NAN; expected.len()];
                denoise_step(&team, &HEAD, &weights, time, &z, &mut out, &mut scratch);
                together.extend_from_slice(&out[time * latent..(time + 1) * latent]);
            }
            close(&format!("{what} together"), &together, &expected);
        }
    }
}
