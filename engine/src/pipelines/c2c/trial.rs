//! A measured run: what a prompt took in each part, and each token after it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::model::C2c;
use super::session::Lead;
use crate::error::EngineError;
use crate::run::generation::{Ended, GenerationOptions, Report};

/// What a run took.
#[derive(Debug, Clone, PartialEq)]
pub struct C2cRun {
    pub lead: Lead,
    pub report: Report,
}

impl C2cRun {
    /// One generation on models that are open. `cancel` ends it with [`EngineError::Interrupted`].
    pub fn measure(
        models: &mut C2c,
        prompt: Vec<u32>,
        options: GenerationOptions,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Self, EngineError> {
        let mut session = models.session()?;
        session.cancel_with(Arc::clone(cancel));
        let mut fused = session.generate(prompt, options)?;
        for piece in &mut fused.generation {
            piece?;
        }
        let report = fused.generation.report();
        match report.ended {
            Some(Ended::Interrupted) => Err(EngineError::Interrupted),
            _ => Ok(Self {
                lead: fused.lead.clone(),
                report,
            }),
        }
    }

    /// Of all parts but the first token's pass.
    pub fn parts(&self) -> [Duration; 3] {
        let teachers = self.lead.teachers().map(|timing| timing.total).sum();
        let total =
            |of: Option<&crate::profile::PassTiming>| of.map_or(Duration::ZERO, |it| it.total);
        [
            total(self.lead.base()),
            teachers,
            total(self.lead.projection()),
        ]
    }
}
