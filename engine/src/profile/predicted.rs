//! What a pass should take by the predictor's recurrence, what it does beside the layers included:
//! a run is compared with it.

use offload::{Prediction, predict};

use super::window::{Streaming, Window};

impl Streaming {
    /// Of a pass like those of a window, through so many slots: with the compute that they took, in the
    /// layers and beside them, and with the link's measured peak. `None`: nothing is streamed.
    pub fn predicted(&self, window: &Window, slots: usize) -> Option<Prediction> {
        let rates = self.rates(window.means());
        let streams = self.plan.streamed_count() > 0;
        streams.then(|| predict(&self.plan.through(slots), &rates))
    }
}
