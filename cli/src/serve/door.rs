//! The way in to the thread that the model runs on: as many answers may be under way or wait as there
//! are places, and a request whose client went away is noticed here. It must not know what is asked.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use engine::{GenerationOptions, Leaver, Told};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ask::{Refusal, RefusalKind};

/// What the model's thread says of one answer of a request, by its index.
pub type News = (usize, Heard);

#[derive(Debug)]
pub enum Heard {
    Told(Told),
    /// The model cannot go on, for anybody.
    Broken(String),
}

/// One answer to compute.
#[derive(Debug)]
pub struct Order {
    pub id: u64,
    pub prompt: Vec<u32>,
    pub options: GenerationOptions,
    /// What the log calls it.
    pub name: Arc<str>,
    pub teller: Teller,
    pub since: Instant,
    /// Given back when the order is dropped.
    _place: OwnedSemaphorePermit,
}

/// Where news of an answer go. Its channel has no bound: what it can hold is bounded by the context,
/// and the model must not wait for a client that reads slowly.
#[derive(Debug, Clone)]
pub struct Teller {
    index: usize,
    to: UnboundedSender<News>,
}

impl Teller {
    pub fn tell(&self, heard: Heard) {
        // The receiver may be gone: then the request is dropped before the next pass.
        let _ = self.to.send((self.index, heard));
    }

    pub fn nobody_listens(&self) -> bool {
        self.to.is_closed()
    }
}

/// Where requests come in.
#[derive(Debug)]
pub struct Door {
    orders: SyncSender<Order>,
    places: Arc<Semaphore>,
    most: usize,
    next_id: AtomicU64,
    /// There once the model is.
    leaver: OnceLock<Leaver>,
}

/// Answers that somebody waits for. When it is dropped nobody does, and a pass that is made for nobody
/// else is given up.
#[derive(Debug)]
pub struct Present {
    ids: Range<u64>,
    leaver: Option<Leaver>,
}

impl Door {
    /// `orders` must hold `most` of them, so that no one waits to hand one over.
    pub fn new(orders: SyncSender<Order>, most: usize) -> Self {
        Self {
            orders,
            places: Arc::new(Semaphore::new(most)),
            most,
            next_id: AtomicU64::new(0),
            leaver: OnceLock::new(),
        }
    }

    /// What gives up passes, from now on.
    pub fn leave_with(&self, leaver: Leaver) {
        // Only the model's thread says it, once.
        let _ = self.leaver.set(leaver);
    }

    /// Answers that are under way or wait.
    pub fn taken(&self) -> usize {
        self.most - self.places.available_permits()
    }

    /// Hands these over to the model's thread, all or none.
    pub fn enter(
        &self,
        orders: Vec<(Vec<u32>, GenerationOptions)>,
        name: &Arc<str>,
    ) -> Result<(UnboundedReceiver<News>, Present), Refusal> {
        let count = orders.len();
        if count > self.most {
            return Err(Refusal {
                status: 400,
                kind: RefusalKind::Invalid,
                message: format!(
                    "{count} answers were asked for at once, and there is room for {}: ask for fewer, \
                     or start the server with a larger --queue",
                    self.most
                ),
                field: Some("n".to_owned()),
            });
        }
        let (to, news) = unbounded_channel();
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            let place = Arc::clone(&self.places).try_acquire_owned();
            places.push(place.map_err(|_| self.busy())?);
        }
        let first = self.next_id.fetch_add(count as u64, Ordering::Relaxed);
        let present = Present {
            ids: first..first + count as u64,
            leaver: self.leaver.get().cloned(),
        };
        let since = Instant::now();
        for ((index, (prompt, options)), place) in orders.into_iter().enumerate().zip(places) {
            let to = to.clone();
            let order = Order {
                id: first + index as u64,
                prompt,
                options,
                name: Arc::clone(name),
                teller: Teller { index, to },
                since,
                _place: place,
            };
            self.orders.try_send(order).map_err(|_| gone())?;
        }
        Ok((news, present))
    }

    fn busy(&self) -> Refusal {
        Refusal {
            status: 429,
            kind: RefusalKind::Busy,
            message: format!(
                "all {} places are taken, those of the queue too: try again soon",
                self.most
            ),
            field: None,
        }
    }
}

/// Its thread has ended; so will the process.
fn gone() -> Refusal {
    Refusal {
        status: 503,
        kind: RefusalKind::Failed,
        message: "the model has stopped: the server's log says why".to_owned(),
        field: None,
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if let Some(leaver) = &self.leaver {
            // Those that have ended are not known there any more.
            self.ids.clone().for_each(|id| leaver.leave(id));
        }
    }
}
