//! Tracing spans, in one place: with the feature `profiling` a span that is open until it is
//! dropped, without it nothing at all. Reports are not made of them.

#[cfg(feature = "profiling")]
use offload::LoadKind;

/// Opens a span: `span!("layer", index = 3)`. The name is a constant; what varies is a field.
macro_rules! span {
    ($name:expr $(, $field:ident = $value:expr)*) => {{
        #[cfg(feature = "profiling")]
        {
            $crate::profile::OpenSpan::new(
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

/// Closes when it is dropped.
#[cfg(feature = "profiling")]
#[must_use = "it is open for as long as it lives"]
#[derive(Debug)]
pub(crate) struct OpenSpan(tracing::span::EnteredSpan);

#[cfg(feature = "profiling")]
impl OpenSpan {
    pub fn new(span: tracing::span::EnteredSpan) -> Self {
        Self(span)
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
            self.0.record("kind", tracing::field::display(kind));
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
