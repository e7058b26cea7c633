//! Residency plan, slots, links, the prefetch thread and visits: everything about *where weights
//! are* when a layer needs them. Knows no token and no model.
//!
//! The central type is [`StreamedStack`]; its module tells the protocol. Beside it stands
//! [`Experts`], a cache for blocks that data asks for.

mod block;
#[cfg_attr(not(feature = "cuda"), path = "no_cuda.rs")]
mod cuda;
mod disk;
mod error;
mod experts;
mod itinerary;
mod latch;
mod lent;
mod link;
mod numa;
mod place;
mod plan;
mod pool;
mod prefetch;
mod ram;
mod record;
mod route;
mod slab;
mod slot;
mod stack;
mod survey;
mod ticket;
mod verify;
mod zero_pages;

pub use block::{BlockId, LayerIndex, StackId};
pub use cuda::{device_address, slab_address};
pub use disk::DiskLink;
pub use error::{LinkError, OffloadError, THREADS_HINT};
pub use experts::{Counts, Experts};
pub use itinerary::Itinerary;
pub use latch::Latch;
pub use link::{Arrival, DeviceVisit, Home, Link, LinkInfo, Mark};
pub use numa::{NumaNode, NumaShare};
pub use place::{Connection, Homes, Host, Place, PlaceChoice, RingShape, Staged, Stopwatch, open};
pub use plan::{
    BlockCost, BufferBytes, Candidate, Choices, Costs, FixedBytes, HomeChoice, HostRoom, JointPlan,
    PlanError, PlanRequest, Prediction, Rates, ReserveBytes, Residency, ResidencyPlan, Shared,
    Spread, predict, search,
};
pub use ram::{RamHome, RamLink, measure_copy_gbps};
pub use record::{LoadKind, LoadRecord};
pub use slab::{HostBytes, Slab, SlabBytes, candle_dtype};
pub use slot::Slot;
pub use stack::{Prefetch, StreamedStack, Visits};
pub use survey::{DeviceSurvey, Pcie, survey};
pub use verify::{Expectation, Reference, VerifyingLink};
pub use zero_pages::try_memory;
