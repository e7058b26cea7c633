//! Where the time of a token went. Built from typed records, never from logs; the formats are
//! written down in `docs/REPORTS.md`, and people and scripts read them.

mod pass;
mod summary;
mod totals;
mod verdict;
mod window;

pub use pass::PassTiming;
pub use summary::{SUMMARY_EVERY, Summary};
pub use totals::Totals;
pub use verdict::Verdict;
pub use window::{LayerLine, Streaming, Window};
