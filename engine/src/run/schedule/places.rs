//! The sequences that requests run in, and what stays in them for later ones: a request begins from
//! the longest text that it has in common with what was seen before. A state that would be written
//! over is kept aside, as long as there is memory for it; the one that was used longest ago goes first.

use super::super::sequence::{Saved, Sequence};
use super::super::session::Session;
use crate::error::EngineError;

/// Less in common is read again: it costs less than looking after it.
const WORTH_TOKENS: usize = 16;

/// The places that requests run in.
#[derive(Debug)]
pub(super) struct Places {
    places: Vec<Place>,
    kept: Vec<Kept>,
    kept_bytes_max: u64,
    /// Positions of all sequences together.
    positions: usize,
    reuse: bool,
    /// Counts uses, so that they have an order.
    clock: u64,
}

#[derive(Debug)]
struct Place {
    /// `None`: it takes no memory.
    sequence: Option<Sequence>,
    /// The most positions that it has had since it was made: their memory stays.
    reached: usize,
    taken: bool,
    used: u64,
}

#[derive(Debug)]
struct Kept {
    saved: Saved,
    used: u64,
}

/// Where a text was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Place(usize),
    Kept(usize),
}

impl Places {
    pub fn new(session: &Session<'_>, kept_bytes_max: u64, reuse: bool) -> Self {
        let room = session.model().blueprint().room();
        let place = || Place {
            sequence: None,
            reached: 0,
            taken: false,
            used: 0,
        };
        Self {
            places: (0..room.sequences).map(|_| place()).collect(),
            kept: Vec::new(),
            kept_bytes_max,
            positions: room.positions,
            reuse,
            clock: 0,
        }
    }

