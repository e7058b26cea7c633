//! A predictor of codes at released sizes.

use kernels::{
    BlockShape, PredictorScratch, PredictorShape, PredictorWeights, RopeTable, Team, predict_codes,
};

use super::{Frame, Numbers};

pub struct Predictor<'a> {
    team: &'a Team,
    shape: PredictorShape,
    weights: PredictorWeights<'a>,
    rope: RopeTable,
    rows: Vec<f32>,
    sum: Vec<f32>,
    scratch: PredictorScratch,
}

impl<'a> Predictor<'a> {
    pub fn new(team: &'a Team, mut numbers: Numbers<'a>, input: usize) -> Self {
        let block = BlockShape {
            hidden: 1024,
            ffn: 3072,
            heads: 16,
            kv_heads: 8,
            head_dim: 128,
            norm_eps: 1e-6,
            scale: None,
            residual: 1.0,
        };
        let shape = PredictorShape {
            input,
            layers: 5,
            block,
            codes: 2048,
            steps: 15,
        };
        let wider = input != block.hidden;
        let weights = PredictorWeights {
            projection: wider.then(|| {
                let matrix = numbers.matrix(block.hidden, input);
                (matrix, numbers.take(block.hidden))
            }),
            layers: (0..shape.layers)
                .map(|_| numbers.block(&block, true))
                .collect(),
            norm: numbers.take(block.hidden),
            heads: (0..shape.steps)
                .map(|_| numbers.matrix(shape.codes, block.hidden))
                .collect(),
            embeddings: (0..shape.steps)
                .map(|_| numbers.matrix(shape.codes, input))
                .collect(),
        };
        Predictor {
            team,
            shape,
            weights,
            rope: RopeTable::new(&[0.01; 64], shape.positions()),
            rows: vec![0.5; 2 * input],
            sum: vec![0.0; input],
            scratch: PredictorScratch::new(team, &shape),
        }
    }
}

impl Frame for Predictor<'_> {
    fn name(&self) -> String {
        format!("predictor, input {}", self.shape.input)
    }

    fn stages(&self) -> Vec<(f64, f64)> {
        vec![(self.weights.frame_bytes() as f64, 0.0)]
    }

    fn run(&mut self) {
        // The likeliest.
        let mut choose = |_: usize, logits: &mut [f32]| {
            let all = logits.iter().enumerate();
            let best = all.max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(at, _)| at as u32)
        };
        predict_codes(
            self.team,
            &self.shape,
            &self.weights,
            &self.rope,
            &self.rows,
            &mut choose,
            &mut [0; 15],
            &mut self.sum,
            &mut self.scratch,
        );
    }
}
