//! A predictor spelt in double precision over a whole frame, with weights of any format.

use crate::block::{BlockShape, BlockWeights};
use crate::predictor::{PredictorShape, PredictorWeights};
use crate::testing::{Format, Owned, Random};
use crate::weights::{Matrix, Weights};

/// Numbers and the sizes of what they make.
pub(super) struct Part(Owned, usize, usize);

impl Part {
    pub fn matrix(&self) -> Matrix<'_> {
        self.0.matrix(self.1, self.2)
    }

    pub fn vector(&self) -> Weights<'_> {
        self.0.weights()
    }

    fn at(&self, row: usize, col: usize) -> f64 {
        f64::from(self.0.weights().get(row * self.2 + col))
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        let output = |row| (0..self.2).map(|col| self.at(row, col) * x[col]).sum();
        (0..self.1).map(output).collect()
    }

    fn norm(&self, x: &[f64], eps: f32) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(eps)).sqrt();
        let all = x.iter().enumerate();
        all.map(|(i, x)| x * scale * self.at(i, 0)).collect()
    }
}

struct Layer {
    /// Of the input, of queries, of keys, and before the feed-forward part.
    norms: [Part; 4],
    qkv: Part,
    out: Part,
    gate_up: Part,
    down: Part,
}

impl Layer {
    fn weights(&self) -> BlockWeights<'_> {
        let norms = self.norms.each_ref().map(|norm| Some(norm.vector()));
        let [input_norm, q_norm, k_norm, post_norm] = norms;
        BlockWeights {
            input_norm,
            qkv: self.qkv.matrix(),
            qkv_bias: None,
            q_norm,
            k_norm,
            out: self.out.matrix(),
            out_bias: None,
            out_norm: None,
            post_norm,
            gate_up: self.gate_up.matrix(),
            gate_up_bias: None,
            down: self.down.matrix(),
            down_bias: None,
            down_norm: None,
        }
    }
}

pub(super) struct Plain {
    shape: PredictorShape,
    pub frequencies: Vec<f32>,
    projection: Option<(Part, Part)>,
    layers: Vec<Layer>,
    norm: Part,
    heads: Vec<Part>,
    embeddings: Vec<Part>,
}

impl Plain {
    pub fn new(shape: &PredictorShape, format: Format, random: &mut Random) -> Self {
        let PredictorShape { input, block, .. } = *shape;
        let BlockShape {
            hidden,
            ffn,
            heads,
            head_dim,
            ..
        } = block;
        let mut part = |rows: usize, cols: usize| {
            let scale = 2.0 / (cols as f32).sqrt();
            Part(
                Owned::random(format, rows * cols, scale, random),
                rows,
                cols,
            )
        };
        let pairs = head_dim / 2;
        let frequency = |at| 100f32.powf(-(at as f32) / pairs as f32);
        Plain {
            shape: *shape,
            frequencies: (0..pairs).map(frequency).collect(),
            projection: (input != hidden).then(|| (part(hidden, input), part(hidden, 1))),
            layers: (0..shape.layers)
                .map(|_| Layer {
                    norms: [hidden, head_dim, head_dim, hidden].map(|width| part(width, 1)),
                    qkv: part(block.qkv_rows(), hidden),
                    out: part(hidden, heads * head_dim),
                    gate_up: part(2 * ffn, hidden),
                    down: part(hidden, ffn),
                })
                .collect(),
            norm: part(hidden, 1),
            heads: (0..shape.steps)
                .map(|_| part(shape.codes, hidden))
                .collect(),
            embeddings: (0..shape.steps).map(|_| part(shape.codes, input)).collect(),
        }
    }

