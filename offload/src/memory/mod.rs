//! Memory that weights lie in: slabs, pages that were never used before, threads that write parts of one
//! slab, and which of a machine's memories is near a device.

pub mod lent;
pub mod numa;
pub mod slab;
pub mod zero_pages;
