//! The checkpoints that the reference spoke from, held against what it wrote down: rows that enter
//! the talker, and what the codec makes of codes before it computes with them.

use std::path::{Path, PathBuf};

use loader::{CodeSampling, DType, Qwen3Tts, Qwen3TtsComponent, Whole};
use serde_json::Value;

use crate::common::take_apart;
use crate::{Read, floats};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/qwen3tts")
}

fn open(name: &str) -> Qwen3Tts {
    Qwen3Tts::open(&fixtures().join(name)).unwrap()
}

/// Numbers of a run, and ids.
struct Run(crate::common::Parts);

impl Run {
    fn read(name: &str) -> Self {
        Self(take_apart(&fixtures().join(format!("{name}.safetensors"))))
    }

    fn bytes(&self, name: &str) -> &[u8] {
        let offset = |at: usize| self.0.header[name]["data_offsets"][at].as_u64();
        let [start, end] = [0, 1].map(|at| offset(at).unwrap() as usize);
        &self.0.data[start..end]
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        floats(self.bytes(name))
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let ids = self.bytes(name).chunks_exact(8);
        ids.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) as u32)
            .collect()
    }
}

fn product(weight: &[f32], bias: &[f32], x: &[f32]) -> Vec<f32> {
    let rows = weight.chunks_exact(x.len()).zip(bias);
    let dot = |row: &[f32]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f32>();
    rows.map(|(row, bias)| dot(row) + bias).collect()
}

/// A row of the text embedding, through the projection.
fn text_row(opened: &Qwen3Tts, id: u32) -> Vec<f32> {
    let rows = opened.text_rows(Some(DType::F32)).unwrap();
    let mut bytes = vec![0; rows.row_bytes()];
    rows.read(&[id], &mut bytes).unwrap();
    let read = Read::of(opened, Qwen3TtsComponent::TextProjection, Some(DType::F32));
    let layer = |name: &str, x: &[f32]| {
        let of = |part: &str| read.numbers(&format!("linear_{name}.{part}"));
        product(&of("weight"), &of("bias"), x)
    };
    let inner = layer("fc1", &floats(&bytes)).into_iter();
    let inner: Vec<f32> = inner.map(|x| x / (1.0 + (-x).exp())).collect();
    layer("fc2", &inner)
}

fn code_row(opened: &Qwen3Tts, id: u32) -> Vec<f32> {
    let rows = opened
        .talker
        .rows(Whole::Embedding, Some(DType::F32))
        .unwrap();
    let mut bytes = vec![0; rows.row_bytes()];
    rows.read(&[id], &mut bytes).unwrap();
    floats(&bytes)
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0_f32, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 1e-5 * largest,
            "{found} {expected}"
        );
    }
}

#[test]
fn the_files_say_what_the_reference_was_made_of() {
    let tiny = open("tiny");
    let config = &tiny.config;
    assert_eq!(
        (config.spoken, config.text_vocab, config.text_hidden),
        (40, 352, 16)
    );
    assert_eq!((config.predictor.groups, config.predictor.codes()), (6, 40));
    assert!(!config.predictor.projects() && !config.takes_instruct);
    assert_eq!((config.tokens.eos, config.tokens.tts_pad), (49, 299));
    let dialects = config
        .speakers
        .iter()
        .map(|speaker| speaker.dialect.as_deref());
    assert_eq!(
        dialects.collect::<Vec<_>>(),
        [None, Some("beijing_dialect")]
    );
    assert_eq!(config.codec.hop(), 96);
    assert_eq!(config.sampling.repetition_penalty, 1.3);
    let few = CodeSampling {
        draws: true,
        temperature: 0.7,
        top_k: 7,
        top_p: 0.9,
    };
    assert_eq!(config.sampling.predictor, few);
    assert_eq!(
        (config.sampling.talker.top_k, config.sampling.max_new_tokens),
        (12, 8192)
    );
    let wide = open("tiny-wide");
    assert!(wide.config.predictor.projects() && wide.config.takes_instruct);
    assert_eq!(wide.config.sampling.talker.top_k, 50);
    assert_eq!(
        (wide.config.codec.hop(), wide.config.codec.channels()),
        (24, vec![8, 4, 2])
    );
}

