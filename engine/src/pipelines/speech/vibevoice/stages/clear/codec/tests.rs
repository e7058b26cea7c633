use std::path::{Path, PathBuf};

use kernels::{CodecScratch, CodecScratchSize, CodecState as KernelState, Level, Team};
use loader::{Component, VibeVoice};

use super::*;
use crate::pipelines::speech::vibevoice::numbers::close;
use crate::pipelines::speech::vibevoice::weights;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vibevoice/tiny-hf")
}

/// A codec both ways.
struct Both {
    team: Team,
    shape: CodecShape,
    part: Part,
    codec: Codec,
    scratch: CodecScratch,
}

impl Both {
    fn of(which: Component) -> Self {
        let system = VibeVoice::open(&fixture()).unwrap();
        let component = system.component(which, Some(loader::DType::F32)).unwrap();
        let part = Part::load(&component, system.sources(), &mut |_| {}).unwrap();
        let (config, of) = match which {
            Component::AcousticDecoder => (&system.config.acoustic, CodecPart::Decoder),
            Component::SemanticEncoder => (&system.config.semantic, CodecPart::Encoder),
            _ => (&system.config.acoustic, CodecPart::Encoder),
        };
        let shape = weights::codec_shape(config, of);
        let size = CodecScratchSize::of(Level::detect(), 2, &shape, 3);
        Self {
            team: Team::new(2),
            codec: Codec::new(&part, &shape, &Device::Cpu).unwrap(),
            scratch: CodecScratch::sized(&size),
            part,
            shape,
        }
    }

    /// Numbers of a frame that it takes, and gives.
    fn sizes(&self) -> (usize, usize) {
        let sound = self.shape.hop() * self.shape.channels;
        match self.shape.part {
            CodecPart::Encoder => (sound, self.shape.latent),
            CodecPart::Decoder => (self.shape.latent, sound),
        }
    }

    fn by_kernels(&mut self, state: &mut KernelState, from: &[f32]) -> Vec<f32> {
        let (taken, given) = self.sizes();
        let mut to = vec![0.0; from.len() / taken * given];
        let run = match self.shape.part {
            CodecPart::Encoder => kernels::encode,
            CodecPart::Decoder => kernels::decode,
        };
        let weights = weights::codec(&self.part, &self.shape);
        let (team, shape, scratch) = (&self.team, &self.shape, &mut self.scratch);
        run(team, shape, &weights, state, from, &mut to, scratch);
        to
    }

    fn by_tensors(&self, state: &mut CodecState, from: &[f32]) -> Vec<f32> {
        let width = match self.shape.part {
            CodecPart::Encoder => self.shape.channels,
            CodecPart::Decoder => self.shape.latent,
        };
        let size = (from.len() / width, width);
        let rows = Tensor::from_slice(from, size, &Device::Cpu).unwrap();
        let given = self.codec.run(state, &rows).unwrap();
        given.flatten_all().unwrap().to_vec1().unwrap()
    }
}

/// So many frames that do not repeat.
fn frames(count: usize, size: usize, seed: f32) -> Vec<f32> {
    let numbers = 0..count * size;
    numbers.map(|at| (at as f32 * 0.37 + seed).sin()).collect()
}

const ALL: [Component; 3] = [
    Component::AcousticEncoder,
    Component::AcousticDecoder,
    Component::SemanticEncoder,
];

#[test]
fn a_stream_is_what_the_kernels_make_of_it_however_it_is_cut() {
    for which in ALL {
        let mut both = Both::of(which);
        let (size, _) = both.sizes();
        let all = frames(5, size, 0.1);
        let expected = both.by_kernels(&mut KernelState::new(&both.shape.clone()), &all);
        for cuts in [&[5][..], &[1, 3, 1], &[1; 5]] {
            let (mut state, mut found, mut rest) = (both.codec.start(), Vec::new(), &all[..]);
            for &cut in cuts {
                let (own, after) = rest.split_at(cut * size);
                found.extend(both.by_tensors(&mut state, own));
                rest = after;
            }
            close(&format!("{which:?} in {cuts:?}"), &found, &expected);
        }
    }
}

#[test]
fn what_one_keeps_the_other_goes_on_from() {
    for which in ALL {
        let mut both = Both::of(which);
        let (size, _) = both.sizes();
        let [first, next] = [(2, 0.3), (1, 0.9)].map(|(count, seed)| frames(count, size, seed));
        let mut theirs = KernelState::new(&both.shape.clone());
        let mut own = both.codec.start();
        both.by_kernels(&mut theirs, &first);
        both.by_tensors(&mut own, &first);
        let filed = both.codec.filed(&own, &Device::Cpu).unwrap();
        let filed: Vec<f32> = filed.to_vec1().unwrap();
        let device = Device::Cpu;
        let mut taken = both
            .codec
            .unfiled(theirs.numbers(), &device)
            .unwrap()
            .unwrap();
        let mut given = KernelState::new(&both.shape.clone());
        assert!(given.go_on_from(&filed));
        let expected = both.by_kernels(&mut theirs, &next);
        close(
            &format!("{which:?}"),
            &both.by_kernels(&mut given, &next),
            &expected,
        );
        close(
            &format!("{which:?}"),
            &both.by_tensors(&mut taken, &next),
            &expected,
        );
        // Of a stream that begins it is nothing but zeros, and another number of them is refused.
        let filed = both.codec.filed(&both.codec.start(), &device).unwrap();
        let filed: Vec<f32> = filed.to_vec1().unwrap();
        assert_eq!(filed, KernelState::new(&both.shape).numbers());
        assert!(both.codec.unfiled(&filed[1..], &device).unwrap().is_none());
    }
}
