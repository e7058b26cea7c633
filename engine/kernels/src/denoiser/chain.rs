//! Linear layers and work on rows one after another, as a region of the team: each takes a phase.
//! Knows nothing of what they are.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because a phase is over before the next one begins, and because the caller of
// `Chain::new` promises that its phases write what no step of the same phase reads, except
// for rows or outputs of the step's own.

use crate::level::Level;
use crate::linear::{Epilogue, Linear, PanelLinear, Taps, Then};
use crate::run::RunKind;
use crate::shared::Shared;
use crate::team::{Cut, Region, Steps, Team};
use crate::weights::{Matrix, Weights};

/// A linear layer of a chain, whose rows of inputs and of outputs follow one another.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub weights: Matrix<'a>,
    pub bias: Option<Weights<'a>>,
    pub then: Then,
    pub x: Shared<'a, f32>,
    pub out: Shared<'a, f32>,
    pub rows: usize,
    /// So many floats of each worker's, where the rows are multiplied in panels.
    pub panels: Option<(Shared<'a, f32>, usize)>,
}

pub(super) struct Chain<'t, L, R> {
    links: L,
    row: R,
    rows: usize,
    phases: usize,
    bytes: usize,
    team: &'t Team,
}

impl<'a, 't, L, R> Chain<'t, L, R>
where
    L: Fn(usize) -> Option<Layer<'a>> + Sync,
    R: Fn(usize, usize) + Sync,
{
    /// So many phases, each the layer that `links` says, or `row` for each of so many rows. `bytes`
    /// are about those that are gone through.
    ///
    /// # Safety
    /// What a phase writes is read by none of its steps, but for what is the step's own, and all
    /// buffers are borrowed exclusively.
    pub unsafe fn new(
        team: &'t Team,
        (phases, rows): (usize, usize),
        bytes: usize,
        links: L,
        row: R,
    ) -> Self {
        Chain {
            links,
            row,
            rows,
            phases,
            bytes,
            team,
        }
    }

    pub fn run(&self) {
        self.team.run(self);
    }

    fn level(&self) -> Level {
        self.team.level()
    }

    fn rows_cut(&self) -> Cut {
        Cut::pieces(4, self.rows, self.team.threads())
    }
}

impl<'a> Layer<'a> {
    fn in_panels(&self) -> Option<PanelLinear<'a>> {
        Some(PanelLinear {
            linear: self.linear(),
            by_input: false,
            taps: Taps::NONE,
            own: self.panels?,
        })
    }

    fn linear(&self) -> Linear<'a> {
        let Layer { weights, .. } = *self;
        let epilogue = Epilogue {
            then: self.then,
            bias: self.bias,
            gain: None,
            out: self.out,
            stride: weights.rows(),
        };
        Linear {
            weights,
            x: self.x,
            x_stride: weights.cols(),
            rows: self.rows,
            // A row gives the same bits however many there are.
            kind: RunKind::Decode,
            epilogue: Epilogue {
                stride: epilogue.outputs(weights.rows()),
                ..epilogue
            },
            tiles: Shared::new(&mut []),
            // Nothing is quantised.
            rounded: Shared::new(&mut []),
        }
    }
}

impl<'a, L, R> Region for Chain<'_, L, R>
where
    L: Fn(usize) -> Option<Layer<'a>> + Sync,
    R: Fn(usize, usize) + Sync,
{
    fn phases(&self) -> usize {
        self.phases
    }

    fn open(&self, phase: usize) -> usize {
        match (self.links)(phase) {
            Some(layer) => {
                let threads = self.team.threads();
                match layer.in_panels() {
                    Some(panels) => panels.steps(threads),
                    None => layer.linear().steps(self.level(), 0, threads),
                }
            }
            None => self.rows_cut().steps(),
        }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        match (self.links)(phase) {
            // SAFETY: the steps are of this layer, and the phases before it are over.
            Some(layer) => unsafe {
                match layer.in_panels() {
                    Some(panels) => panels.work(self.level(), steps),
                    None => layer.linear().work(self.level(), 0, steps),
                }
            },
            None => {
                let cut = self.rows_cut();
                let rows = steps.flat_map(|step| cut.piece(step));
                rows.for_each(|row| (self.row)(phase, row));
            }
        }
    }
}
