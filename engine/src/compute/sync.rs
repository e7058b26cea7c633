//! Where host and device meet. The host may wait for a device once per generated token, for its
//! logits, and every place that does says so; `make audit-gpu-syncs` finds those that do not.

/// Announces, and then evaluates, an expression that brings data from the device to the host or
/// waits for the device: `gpu_sync!("logits", tensor.to_vec1())`. Without a listener it costs a
/// load. Announced on the host's own device, too: what is audited is the code.
macro_rules! gpu_sync {
    ($what:literal, $wait:expr) => {{
        ::tracing::trace!(target: "gpu_sync", what = $what);
        $wait
    }};
}
pub(crate) use gpu_sync;
