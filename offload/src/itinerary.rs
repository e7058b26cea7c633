//! The order in which streamed blocks are needed, known ahead and cyclic: after the last block of
//! this unit of work (a token, a step) comes the first of the next. The prefetch thread loads in
//! this order and nothing else; a visit out of order is refused, not served.

use crate::block::{BlockId, StackId};
use crate::plan::ResidencyPlan;

/// The streamed blocks of one unit of work in visiting order. May cross stacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Itinerary {
    order: Vec<BlockId>,
}

impl Itinerary {
    pub fn new(order: Vec<BlockId>) -> Self {
        Self { order }
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
        self.order.is_empty()
    }

    /// Streamed blocks in one unit of work.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn blocks(&self) -> &[BlockId] {
        &self.order
    }

    /// The block of the `visit`-th visit, counted from the start of the run.
    pub fn at(&self, visit: u64) -> Option<BlockId> {
        let len = self.order.len() as u64;
        let place = visit.checked_rem(len)?;
        self.order.get(usize::try_from(place).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::LayerIndex;

    #[test]
    fn the_order_wraps_from_the_last_block_to_the_first() {
        let block = |stack, layer| BlockId::new(StackId(stack), LayerIndex(layer));
        let itinerary = Itinerary::new(vec![block(0, 1), block(0, 4), block(1, 0)]);
        let visited: Vec<_> = (0..5).filter_map(|visit| itinerary.at(visit)).collect();
        assert_eq!(
            visited,
            [
                block(0, 1),
                block(0, 4),
                block(1, 0),
                block(0, 1),
                block(0, 4)
            ]
        );
        assert_eq!(Itinerary::new(Vec::new()).at(0), None);
    }
}
