//! Which streamed block must come next, as the test has it: the itineraries' legs, where in one the
//! ring is, and which one was said to follow.

use offload::BlockId;

use crate::schedule::Schedule;

#[derive(Debug)]
pub struct Route {
    legs: Vec<(Vec<BlockId>, Vec<BlockId>)>,
    pub leg: usize,
    /// Blocks of this leg that were taken.
    pub done: usize,
    /// The leg that follows.
    said: Option<usize>,
}

impl Route {
    pub fn new(schedule: &Schedule) -> Self {
        let legs = 0..schedule.legs.len();
        Self {
            legs: legs.map(|leg| schedule.streamed_of(leg)).collect(),
            leg: 0,
            done: 0,
            said: None,
        }
    }

    fn at(&self, leg: usize, done: usize) -> Option<BlockId> {
        let (lead, cycle) = &self.legs[leg];
        let in_cycle = || cycle.get((done - lead.len()).checked_rem(cycle.len())?);
        match done < lead.len() {
            true => lead.get(done),
            false => in_cycle(),
        }
        .copied()
    }

    pub fn lead_len(&self) -> usize {
        self.legs[self.leg].0.len()
    }

    /// Blocks of the leg under way that come in all, unless that goes on for ever.
    pub fn ends_after(&self) -> Option<usize> {
        let (lead, cycle) = &self.legs[self.leg];
        cycle.is_empty().then_some(lead.len())
    }

    /// Blocks that are left of the unit under way; none where no block of it was taken.
    pub fn left_of_unit(&self) -> Vec<BlockId> {
        let (lead, cycle) = &self.legs[self.leg];
        let in_unit = match self.done.checked_sub(lead.len()) {
            None if self.done == 0 => 0,
            None => lead.len() - self.done,
            Some(of_cycles) => {
                let over = of_cycles.checked_rem(cycle.len()).unwrap_or(0);
                (cycle.len() - over) % cycle.len().max(1)
            }
        };
        let blocks = (self.done..self.done + in_unit).filter_map(|done| self.at(self.leg, done));
        blocks.collect()
    }

    /// What the next visit must be.
    pub fn next(&self) -> Option<BlockId> {
        match self.said {
            Some(leg) if self.left_of_unit().is_empty() => self.at(leg, 0),
            _ => self.at(self.leg, self.done),
        }
    }

    /// Another leg follows: the one after the last that was said to.
    pub fn follow(&mut self) -> Option<usize> {
        let next = self.said.unwrap_or(self.leg) + 1;
        self.said = Some(next)
            .filter(|&next| next < self.legs.len())
            .or(self.said);
        self.said.filter(|&said| said == next)
    }

    /// Whether the leg that was said to follow has its turn now.
    pub fn turn(&mut self) -> bool {
        let said = match self.left_of_unit().is_empty() {
            true => self.said.take(),
            false => None,
        };
        if let Some(leg) = said {
            (self.leg, self.done) = (leg, 0);
        }
        said.is_some()
    }

    pub fn is_to_turn(&self) -> bool {
        self.said.is_some()
    }
}
