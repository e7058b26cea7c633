//! Linear layers and work on rows one after another, as a region of the team: each link takes a phase,
//! or one more where rows are rounded for quantised weights first. Knows nothing of what they are.
#![expect(unsafe_code, reason = "shares buffers between workers")]
// Sound because a phase is over before the next one begins, and because the caller of
// `Chain::new` promises that its phases write what no step of the same phase reads, except
// for rows or outputs of the step's own.

use smallvec::SmallVec;

use crate::level::Level;
use crate::linear::{Epilogue, Linear, PanelLinear, Taps, Then};
use crate::quant::Octet;
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
    /// Where quantised weights find the rows rounded.
    pub rounded: Shared<'a, Octet>,
}

pub(super) struct Chain<'t, L, R> {
    links: L,
    row: R,
    rows: usize,
    /// The phase after each link's last.
    ends: SmallVec<[usize; LINKS]>,
    bytes: usize,
    team: &'t Team,
}

/// Of the heads that are known; longer chains allocate.
const LINKS: usize = 32;

impl<'a, 't, L, R> Chain<'t, L, R>
where
    L: Fn(usize) -> Option<Layer<'a>> + Sync,
    R: Fn(usize, usize) + Sync,
{
    /// So many links, each the layer that `links` says, or `row` for each of so many rows. `bytes`
    /// are about those that are gone through.
    ///
    /// # Safety
    /// What a phase writes is read by none of its steps, but for what is the step's own, and all
    /// buffers are borrowed exclusively.
    pub unsafe fn new(
        team: &'t Team,
        (count, rows): (usize, usize),
        bytes: usize,
        links: L,
        row: R,
    ) -> Self {
        let mut end = 0;
        let ends = (0..count).map(|link| {
            end += links(link).map_or(1, |layer| layer.phases(team));
            end
        });
        Chain {
            ends: ends.collect(),
            links,
            row,
            rows,
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

    /// The link that a phase of the region is of, and which of the link's phases it is.
    fn at(&self, phase: usize) -> (usize, usize) {
        let link = self.ends.partition_point(|end| *end <= phase);
        let start = link.checked_sub(1).map_or(0, |before| self.ends[before]);
        (link, phase - start)
    }
}

impl Layer<'_> {
    fn phases(&self, team: &Team) -> usize {
        match self.panels {
            Some(_) => 1,
            None => self.linear().phases(team.level(), team.threads()),
        }
    }

    fn in_panels(&self) -> Option<PanelLinear<'_>> {
        Some(PanelLinear {
            linear: self.linear(),
            by_input: false,
            taps: Taps::NONE,
            own: self.panels?,
        })
    }

    fn linear(&self) -> Linear<'_> {
        let weights = &self.weights;
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
            rounded: self.rounded,
        }
    }
}

impl<'a, L, R> Region for Chain<'_, L, R>
where
    L: Fn(usize) -> Option<Layer<'a>> + Sync,
    R: Fn(usize, usize) + Sync,
{
    fn phases(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn open(&self, phase: usize) -> usize {
        let threads = self.team.threads();
        let (link, phase) = self.at(phase);
        let Some(layer) = (self.links)(link) else {
            return self.rows_cut().steps();
        };
        match layer.in_panels() {
            Some(panels) => panels.steps(threads),
            None => layer.linear().steps(self.level(), phase, threads),
        }
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn work(&self, phase: usize, steps: &mut Steps<'_>) {
        let (link, phase) = self.at(phase);
        let Some(layer) = (self.links)(link) else {
            let cut = self.rows_cut();
            let rows = steps.flat_map(|step| cut.piece(step));
            return rows.for_each(|row| (self.row)(link, row));
        };
        // SAFETY: the steps are of this phase of the layer, and the phases before it are over.
        unsafe {
            match layer.in_panels() {
                Some(panels) => panels.work(self.level(), steps),
                None => layer.linear().work(self.level(), phase, steps),
            }
        }
    }
}
