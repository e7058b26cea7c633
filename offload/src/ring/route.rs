//! The itinerary that is followed, and the one that follows it: what the prefetch thread loads
//! next, and the order that visits must come in. Visits and loads are counted from the start of the
//! run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::block::BlockId;
use crate::ring::itinerary::Itinerary;

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
    /// None of its loads was ordered before it was known.
    known_since: Instant,
}

/// Where another itinerary takes over.
#[derive(Debug)]
struct Turn {
    /// The visit that the old one ends before.
    at: u64,
    /// From `at` to where this begins, loads of the old one come that nobody visits.
    leg: Leg,
}

/// What a visit must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Loads before it that another itinerary left behind: they are given back unseen.
    pub left_behind: u64,
    /// `None`: the itinerary is over.
    pub block: Option<BlockId>,
}

impl Route {
    pub fn new(itinerary: Itinerary) -> Self {
        Self {
            legs: Mutex::new(Legs {
                now: Leg::new(0, itinerary),
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

    /// The block of the next load, which begins with this call, and since when it has been known.
    /// Waits where the itinerary is over and another may follow. `None`: the run is over.
    pub fn begin_load(&self) -> Option<(BlockId, Instant)> {
        let mut legs = self.legs();
        loop {
            if legs.over {
                return None;
            }
            if let Some(load) = legs.load(legs.begun) {
                legs.begun += 1;
                return Some(load);
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
        let Leg {
            from, itinerary, ..
        } = &legs.now;
        Expected {
            left_behind: from.saturating_sub(visit),
            block: itinerary.at(visit.saturating_sub(*from)),
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
            leg: Leg::new(from, next),
        });
        self.changed.notify_all();
    }
}

impl Legs {
    fn load(&self, load: u64) -> Option<(BlockId, Instant)> {
        let leg = match &self.next {
            Some(turn) if load >= turn.leg.from => &turn.leg,
            _ => &self.now,
        };
        let block = leg.itinerary.at(load - leg.from)?;
        Some((block, leg.known_since))
    }
}

impl Leg {
    fn new(from: u64, itinerary: Itinerary) -> Self {
        let known_since = Instant::now();
        Self {
            from,
            itinerary,
            known_since,
        }
    }

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

    /// Stack and layer of the next load.
    fn load(route: &Route) -> Option<(u16, u16)> {
        let (block, _) = route.begin_load()?;
        Some((block.stack.0, block.layer.0))
    }

    #[track_caller]
    fn check(route: &Route, visit: u64, left_behind: u64, block: (u16, u16)) {
        let (stack, layer) = block;
        let block = Some(BlockId::new(StackId(stack), LayerIndex(layer)));
        assert_eq!(route.expected(visit), Expected { left_behind, block });
    }

    #[test]
    fn what_follows_in_time_wastes_no_load() {
        let route = Route::new(of_stack(0, 3));
        assert_eq!(load(&route), Some((0, 0)));
        assert_eq!(load(&route), Some((0, 1)));
        // In the middle of the first unit.
        route.follow(1, of_stack(1, 2));
        let loads: Vec<_> = (0..4).map(|_| load(&route)).collect();
        let expected = [(0, 2), (1, 0), (1, 1), (1, 0)].map(Some);
        assert_eq!(loads, expected);
        check(&route, 2, 0, (0, 2));
        assert!(route.begins_unit(3) && !route.begins_unit(2));
        check(&route, 3, 0, (1, 0));
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
        assert_eq!(load(&route), Some((1, 0)));
        check(&route, 1, 0, (0, 1));
        assert!(route.begins_unit(2));
        check(&route, 2, 2, (1, 0));
        check(&route, 4, 0, (1, 0));
    }

    #[test]
    fn the_last_of_several_counts() {
        let route = Route::new(of_stack(0, 2));
        for _ in 0..3 {
            route.begin_load();
        }
        route.follow(2, of_stack(1, 2));
        assert_eq!(load(&route), Some((1, 0)));
        check(&route, 2, 1, (1, 0));
        route.follow(2, of_stack(2, 2));
        assert_eq!(load(&route), Some((2, 0)));
        check(&route, 2, 2, (2, 0));
        check(&route, 4, 0, (2, 0));
    }

    #[test]
    fn one_that_is_over_waits_for_another() {
        let lead: Vec<BlockId> = of_stack(0, 1).blocks().collect();
        let route = Route::new(Itinerary::default().with_lead(lead));
        assert_eq!(load(&route), Some((0, 0)));
        assert_eq!(route.expected(1).block, None);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| (load(&route), load(&route)));
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
