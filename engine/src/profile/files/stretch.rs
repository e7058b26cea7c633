//! The stages of a recording as stretches of one clock, parents before what nests in them, and
//! folded by path. A stretch nests in the last one that holds it and that [`Stage`] lets it nest
//! in.

use std::time::{Duration, Instant};

use super::super::pass::PassKind;
use super::super::recording::{Recording, Span, SpanName, StepRecord};
use super::super::stage::Stage;

/// One stage, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub stage: Stage,
    /// Which pass it belongs to; 0 is the prompt's, and what came before it.
    pub step: usize,
    pub from: Instant,
    pub to: Instant,
}

/// A path of stages, with all its occurrences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub stage: Stage,
    pub wall: Duration,
    pub count: u64,
    pub children: Vec<Frame>,
}

/// Every stage of the run in the order of its beginning.
pub fn stretches(recording: &Recording) -> Vec<Stretch> {
    let mut all = Vec::new();
    all.extend(stages(&recording.startup, 0));
    all.extend(generate(&recording.steps));
    for (index, step) in recording.steps.iter().enumerate() {
        let first = all.len();
        all.extend(stages(&step.spans, index));
        let reads = index == 0 || step.timing.kind == PassKind::Prompt;
        let pass = match reads {
            true => Stage::Prefill,
            false => Stage::Step,
        };
        // A pass without a generation around it has no name of its own yet.
        if all[first..].iter().all(|stretch| stretch.stage != pass) {
            let (from, to) = (step.from, step.to);
            all.push(Stretch {
                stage: pass,
                step: index,
                from,
                to,
            });
        }
    }
    // What ended later is the parent of what began and ended with it; `sort_by` is stable.
    all.reverse();
    all.sort_by(|a, b| a.from.cmp(&b.from).then(b.to.cmp(&a.to)));
    all
}

fn stages(spans: &[Span], step: usize) -> impl Iterator<Item = Stretch> + '_ {
    spans.iter().filter_map(move |span| match span.name {
        SpanName::Stage(stage) => Some(Stretch {
            stage,
            step,
            from: span.from,
            to: span.to,
        }),
        SpanName::Layer(_) | SpanName::Measuring => None,
    })
}

/// All passes after the prompt's, and what the caller did between them.
fn generate(steps: &[StepRecord]) -> Option<Stretch> {
    let read = (steps.iter()).rposition(|step| step.timing.kind == PassKind::Prompt);
    let [first, .., last] = &steps[read.unwrap_or(0)..] else {
        return None;
    };
    Some(Stretch {
        stage: Stage::Generate,
        step: 1 + read.unwrap_or(0),
        from: first.to,
        to: last.to,
    })
}

/// The stretches folded by path, each level in the order of the stages.
pub fn frames(recording: &Recording) -> Vec<Frame> {
    let mut roots = Vec::new();
    let mut open: Vec<Stretch> = Vec::new();
    for stretch in stretches(recording) {
        while open.last().is_some_and(|last| !holds(last, &stretch)) {
            open.pop();
        }
        open.push(stretch);
        let mut level = &mut roots;
        for (depth, part) in open.iter().enumerate() {
            let frame = frame_of(level, part.stage);
            if depth + 1 == open.len() {
                frame.wall += part.to.saturating_duration_since(part.from);
                frame.count += 1;
            }
            level = &mut frame.children;
        }
    }
    roots
}

fn holds(outer: &Stretch, inner: &Stretch) -> bool {
    let named = match inner.stage.parent() {
        Some(parent) => outer.stage == parent,
        None => inner.stage.in_pass() && matches!(outer.stage, Stage::Prefill | Stage::Step),
    };
    named && inner.to <= outer.to
}

fn frame_of(level: &mut Vec<Frame>, stage: Stage) -> &mut Frame {
    let place = level.partition_point(|frame| (frame.stage as usize) < stage as usize);
    if level.get(place).is_none_or(|frame| frame.stage != stage) {
        level.insert(
            place,
            Frame {
                stage,
                wall: Duration::ZERO,
                count: 0,
                children: Vec::new(),
            },
        );
    }
    &mut level[place]
}
