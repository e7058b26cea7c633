//! Tracing spans, in one place: with the feature `profiling` a span (and an NVTX range of the same
//! name, where the system has NVTX) that is open until it is dropped, without it nothing at all.
//! Reports are not made of them.

#[cfg(feature = "profiling")]
use std::sync::OnceLock;
#[cfg(feature = "profiling")]
use std::time::Instant;

#[cfg(feature = "profiling")]
use offload::LoadKind;

#[cfg(feature = "profiling")]
use super::nvtx;

/// Opens a span: `span!("layer", index = 3)`. The name is a constant; what varies is a field.
macro_rules! span {
    ($name:expr $(, $field:ident = $value:expr)*) => {{
        #[cfg(feature = "profiling")]
        {
            $crate::profile::OpenSpan::new(
                $name,
                ::tracing::info_span!(target: "stage", $name $(, $field = $value)*).entered(),
            )
        }
        #[cfg(not(feature = "profiling"))]
        {
            $(let _ = &$value;)*
            $crate::profile::OpenSpan::default()
        }
    }};
}
pub(crate) use span;

/// A span of what is over, told by whoever ran it without knowing of spans: opened and closed at
/// once, with its real times in its fields.
macro_rules! past_span {
    ($name:expr, $from:expr, $to:expr) => {{
        #[cfg(feature = "profiling")]
        drop(::tracing::info_span!(
            target: "stage",
            $name,
            from_ns = $crate::profile::since_epoch_ns($from),
            to_ns = $crate::profile::since_epoch_ns($to),
        ));
    }};
}
pub(crate) use past_span;

/// What the times in fields count from: when it was first asked for.
#[cfg(feature = "profiling")]
pub(crate) fn since_epoch_ns(at: Instant) -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let epoch = *EPOCH.get_or_init(|| at);
    at.saturating_duration_since(epoch).as_nanos() as u64
}

/// Closes when it is dropped.
#[cfg(feature = "profiling")]
#[must_use = "it is open for as long as it lives"]
#[derive(Debug)]
pub(crate) struct OpenSpan {
    span: tracing::span::EnteredSpan,
    _range: nvtx::Range,
}

#[cfg(feature = "profiling")]
impl OpenSpan {
    pub fn new(name: &str, span: tracing::span::EnteredSpan) -> Self {
        Self {
            _range: nvtx::Range::start(name),
            span,
        }
    }

    /// Before its scope ends.
    pub fn close(self) {}

    /// What a layer's load turned out to be.
    pub fn loaded(&self, kind: Option<LoadKind>) {
        if let Some(kind) = kind {
            let kind = match kind {
                LoadKind::Async => "async",
                LoadKind::Sync => "sync",
            };
            self.span.record("kind", kind);
        }
    }
}

#[cfg(not(feature = "profiling"))]
#[must_use = "it is open for as long as it lives"]
#[derive(Debug, Default)]
pub(crate) struct OpenSpan;

#[cfg(not(feature = "profiling"))]
impl OpenSpan {
    pub fn close(self) {}

    pub fn loaded(&self, _kind: Option<offload::LoadKind>) {}
}

/// A span that is left and entered again: `generate`, between whose tokens the caller runs.
#[derive(Debug, Default)]
pub(crate) struct LongSpan {
    #[cfg(feature = "profiling")]
    span: Option<tracing::Span>,
}

impl LongSpan {
    /// Inside it, once more; the first time opens it.
    #[cfg(feature = "profiling")]
    pub fn enter(&mut self) -> OpenSpan {
        let open = || tracing::info_span!(target: "stage", "generate");
        OpenSpan::new(
            "generate",
            self.span.get_or_insert_with(open).clone().entered(),
        )
    }

    #[cfg(not(feature = "profiling"))]
    pub fn enter(&mut self) -> OpenSpan {
        OpenSpan
    }
}
