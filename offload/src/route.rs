//! The itinerary that is followed, and the one that follows it: what the prefetch thread loads next, and
//! what visits must come in. Visits and loads are counted from the start of the run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::block::BlockId;
use crate::itinerary::Itinerary;

/// Shared by the ring and its thread.
#[derive(Debug)]
pub(crate) struct Route {
    legs: Mutex<Legs>,
    /// There is another leg, or nobody needs one any more.
    changed: Condvar,
}

#[derive(Debug)]
struct Legs {
    now: Leg,
    next: Option<Turn>,
    /// Loads that the thread has begun.
    begun: u64,
    over: bool,
}

/// An itinerary and the visit that it begins with.
#[derive(Debug)]
struct Leg {
    from: u64,
    itinerary: Itinerary,
}

/// Where another itinerary takes over.
#[derive(Debug)]
struct Turn {
    /// The visit that the old one ends before.
    at: u64,
    /// From `at` to where this begins, loads of the old one come that nobody visits.
    leg: Leg,
}

/// What a visit is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Block(BlockId),
    /// Loads that another itinerary left behind: up to this visit they are given back unseen.
    LeftBehind(u64),
    /// The itinerary is over.
    Nothing,
}

impl Route {
    pub fn new(itinerary: Itinerary) -> Self {
        Self {
            legs: Mutex::new(Legs {
                now: Leg { from: 0, itinerary },
                next: None,
                begun: 0,
                over: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn legs(&self) -> MutexGuard<'_, Legs> {
        // Nothing that is done under the lock leaves it half done.
        self.legs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block of the next load, which begins with this call. Waits where the itinerary is over and
    /// another may follow. `None`: the run is over.
    pub fn begin_load(&self) -> Option<BlockId> {
        let mut legs = self.legs();
        loop {
            if legs.over {
                return None;
            }
            if let Some(block) = legs.load(legs.begun) {
                legs.begun += 1;
                return Some(block);
            }
            legs = (self.changed.wait(legs)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing is loaded any more.
    pub fn end(&self) {
        self.legs().over = true;
        self.changed.notify_all();
    }

    /// What the visit must be, which has not begun.
    pub fn expected(&self, visit: u64) -> Expected {
        let mut legs = self.legs();
        if legs.next.as_ref().is_some_and(|turn| visit >= turn.at)
            && let Some(turn) = legs.next.take()
        {
            legs.now = turn.leg;
        }
        if visit < legs.now.from {
            return Expected::LeftBehind(legs.now.from);
        }
        match legs.now.itinerary.at(visit - legs.now.from) {
            Some(block) => Expected::Block(block),
            None => Expected::Nothing,
        }
    }

    /// Whether a unit of work begins with the visit.
    pub fn begins_unit(&self, visit: u64) -> bool {
        let legs = self.legs();
        match &legs.next {
            Some(turn) if visit >= turn.at => true,
            _ if visit < legs.now.from => true,
            _ => legs.now.unit_from(visit) == visit,
        }
    }

    /// Another itinerary, from the unit on that begins with `visit` or after it.
    pub fn follow(&self, visit: u64, next: Itinerary) {
        let mut legs = self.legs();
        let at = match visit < legs.now.from {
            // The one that is to end has not begun: what comes before it is left behind as well.
            true => visit,
            false => legs.now.unit_from(visit),
        };
        let from = at.max(legs.begun);
        legs.next = Some(Turn {
            at,
            leg: Leg {
                from,
                itinerary: next,
            },
        });
        self.changed.notify_all();
    }
}

impl Legs {
    fn load(&self, load: u64) -> Option<BlockId> {
        let leg = match &self.next {
            Some(turn) if load >= turn.leg.from => &turn.leg,
            _ => &self.now,
        };
        leg.itinerary.at(load - leg.from)
    }
}

impl Leg {
    fn unit_from(&self, visit: u64) -> u64 {
        self.from + self.itinerary.unit_from(visit - self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{LayerIndex, StackId};

    fn of_stack(stack: u16, layers: u16) -> Itinerary {
        let block = |layer| BlockId::new(StackId(stack), LayerIndex(layer));
        Itinerary::new((0..layers).map(block).collect())
    }

    fn layer(block: Option<BlockId>) -> Option<(u16, u16)> {
        block.map(|block| (block.stack.0, block.layer.0))
    }

    #[test]
    fn what_follows_in_time_wastes_no_load() {
        let route = Route::new(of_stack(0, 3));
        assert_eq!(layer(route.begin_load()), Some((0, 0)));
        assert_eq!(layer(route.begin_load()), Some((0, 1)));
        // In the middle of the first unit.
        route.follow(1, of_stack(1, 2));
        let loads: Vec<_> = (0..4).map(|_| layer(route.begin_load())).collect();
        let expected = [(0, 2), (1, 0), (1, 1), (1, 0)].map(Some);
        assert_eq!(loads, expected);
        assert!(matches!(route.expected(2), Expected::Block(block) if block.layer.0 == 2));
        assert!(route.begins_unit(3) && !route.begins_unit(2));
        assert!(matches!(route.expected(3), Expected::Block(block) if block.stack.0 == 1));
        assert!(route.begins_unit(5) && !route.begins_unit(4));
    }

    #[test]
    fn loads_of_the_next_unit_are_left_behind_by_another_itinerary() {
        let route = Route::new(of_stack(0, 2));
        for _ in 0..4 {
            route.begin_load();
        }
        // One visit was made; two loads belong to a unit that does not come.
        route.follow(1, of_stack(1, 1));
        assert_eq!(layer(route.begin_load()), Some((1, 0)));
        assert!(matches!(route.expected(1), Expected::Block(block) if block.layer.0 == 1));
        assert!(route.begins_unit(2));
        assert_eq!(route.expected(2), Expected::LeftBehind(4));
        assert!(matches!(route.expected(4), Expected::Block(block) if block.stack.0 == 1));
    }

    #[test]
    fn the_last_of_several_counts() {
        let route = Route::new(of_stack(0, 2));
        for _ in 0..3 {
            route.begin_load();
        }
        route.follow(2, of_stack(1, 2));
        assert_eq!(layer(route.begin_load()), Some((1, 0)));
        assert_eq!(route.expected(2), Expected::LeftBehind(3));
        route.follow(2, of_stack(2, 2));
        assert_eq!(layer(route.begin_load()), Some((2, 0)));
        assert_eq!(route.expected(2), Expected::LeftBehind(4));
        assert!(matches!(route.expected(4), Expected::Block(block) if block.stack.0 == 2));
    }

    #[test]
    fn one_that_is_over_waits_for_another() {
        let lead: Vec<BlockId> = of_stack(0, 1).blocks().collect();
        let route = Route::new(Itinerary::default().with_lead(lead));
        assert_eq!(layer(route.begin_load()), Some((0, 0)));
        assert_eq!(route.expected(1), Expected::Nothing);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| (layer(route.begin_load()), layer(route.begin_load())));
            route.follow(1, of_stack(1, 1));
            assert_eq!(next.join().unwrap(), (Some((1, 0)), Some((1, 0))));
            let none = scope.spawn(|| {
                route.follow(1, Itinerary::default());
                route.begin_load()
            });
            route.end();
            assert_eq!(none.join().unwrap(), None);
        });
    }
}
