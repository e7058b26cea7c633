//! Residency plan, slots, links, the prefetch thread and visits: everything about *where weights
//! are* when a layer needs them. Knows no token and no model.
//!
//! The central type is [`StreamedStack`]; `ring/mod.rs` tells the protocol. Beside it stands
//! [`Experts`], a cache for blocks that data asks for.

mod block;
#[cfg_attr(not(feature = "cuda"), path = "no_cuda.rs")]
mod cuda;
mod error;
mod experts;
mod links;
mod memory;
mod place;
mod plan;
mod ring;
mod survey;

pub use block::{BlockId, LayerIndex, StackId};
pub use cuda::{device_address, slab_address};
pub use error::{LinkError, OffloadError, THREADS_HINT};
pub use experts::{Counts, Experts};
pub use links::disk::DiskLink;
pub use links::latch::Latch;
pub use links::ram::{RamHome, RamLink, measure_copy_gbps};
pub use links::verify::{Expectation, Reference, VerifyingLink};
pub use links::{Arrival, DeviceVisit, Home, Link, LinkInfo, Mark};
pub use memory::numa::{NumaNode, NumaShare};
pub use memory::slab::{HostBytes, Slab, SlabBytes, candle_dtype};
pub use memory::zero_pages::try_memory;
pub use place::{Connection, Homes, Host, Place, PlaceChoice, RingShape, Staged, Stopwatch, open};
pub use plan::{
    BlockCost, BufferBytes, Candidate, Choices, Costs, FixedBytes, HomeChoice, HostRoom, JointPlan,
    PlanError, PlanRequest, Prediction, Rates, ReserveBytes, Residency, ResidencyPlan, Shared,
    Spread, predict, search,
};
pub use ring::itinerary::Itinerary;
pub use ring::record::{LoadKind, LoadRecord};
pub use ring::slot::Slot;
pub use ring::stack::{Prefetch, StreamedStack, Visits};
pub use survey::{DeviceSurvey, Pcie, survey};
