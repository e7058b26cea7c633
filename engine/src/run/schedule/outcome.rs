//! What becomes of a pass: each request is told what it gave it, one that failed is found, and those
//! that have ended leave.

use std::time::Instant;

use super::request::Told;
use super::{Planned, Scheduler};
use crate::error::EngineError;
use crate::profile::PassTiming;

impl Scheduler<'_> {
    /// What came of a pass: for each that took part, more of its prompt, or a token.
    pub(super) fn tell_all(
        &mut self,
        planned: &[Planned],
        timing: &PassTiming,
        tell: &mut dyn FnMut(u64, Told),
    ) {
        let loads = self.session.loads().iter();
        let bytes: u64 = loads.map(|load| load.bytes).sum();
        let reads = |planned: &&Planned| self.running[planned.at].reads();
        let readers = planned.iter().filter(reads).count();
        let rows = planned.iter().filter(reads).map(|planned| planned.tokens);
        self.pace.learn(timing, rows.sum(), planned.len() - readers);
        let says = planned
            .iter()
            .filter(|planned| self.running[planned.at].says_after(planned.tokens))
            .count();
        let logits = if says > 0 {
            self.session.logits()
        } else {
            &mut []
        };
        let size = (logits.len() / says.max(1)).max(1);
        let mut each = logits.chunks_exact_mut(size);
        let mut failed = Vec::new();
        for planned in planned {
            let request = &mut self.running[planned.at];
            let said = request.says_after(planned.tokens);
            let prompt = request.continuation.prompt_tokens();
            let of_prompt = request.seen < prompt;
            request.seen += planned.tokens;
            request.account.passes += timing.total;
            request.account.stalled += timing.stalled();
            request.account.link_bytes += bytes;
            if of_prompt {
                tell(request.id, Told::Prompt { read: request.seen });
            }
            if !said {
                continue;
            }
            let Some(logits) = each.next() else {
                continue;
            };
            match request.continuation.sample(logits) {
                Ok(token) => {
                    if let Some((from, to)) = request.continuation.times().mask {
                        request.account.masking += to - from;
                    }
                    request.first_token.get_or_insert_with(Instant::now);
                    if !request.continuation.is_end(token) {
                        tell(request.id, Told::Token(request.continuation.take(token)));
                    }
                }
                Err(error) => failed.push((request.id, error)),
            }
        }
        for (id, error) in failed {
            self.drop_request(id);
            tell(id, Told::Failed(error));
        }
        self.take_out(tell);
    }

    /// A pass failed. If it was one request's, that one fails; else each runs alone once.
    pub(super) fn failed(
        &mut self,
        planned: &[Planned],
        error: EngineError,
        tell: &mut dyn FnMut(u64, Told),
    ) {
        match planned {
            [one] => {
                let request = self.running.remove(one.at);
                // What it has seen may be why.
                self.places.clear(request.place);
                tell(request.id, Told::Failed(error));
            }
            several => {
                let ids = several.iter().map(|planned| self.running[planned.at].id);
                self.apart = ids.rev().collect();
            }
        }
    }

    /// Tells those that have ended, and frees their places.
    pub(super) fn take_out(&mut self, tell: &mut dyn FnMut(u64, Told)) {
        let places = &mut self.places;
        self.running.retain_mut(|request| {
            let Some(ended) = request.continuation.ended() else {
                return true;
            };
            let account = request.finished();
            let rest = request.continuation.rest();
            let told = Told::Ended {
                rest,
                ended,
                stopped_by: request.continuation.stopped_by(),
                account,
            };
            tell(request.id, told);
            places.free(request.place);
            false
        });
    }
}
