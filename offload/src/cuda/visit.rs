//! The events of one visit, and its mark. Two of them are the protocol, the others tell the time:
//!
//! ```text
//! copy stream      wait(released of the slot's last visit)  copy_from  ==copy==>  landed
//! compute stream   asked  wait(landed)  met  ==kernels==>  released
//! ```
//!
//! `landed` is what compute waits for; `released` is what the next copy into the slot waits for.
//! The host waits for neither. A copy that is staged is not ordered at once: then, and only then,
//! the visit's thread waits until it is, because a stream cannot wait for an event to come. That
//! wait can be given up, like one for a copy on the host.
//!
//! A set of events is used again after as many visits as there are in two units of work, and slots:
//! by then the unit it belonged to has been read, which is while the device is at work on the next.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cudarc::driver::{CudaEvent, DriverError};

use super::pinned::{DeviceMemory, Filled};
use super::streams::{Streams, between};
use crate::error::LinkError;
use crate::links::{Arrival, DeviceVisit, Mark};

#[derive(Debug)]
pub(super) struct VisitEvents {
    streams: Arc<Streams>,
    copy_from: CudaEvent,
    landed: CudaEvent,
    asked: CudaEvent,
    met: CudaEvent,
    released: CudaEvent,
    state: Mutex<State>,
    ordered: Condvar,
}

#[derive(Debug)]
struct State {
    order: Order,
    /// Whether `asked` is on its stream: once a visit, however often it is tried.
    asked: bool,
}

/// Whether the copy has been ordered on its stream.
#[derive(Debug)]
enum Order {
    Pending,
    /// The copy is on its stream. What staged it began then, if anything did.
    Given {
        staged_from: Option<Instant>,
    },
    Failed(Option<LinkError>),
}

impl Order {
    fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }
}

impl VisitEvents {
    pub fn new(streams: &Arc<Streams>) -> Result<Self, DriverError> {
        Ok(Self {
            copy_from: streams.timed_event()?,
            landed: streams.timed_event()?,
            asked: streams.timed_event()?,
            met: streams.timed_event()?,
            released: streams.timed_event()?,
            state: Mutex::new(State {
                order: Order::Pending,
                asked: false,
            }),
            ordered: Condvar::new(),
            streams: Arc::clone(streams),
        })
    }

    /// For another visit.
    fn renew(&self) {
        let mut state = self.lock();
        state.order = Order::Pending;
        state.asked = false;
    }

    fn set(&self, order: Order) {
        self.lock().order = order;
        self.ordered.notify_all();
    }

    /// The compute stream comes to where it needs the block, before the host waits for anything.
    fn ask(&self) -> Result<(), DriverError> {
        let mut state = self.lock();
        if !state.asked {
            self.asked.record(&self.streams.compute)?;
            state.asked = true;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, valid after every statement: poison means nothing here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark for VisitEvents {
    fn landed_within(&self, patience: Duration) -> bool {
        if self.ask().is_err() {
            // `wait` asks again, and tells.
            return true;
        }
        let waited = self
            .ordered
            .wait_timeout_while(self.lock(), patience, |state| state.order.is_pending());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.order.is_pending()
    }

    fn wait(&self) -> Result<(), LinkError> {
        self.ask()?;
        let ordered = self
            .ordered
            .wait_while(self.lock(), |state| state.order.is_pending());
        let mut state = ordered.unwrap_or_else(PoisonError::into_inner);
        if let Order::Failed(error) = &mut state.order {
            return Err(error.take().unwrap_or(LinkError::WorkersGone));
        }
        drop(state);
        self.streams.compute.wait(&self.landed)?;
        self.met.record(&self.streams.compute)?;
        Ok(())
    }

    fn release(&self) -> Result<(), LinkError> {
        Ok(self.released.record(&self.streams.compute)?)
    }

    fn arrival(&self) -> Result<Arrival, LinkError> {
        let staged_from = match &self.lock().order {
            Order::Given { staged_from } => *staged_from,
            _ => None,
        };
        let copy_from = self.streams.at(&self.copy_from)?;
        let asked_at = self.streams.at(&self.asked)?;
        Ok(Arrival {
            copy_from: staged_from.map_or(copy_from, |staged| staged.min(copy_from)),
            copy_to: copy_from + between(&self.copy_from, &self.landed)?,
            visit: Some(DeviceVisit {
                asked_at,
                pre: between(&self.asked, &self.met)?,
                visit_to: asked_at + between(&self.asked, &self.released)?,
            }),
        })
    }
}

/// A copy that is still to be ordered. Dropped without being ordered, it has failed: the visit that
/// waits for it hears of it.
#[derive(Debug)]
pub(super) struct PendingCopy {
    to: DeviceMemory,
    /// The slot's last visit: its reads come first.
    after: Option<Arc<VisitEvents>>,
    events: Arc<VisitEvents>,
    poison: bool,
    open: bool,
}

impl PendingCopy {
    /// Takes the events for this copy. `after`: the last visit of the slot it goes to. `poison`:
    /// see [`crate::place::RingShape`].
    pub fn new(
        events: &Arc<VisitEvents>,
        to: DeviceMemory,
        after: Option<Arc<VisitEvents>>,
        poison: bool,
    ) -> Self {
        events.renew();
        Self {
            to,
            after,
            events: Arc::clone(events),
            poison,
            open: true,
        }
    }

    /// Orders it on the copy stream.
    pub fn order(
        mut self,
        from: Filled<'_>,
        staged_from: Option<Instant>,
    ) -> Result<Ordered, DriverError> {
        self.open = false;
        let ordered = self.put_on_stream(from);
        self.events.set(match ordered {
            Ok(()) => Order::Given { staged_from },
            Err(error) => Order::Failed(Some(error.into())),
        });
        ordered?;
        Ok(Ordered(Arc::clone(&self.events)))
    }

    fn put_on_stream(&self, from: Filled<'_>) -> Result<(), DriverError> {
        let stream = &self.events.streams.copy;
        if let Some(after) = &self.after {
            stream.wait(&after.released)?;
        }
        if self.poison {
            self.to.poison(stream)?;
        }
        self.events.copy_from.record(stream)?;
        from.copy_to(self.to, stream)?;
        self.events.landed.record(stream)
    }

    pub fn fail(mut self, error: LinkError) {
        self.events.set(Order::Failed(Some(error)));
        self.open = false;
    }
}

impl Drop for PendingCopy {
    fn drop(&mut self) {
        if self.open {
            self.events.set(Order::Failed(None));
        }
    }
}

/// A copy on its stream.
#[derive(Debug)]
pub(super) struct Ordered(Arc<VisitEvents>);

impl Ordered {
    /// Blocks until the bytes are there: for the thread that wants to fill their source again.
    pub fn landed(&self) -> Result<(), DriverError> {
        // waits: on the forwarder's own thread
        self.0.landed.synchronize()
    }
}