#[test]
fn the_rows_of_a_prompt_are_those_of_the_reference() {
    for (checkpoint, name) in [("tiny", "auto"), ("tiny-wide", "instruct")] {
        let (opened, run) = (open(checkpoint), Run::read(name));
        let tokens = &opened.config.tokens;
        let language = opened
            .config
            .languages
            .iter()
            .find(|it| it.name == "english");
        let speaker = &opened.config.speakers[0];
        let text = run.ids("text_ids");
        let (instruct, mut track) = match name {
            "auto" => (Vec::new(), vec![tokens.nothink, tokens.think_bos]),
            _ => (
                run.ids("instruct_ids"),
                vec![tokens.think, tokens.think_bos, language.unwrap().token],
            ),
        };
        track.extend([tokens.think_eos, speaker.token]);
        let mut rows: Vec<Vec<f32>> = Vec::new();
        let alone = instruct.iter().chain(&text[..3]);
        rows.extend(alone.map(|id| text_row(&opened, *id)));
        let mut both = |text, code| {
            rows.push(sum(&text_row(&opened, text), &code_row(&opened, code)));
        };
        track.iter().for_each(|code| both(tokens.tts_pad, *code));
        both(tokens.tts_bos, tokens.pad);
        for id in &text[3..text.len() - 5] {
            both(*id, tokens.pad);
        }
        both(tokens.tts_eos, tokens.pad);
        both(tokens.tts_pad, tokens.bos);
        assert_close(&rows.concat(), &run.numbers("prefill"));
    }
}

#[test]
fn entries_of_the_codec_are_those_of_the_reference() {
    let opened = open("tiny");
    let read = Read::of(&opened, Qwen3TtsComponent::CodecDecoder, Some(DType::F32));
    let codec = &opened.config.codec;
    let expected = Run::read("codec").numbers("stage.quantizer");
    let codes = Run::read("auto").ids("codes");
    let frames = expected.len() / codec.codebook_dim;
    for (frame, codes) in codes
        .chunks_exact(codec.quantizers)
        .take(frames)
        .enumerate()
    {
        let mut out = vec![0.0; codec.codebook_dim];
        for (which, codes) in [("first", &codes[..1]), ("rest", &codes[1..])] {
            let mut entries = vec![0.0; codec.entry];
            for (at, code) in codes.iter().enumerate() {
                let book = format!("quantizer.rvq_{which}.vq.layers.{at}._codebook");
                let sums = read.numbers(&format!("{book}.embedding_sum"));
                let usage = read.numbers(&format!("{book}.cluster_usage"))[*code as usize];
                let sums = &sums[*code as usize * codec.entry..][..codec.entry];
                let entry: Vec<f32> = sums.iter().map(|x| x / usage.max(1e-5)).collect();
                entries = sum(&entries, &entry);
            }
            let weight = read.numbers(&format!("quantizer.rvq_{which}.output_proj.weight"));
            out = product(&weight, &out, &entries);
        }
        let expected: Vec<f32> = expected
            .iter()
            .skip(frame)
            .step_by(frames)
            .copied()
            .collect();
        assert_close(&out, &expected);
    }
}

#[test]
fn a_frame_of_the_predictor_has_the_names_that_the_reference_has() {
    for name in ["tiny", "tiny-wide"] {
        let opened = open(name);
        let found = opened
            .component(Qwen3TtsComponent::Predictor, None)
            .unwrap();
        let file = take_apart(&fixtures().join(name).join("model.safetensors"));
        let stored = file.header.as_object().unwrap();
        let of_predictor = |(name, tensor): (&String, &Value)| {
            let name = name.strip_prefix("talker.code_predictor.")?;
            let shape = tensor["shape"].as_array().unwrap().iter();
            Some((
                name.to_owned(),
                shape.map(|n| n.as_u64().unwrap() as usize).collect(),
            ))
        };
        let mut stored: Vec<(String, Vec<usize>)> =
            stored.iter().filter_map(of_predictor).collect();
        let tensors = found.tensors.into_iter();
        let mut found: Vec<_> = tensors.map(|tensor| (tensor.name, tensor.shape)).collect();
        stored.sort();
        found.sort();
        assert_eq!(found, stored);
    }
}
