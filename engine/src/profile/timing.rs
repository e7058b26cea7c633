//! Where the time of a whole run went: the stage tree, and the numbers programs ask for. Exists
//! with every feature off.

use std::fmt;
use std::time::Duration;

use super::stage::{Stage, StageTime, StageTimes};
use super::startup::Startup;
use super::totals::Totals;
use super::window::ms;

/// What a run took, from loading to the last token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    pub model_load_ms: f64,
    pub init_ms: f64,
    /// The prompt's pass, to the first token.
    pub prefill_ms: f64,
    /// All tokens after the first, and what the caller did between them.
    pub generate_ms: f64,
    /// From the call that began the generation.
    pub time_to_first_token_ms: Option<f64>,
    pub tokens_per_s: Option<f64>,
    startup: StageTimes,
    generate: Duration,
    totals: Totals,
}

/// One stage, with what nests in it.
#[derive(Debug, Clone, PartialEq)]
pub struct StageNode {
    pub stage: Stage,
    pub time: StageTime,
    /// Of the whole run.
    pub share: f64,
    pub children: Vec<StageNode>,
}

/// The stages of a run in the order in which they happen.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTree {
    pub roots: Vec<StageNode>,
    pub total: Duration,
}

impl Timing {
    pub(crate) fn new(
        startup: &Startup,
        totals: Totals,
        generate: Duration,
        time_to_first_token: Option<Duration>,
    ) -> Self {
        let startup = startup.times;
        Self {
            model_load_ms: ms(startup[Stage::ModelLoad].wall),
            init_ms: ms(startup[Stage::Init].wall),
            prefill_ms: ms(totals.prompt.total),
            generate_ms: ms(generate),
            time_to_first_token_ms: time_to_first_token.map(ms),
            tokens_per_s: totals.tokens_per_s(),
            startup,
            generate,
            totals,
        }
    }

    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    pub fn tree(&self) -> StageTree {
        let Totals { prompt, decode, .. } = &self.totals;
        let one = |wall: Duration| StageTime {
            wall,
            device: None,
            count: u64::from(!wall.is_zero()),
        };
        let steps = StageTime {
            wall: decode.total,
            device: None,
            count: self.totals.decode_passes as u64,
        };
        let roots = [
            (self.startup[Stage::ModelLoad], Stage::ModelLoad),
            (self.startup[Stage::Init], Stage::Init),
            (one(prompt.total), Stage::Prefill),
            (one(self.generate), Stage::Generate),
        ];
        let total = roots.iter().map(|(time, _)| time.wall).sum();
        let roots = roots.into_iter().map(|(time, stage)| {
            let children = match stage {
                Stage::Prefill => pass_nodes(&prompt.stages, total),
                Stage::Generate => {
                    let under = pass_nodes(&decode.stages, total);
                    some(StageNode::new(Stage::Step, steps, under, total))
                }
                _ => Vec::new(),
            };
            StageNode::new(stage, time, children, total)
        });
        StageTree {
            roots: roots.filter(|node| node.time.count > 0).collect(),
            total,
        }
    }
}

fn pass_nodes(times: &StageTimes, total: Duration) -> Vec<StageNode> {
    let nested = |parent| {
        Stage::ALL
            .into_iter()
            .filter(move |stage| stage.parent() == parent)
    };
    nested(None)
        .filter(|stage| stage.in_pass())
        .map(|stage| {
            let children = nested(Some(stage))
                .map(|child| StageNode::new(child, times[child], Vec::new(), total))
                .filter(|node| node.time.count > 0);
            StageNode::new(stage, times[stage], children.collect(), total)
        })
        .filter(|node| node.time.count > 0)
        .collect()
}

fn some(node: StageNode) -> Vec<StageNode> {
    if node.time.count > 0 {
        vec![node]
    } else {
        Vec::new()
    }
}

impl StageNode {
    fn new(stage: Stage, time: StageTime, children: Vec<Self>, total: Duration) -> Self {
        Self {
            stage,
            time,
            share: time.wall.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE),
            children,
        }
    }
}

impl StageTree {
    /// Every node with its depth, parents before children.
    pub fn walk(&self) -> Vec<(usize, &StageNode)> {
        fn go<'a>(node: &'a StageNode, depth: usize, into: &mut Vec<(usize, &'a StageNode)>) {
            into.push((depth, node));
            for child in &node.children {
                go(child, depth + 1, into);
            }
        }
        let mut all = Vec::new();
        for root in &self.roots {
            go(root, 0, &mut all);
        }
        all
    }
}

impl fmt::Display for StageTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<24} {:>11} {:>11} {:>8} {:>11} {:>7}",
            "Stage", "Wall (ms)", "Device (ms)", "Count", "Avg (ms)", "Share"
        )?;
        for (depth, node) in self.walk() {
            let StageTime {
                wall,
                device,
                count,
            } = node.time;
            let name = format!("{:indent$}{}", "", node.stage.name(), indent = 2 * depth);
            let device = device.map_or("-".into(), |device| format!("{:.2}", ms(device)));
            write!(
                f,
                "\n{name:<24} {:>11.2} {device:>11} {count:>8} {:>11.3} {:>6.1}%",
                ms(wall),
                ms(wall) / count as f64,
                node.share * 100.0
            )?;
        }
        Ok(())
    }
}