    pub fn weights(&self) -> PredictorWeights<'_> {
        let projection = self.projection.as_ref();
        PredictorWeights {
            projection: projection.map(|(matrix, bias)| (matrix.matrix(), bias.vector())),
            layers: self.layers.iter().map(Layer::weights).collect(),
            norm: self.norm.vector(),
            heads: self.heads.iter().map(Part::matrix).collect(),
            embeddings: self.embeddings.iter().map(Part::matrix).collect(),
        }
    }

    /// The logits of each step, and the sum of the embeddings of the codes that are chosen.
    pub fn run(&self, rows: &[f32], codes: &[u32]) -> (Vec<f64>, Vec<f64>) {
        let input = self.shape.input;
        let mut caches = vec![Vec::new(); self.layers.len()];
        let (mut logits, mut sum) = (Vec::new(), vec![0.0; input]);
        let mut coming: Vec<Vec<f64>> = Vec::new();
        for row in rows.chunks(input) {
            coming.push(row.iter().map(|x| f64::from(*x)).collect());
        }
        for (step, code) in codes.iter().enumerate() {
            let mut last = Vec::new();
            for row in &coming {
                last = self.row(row, &mut caches);
            }
            let last = self.norm.norm(&last, self.shape.block.norm_eps);
            logits.extend(self.heads[step].times(&last));
            let table = &self.embeddings[step];
            let row: Vec<f64> = (0..input).map(|at| table.at(*code as usize, at)).collect();
            sum.iter_mut().zip(&row).for_each(|(sum, x)| *sum += x);
            coming = vec![row];
        }
        (logits, sum)
    }

    /// One position through all layers; keys and values are kept.
    fn row(&self, row: &[f64], caches: &mut [Vec<(Vec<f64>, Vec<f64>)>]) -> Vec<f64> {
        let BlockShape {
            ffn,
            heads,
            kv_heads,
            head_dim,
            norm_eps,
            ..
        } = self.shape.block;
        let mut x = match &self.projection {
            None => row.to_vec(),
            Some((matrix, bias)) => {
                let all = matrix.times(row).into_iter().enumerate();
                all.map(|(at, x)| x + bias.at(at, 0)).collect()
            }
        };
        for (layer, cache) in self.layers.iter().zip(caches) {
            let [input_norm, q_norm, k_norm, post_norm] = &layer.norms;
            let qkv = layer.qkv.times(&input_norm.norm(&x, norm_eps));
            let (q, kv) = qkv.split_at(heads * head_dim);
            let (k, v) = kv.split_at(kv_heads * head_dim);
            let turned = |all: &[f64], norm: &Part| -> Vec<f64> {
                let heads = all.chunks(head_dim);
                let heads = heads.map(|head| norm.norm(head, norm_eps));
                heads
                    .flat_map(|head| self.turn(cache.len(), &head))
                    .collect()
            };
            let (q, k) = (turned(q, q_norm), turned(k, k_norm));
            cache.push((k, v.to_vec()));
            let mut attended = Vec::new();
            for head in 0..heads {
                let of_group = head / (heads / kv_heads) * head_dim;
                let q = &q[head * head_dim..(head + 1) * head_dim];
                let score = |(k, _): &(Vec<f64>, Vec<f64>)| {
                    let k = &k[of_group..of_group + head_dim];
                    let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                    (dot / (head_dim as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = cache.iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                attended.extend((of_group..of_group + head_dim).map(|at| {
                    let values = cache.iter().zip(&scores);
                    values
                        .map(|((_, v), score)| v[at] * score / total)
                        .sum::<f64>()
                }));
            }
            let add = |x: &mut Vec<f64>, more: Vec<f64>| {
                x.iter_mut().zip(more).for_each(|(x, more)| *x += more);
            };
            add(&mut x, layer.out.times(&attended));
            let both = layer.gate_up.times(&post_norm.norm(&x, norm_eps));
            let (gates, values) = both.split_at(ffn);
            let inner = gates.iter().zip(values);
            let inner: Vec<f64> = inner.map(|(g, v)| g / (1.0 + (-g).exp()) * v).collect();
            add(&mut x, layer.down.times(&inner));
        }
        x
    }

    fn turn(&self, position: usize, head: &[f64]) -> Vec<f64> {
        let half = head.len() / 2;
        let mut out = head.to_vec();
        for (at, frequency) in self.frequencies.iter().enumerate() {
            let (sin, cos) = (position as f64 * f64::from(*frequency)).sin_cos();
            let (low, high) = (head[at], head[at + half]);
            (out[at], out[at + half]) = (low * cos - high * sin, high * cos + low * sin);
        }
        out
    }
}
