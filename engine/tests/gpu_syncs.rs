//! The host waits for a device at most once per generated token.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Kernels, Model, ModelOptions, Source};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the announcements of its thread.
#[derive(Debug, Clone, Default)]
struct Syncs(Arc<AtomicU64>);

impl Syncs {
    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Subscriber for Syncs {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "gpu_sync"
    }

    fn event(&self, event: &Event<'_>) {
        assert_eq!(*event.metadata().level(), Level::TRACE);
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn per_pass(kernels: Kernels) -> Vec<u64> {
    let options = ModelOptions {
        kernels,
        ..ModelOptions::default()
    };
    let mut model = Model::open(&Source::Demo, options).unwrap();
    let mut session = model.session().unwrap();
    let syncs = Syncs::default();
    tracing::subscriber::with_default(syncs.clone(), || {
        [&[1, 2, 3][..], &[4], &[5]]
            .map(|tokens| {
                session.pass(tokens).unwrap();
                session.logits();
                syncs.take()
            })
            .to_vec()
    })
}

#[test]
fn a_pass_waits_for_the_device_once() {
    assert_eq!(per_pass(Kernels::Clear), [1, 1, 1]);
    // No device is involved.
    assert_eq!(per_pass(Kernels::Fast), [0, 0, 0]);
}