    /// Bytes of states that are kept aside.
    pub fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|kept| kept.saved.bytes()).sum()
    }

    /// Positions whose memory is taken, and that there are.
    pub fn positions(&self) -> (usize, usize) {
        let reached = self.places.iter().map(|place| place.reached).sum();
        (reached, self.positions)
    }

    /// The sequences, by their places.
    pub fn sequences(&mut self) -> impl Iterator<Item = Option<&mut Sequence>> {
        let places = self.places.iter_mut();
        places.map(|place| place.sequence.as_mut())
    }

    /// Whether requests begin from what others have seen.
    pub fn reuses(&self) -> bool {
        self.reuse
    }

    /// How much of the prompt is there already.
    pub fn known(&self, prompt: &[u32]) -> usize {
        self.longest(prompt).map_or(0, |(_, len)| len)
    }

    /// A place for a prompt, and how much of it is there: all but the last token at most, whose logits
    /// are wanted. `None`: no place is free, or those that run leave too few positions.
    pub fn take(
        &mut self,
        session: &Session<'_>,
        prompt: &[u32],
    ) -> Result<Option<(usize, usize)>, EngineError> {
        let found = self.longest(prompt);
        let (seen, len) = found.map_or((None, 0), |(seen, len)| (Some(seen), len));
        let own = match seen {
            Some(Seen::Place(at)) if !self.places[at].taken => Some(at),
            _ => None,
        };
        let another = self.least_used().filter(|&at| Some(at) != own);
        // Its own text goes on where it is, unless much would be lost and a place stands empty.
        let choices = match own {
            Some(at) if !self.spare(at, len) => [own, None],
            _ => [another, own],
        };
        for at in choices.into_iter().flatten() {
            let from = seen.and_then(|seen| match seen {
                Seen::Place(from) => Some(from),
                Seen::Kept(_) => None,
            });
            let more = (prompt.len() + 1).saturating_sub(self.places[at].reached);
            if self.make_room(more, &[Some(at), from]) {
                self.settle(session, at, (seen, len))?;
                let place = &mut self.places[at];
                place.reached = place.reached.max(prompt.len() + 1);
                return Ok(Some((at, len)));
            }
        }
        Ok(None)
    }

    /// Puts what was seen of a prompt into a place, and keeps aside what is there.
    fn settle(
        &mut self,
        session: &Session<'_>,
        at: usize,
        (seen, len): (Option<Seen>, usize),
    ) -> Result<(), EngineError> {
        self.clock += 1;
        // Taken out, so that it does not make room for what is kept aside.
        let held = match seen {
            Some(Seen::Kept(index)) => Some(self.kept.swap_remove(index)),
            _ => None,
        };
        let goes_on = seen == Some(Seen::Place(at));
        let beside = held.as_ref().map_or(0, |kept| kept.saved.bytes());
        self.keep_aside(at, if goes_on { len } else { 0 }, beside)?;
        if self.places[at].sequence.is_none() {
            self.places[at].sequence = Some(session.sequence()?);
        }
        match (seen, &held) {
            (Some(Seen::Place(from)), _) if from != at => {
                if let [Some(from), Some(to)] = self.both(from, at) {
                    to.adopt(from, len)?;
                }
            }
            (_, Some(kept)) => {
                if let Some(to) = &mut self.places[at].sequence {
                    to.restore(&kept.saved, len)?;
                }
            }
            _ => {
                if let Some(sequence) = &mut self.places[at].sequence {
                    sequence.go_back(len)?;
                }
            }
        }
        // Unless all of it is in the place now.
        if let Some(kept) = held.filter(|kept| kept.saved.tokens().len() > len) {
            let used = self.clock;
            self.kept.push(Kept { used, ..kept });
        }
        let place = &mut self.places[at];
        (place.taken, place.used) = (true, self.clock);
        Ok(())
    }

    /// The sequences of two different places: the first to look at.
    fn both(&mut self, from: usize, to: usize) -> [Option<&mut Sequence>; 2] {
        match self.places.get_disjoint_mut([from, to]) {
            Ok([from, to]) => [from.sequence.as_mut(), to.sequence.as_mut()],
            Err(_) => [None, None],
        }
    }

    /// Nothing runs there any more; what was seen stays for others.
    pub fn free(&mut self, at: usize) {
        self.clock += 1;
        let place = &mut self.places[at];
        (place.taken, place.used) = (false, self.clock);
    }

    /// Nothing runs there any more, and its memory is given back.
    pub fn clear(&mut self, at: usize) {
        let place = &mut self.places[at];
        (place.sequence, place.reached, place.taken) = (None, 0, false);
    }

    /// Each of these places gets one position more. `false`: there are not enough, and nothing was
    /// done but that what nothing runs in was given up.
    pub fn grow(&mut self, places: &[usize]) -> bool {
        let grows = |place: &Place| {
            let len = place.sequence.as_ref().map_or(0, Sequence::len);
            usize::from(len >= place.reached)
        };
        let more = places.iter().map(|&at| grows(&self.places[at])).sum();
        let there = self.make_room(more, &[]);
        if there {
            for &at in places {
                let place = &mut self.places[at];
                place.reached += grows(place);
            }
        }
        there
    }

    /// Makes room for so many positions more, from what nothing runs in, but for `spared`. `false`:
    /// there is not enough.
    fn make_room(&mut self, more: usize, spared: &[Option<usize>]) -> bool {
        loop {
            let (reached, positions) = self.positions();
            if reached + more <= positions {
                return true;
            }
            let idle = self.places.iter().enumerate();
            let idle = idle.filter(|(at, place)| {
                !place.taken && place.reached > 0 && !spared.contains(&Some(*at))
            });
            let Some((at, _)) = idle.min_by_key(|(_, place)| place.used) else {
                return false;
            };
            self.clear(at);
        }
    }

    /// The longest begin of the prompt that was seen, if it is worth going on from.
    fn longest(&self, prompt: &[u32]) -> Option<(Seen, usize)> {
        if !self.reuse {
            return None;
        }
        let most = prompt.len().saturating_sub(1);
        let places = self.places.iter().enumerate().filter_map(|(at, place)| {
            let seen = place.sequence.as_ref()?.tokens();
            Some((Seen::Place(at), seen, !place.taken))
        });
        let kept = self.kept.iter().enumerate();
        let kept = kept.map(|(index, kept)| (Seen::Kept(index), kept.saved.tokens(), false));
        let all = places.chain(kept).map(|(seen, tokens, idle)| {
            let len = in_common(tokens, prompt).min(most);
            (seen, len, idle)
        });
        // Among equals, the one that needs no copy.
        let best = all.max_by_key(|&(_, len, idle)| (len, idle))?;
        (best.1 >= WORTH_TOKENS.min(most.max(1))).then_some((best.0, best.1))
    }

    /// Whether going on there would lose much, and another place stands empty.
    fn spare(&self, at: usize, len: usize) -> bool {
        let seen = self.places[at].sequence.as_ref().map_or(0, Sequence::len);
        let empty = |place: &Place| !place.taken && place.reached == 0;
        seen >= len + WORTH_TOKENS && self.places.iter().any(empty)
    }

    /// The free place whose text was used longest ago; an empty one first.
    fn least_used(&self) -> Option<usize> {
        let places = self.places.iter().enumerate();
        let free = places.filter(|(_, place)| !place.taken);
        let least = free.min_by_key(|(_, place)| (place.reached > 0, place.used));
        least.map(|(at, _)| at)
    }

    /// Keeps aside what is in a place, which is going to be written over from `len` on; `beside` bytes
    /// of the memory for it are taken.
    fn keep_aside(&mut self, at: usize, len: usize, beside: u64) -> Result<(), EngineError> {
        let Place { sequence, used, .. } = &self.places[at];
        let Some(sequence) = sequence else {
            return Ok(());
        };
        let seen = sequence.tokens();
        let lost = seen.len().saturating_sub(len);
        let there = |kept: &Kept| kept.saved.tokens().starts_with(seen);
        if !self.reuse || lost < WORTH_TOKENS || self.kept.iter().any(there) {
            return Ok(());
        }
        let bytes = beside + sequence.saved_bytes(seen.len());
        if bytes > self.kept_bytes_max {
            return Ok(());
        }
        // Kept states that are the begin of this one say nothing that it does not.
        self.kept
            .retain(|kept| !seen.starts_with(kept.saved.tokens()));
        while self.kept_bytes() + bytes > self.kept_bytes_max {
            let oldest = self
                .kept
                .iter()
                .enumerate()
                .min_by_key(|(_, kept)| kept.used);
            match oldest.map(|(index, _)| index) {
                Some(index) => drop(self.kept.swap_remove(index)),
                None => break,
            }
        }
        let (saved, used) = (sequence.save(seen.len())?, *used);
        self.kept.push(Kept { saved, used });
        Ok(())
    }
}

/// How many tokens two texts have in common from their begin on.
pub(super) fn in_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
