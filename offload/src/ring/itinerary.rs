//! The order in which streamed blocks are needed, known ahead: a lead that is visited once, and a
//! cycle that is visited again and again. The cycle is a unit of work (a token, a step), and so is
//! each part of the lead (another model's pass over a prompt); after the last block of a unit comes
//! the first of the next. The prefetch thread loads in this order and nothing else; a visit out of
//! order is refused, not served.

use crate::block::{BlockId, StackId};
use crate::plan::ResidencyPlan;

/// The streamed blocks in visiting order. May cross stacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Itinerary {
    lead: Vec<BlockId>,
    /// Where each of the lead's units ends in it.
    ends: Vec<usize>,
    cycle: Vec<BlockId>,
}

impl Itinerary {
    /// The same blocks in every unit of work.
    pub fn new(cycle: Vec<BlockId>) -> Self {
        Self {
            cycle,
            ..Self::default()
        }
    }

    /// Another unit before the cycle, after those that are there: its blocks are visited once.
    pub fn with_lead(mut self, unit: Vec<BlockId>) -> Self {
        if !unit.is_empty() {
            self.lead.extend(unit);
            self.ends.push(self.lead.len());
        }
        self
    }

    /// The same cycle, without a lead.
    pub fn cycle_only(&self) -> Self {
        Self::new(self.cycle.clone())
    }

    /// The streamed layers of one stack, first to last.
    pub fn of_stack(stack: StackId, plan: &ResidencyPlan) -> Self {
        Self::new(
            plan.streamed()
                .map(|layer| BlockId::new(stack, layer))
                .collect(),
        )
    }

    pub fn is_empty(&self) -> bool {
        self.lead.is_empty() && self.cycle.is_empty()
    }

    /// Streamed blocks in the longest unit of work.
    pub fn len(&self) -> usize {
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        let leads = self.ends.iter().zip(begins).map(|(end, begin)| end - begin);
        leads.chain([self.cycle.len()]).max().unwrap_or(0)
    }

    /// Those of the lead, then those of the cycle.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.lead.iter().chain(&self.cycle).copied()
    }

    /// The block of the `visit`-th visit, counted from where it began. `None`: it is over.
    pub fn at(&self, visit: u64) -> Option<BlockId> {
        let lead = self.lead.len() as u64;
        let (blocks, place) = match visit.checked_sub(lead) {
            None => (&self.lead, visit),
            Some(after) => (&self.cycle, after.checked_rem(self.cycle.len() as u64)?),
        };
        blocks.get(usize::try_from(place).ok()?).copied()
    }

    /// The first visit, from `visit` on, that begins a unit.
    pub fn unit_from(&self, visit: u64) -> u64 {
        let (lead, cycle) = (self.lead.len() as u64, self.cycle.len() as u64);
        match visit.checked_sub(lead) {
            _ if visit == 0 => 0,
            None => {
                let mut ends = self.ends.iter().map(|&end| end as u64);
                ends.find(|&end| end >= visit).unwrap_or(lead)
            }
            Some(after) if cycle > 0 => lead + after.next_multiple_of(cycle),
            Some(_) => visit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::LayerIndex;

    fn block(stack: u16, layer: u16) -> BlockId {
        BlockId::new(StackId(stack), LayerIndex(layer))
    }

    #[test]
    fn the_order_wraps_from_the_last_block_to_the_first() {
        let cycle = vec![block(0, 1), block(0, 4), block(1, 0)];
        let itinerary = Itinerary::new(cycle.clone());
        let visited: Vec<_> = (0..7).map_while(|visit| itinerary.at(visit)).collect();
        assert_eq!(visited, [&cycle[..], &cycle, &cycle[..1]].concat());
        assert_eq!(Itinerary::default().at(0), None);
    }

    #[test]
    fn a_lead_comes_once_and_is_a_unit_of_its_own() {
        let (lead, cycle) = (
            vec![block(1, 0), block(1, 1)],
            vec![block(0, 0), block(0, 1), block(0, 2)],
        );
        let itinerary = Itinerary::new(cycle.clone()).with_lead(lead.clone());
        let visited: Vec<_> = (0..8).map_while(|visit| itinerary.at(visit)).collect();
        assert_eq!(visited, [lead.clone(), cycle.clone(), cycle].concat());
        let units: Vec<u64> = (0..10).map(|visit| itinerary.unit_from(visit)).collect();
        assert_eq!(units, [0, 2, 2, 5, 5, 5, 8, 8, 8, 11]);
        let lead = Itinerary::default().with_lead(lead);
        assert_eq!((lead.at(1), lead.at(2)), (Some(block(1, 1)), None));
        assert_eq!((lead.unit_from(1), lead.unit_from(2)), (2, 2));
    }

    #[test]
    fn a_lead_of_several_units_is_visited_one_after_the_other() {
        let units = [
            vec![block(0, 0)],
            vec![],
            vec![block(1, 0), block(1, 1), block(1, 2)],
            vec![block(2, 0), block(2, 1)],
        ];
        let cycle = vec![block(0, 0), block(0, 1)];
        let itinerary =
            (units.iter().cloned()).fold(Itinerary::new(cycle.clone()), Itinerary::with_lead);
        let visited: Vec<_> = (0..10).map_while(|visit| itinerary.at(visit)).collect();
        assert_eq!(visited, [units.concat(), cycle.clone(), cycle].concat());
        let from: Vec<u64> = (0..10).map(|visit| itinerary.unit_from(visit)).collect();
        assert_eq!(from, [0, 1, 4, 4, 4, 6, 6, 8, 8, 10]);
        assert_eq!(itinerary.len(), 3, "the longest unit's");
    }
}
