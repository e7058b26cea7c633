//! Several models loaded over one ring, and stacks beside them that are no model's.

use std::sync::Arc;
use std::time::Instant;

use offload::{Itinerary, StackId};

use super::blueprint::joint::{Extra, Joint};
use super::load::{self, Load, Progress, WrapLink};
use super::shared::SharedStack;
use super::{Blueprint, Loaded, Model, Parts, team_of};
use crate::error::EngineError;
use crate::machine::memory;
use crate::profile::{Startup, stage};
use crate::weights::ends::Ends;

/// Models over one ring.
#[derive(Debug)]
pub(crate) struct Several {
    pub models: Vec<Model>,
    pub stack: SharedStack,
    pub loaded: Loaded,
}

/// Names the models after their stacks' numbers.
pub(crate) fn number(models: &mut [Blueprint]) {
    for (number, model) in (0..).zip(models) {
        model.stack = StackId(number);
    }
}

/// Bytes that loading them will read, for a progress bar.
pub(crate) fn bytes_to_load(
    models: &[Blueprint],
    extras: &[Extra],
    joint: &Joint,
) -> Result<u64, EngineError> {
    let own = models.iter().map(load::stored_bytes);
    let of_models = own.sum::<Result<u64, _>>()?;
    let beside = loads_of(models, extras, joint).skip(models.len());
    let home = models.first().map(|model| model.link.home);
    let of_extras = beside.filter_map(|load| Some(load::read_bytes(&load, home?)));
    Ok(of_models + of_extras.sum::<u64>())
}

/// The stacks of all of them, with their parts of the plan.
fn loads_of<'a>(
    models: &'a [Blueprint],
    extras: &'a [Extra],
    joint: &'a Joint,
) -> impl Iterator<Item = Load<'a>> {
    let plans = joint.plan.stacks().iter().skip(models.len());
    let base = models.first();
    let beside = extras.iter().zip(plans);
    let beside = beside.filter_map(move |(extra, plan)| Some(extra.load(base?, plan)));
    models.iter().map(Blueprint::load_of).chain(beside)
}

/// Loads what was planned, and takes the models then: where it fails they can be planned anew.
/// Streamed blocks come in the itinerary's order.
pub(crate) fn load(
    models: &mut Vec<Blueprint>,
    extras: &[Extra],
    joint: &Joint,
    itinerary: Itinerary,
    progress: Progress<'_>,
    wrap: WrapLink<'_>,
) -> Result<Several, EngineError> {
    let [base, ..] = &models[..] else {
        unreachable!("a run without a model");
    };
    let mut startup = Startup::default();
    let team = Arc::new(team_of(base)?);
    let from = Instant::now();
    let mut bytes = 0;
    let mut told = |read| {
        bytes += read;
        progress(read);
    };
    let loaded = stage!(startup, ModelLoad, {
        let ring = base.ring_of(joint.plan.all());
        let loads: Vec<_> = loads_of(models, extras, joint).collect();
        let mut embeddings = Vec::new();
        for (model, load) in models.iter().zip(&loads) {
            let (of, plan) = (&model.checkpoint, model.ends());
            embeddings.push(Ends::embedding(&load.reader, of, &plan, &mut told)?);
        }
        let (mut stack, access) = load::stream(&loads, &ring, itinerary, &mut told, wrap)?;
        let mut ends = Vec::new();
        for ((model, load), embedding) in models.iter().zip(&loads).zip(embeddings) {
            let (of, plan) = (&model.checkpoint, model.ends());
            let own = Ends::load(&load.reader, of, &plan, embedding, &mut told)?;
            if model.plan.resident_count() > 0 {
                own.begin_head()?;
            }
            ends.push(own);
        }
        let mut resident_bytes = Vec::new();
        for load in &loads {
            resident_bytes.push(load::keep(load, &ring, &team, &mut stack, &mut told)?);
        }
        (ends, stack, access, resident_bytes)
    });
    let (ends, stack, access, resident_bytes) = loaded;
    let stack = SharedStack::new(stack);
    let loaded = Loaded {
        bytes,
        time: from.elapsed(),
        peak_bytes: memory::peak_bytes(),
        lowered_from: None,
        kept_plain: false,
    };
    let each = std::mem::take(models)
        .into_iter()
        .zip(ends)
        .zip(resident_bytes);
    let models = each.map(|((mut blueprint, ends), resident_bytes)| {
        if let Some(access) = &access {
            blueprint.link.access.clone_from(access);
        }
        let parts = Parts {
            ends,
            stack: stack.clone(),
            resident_bytes,
            team: Arc::clone(&team),
            startup: startup.clone(),
            loaded,
        };
        Model::of(blueprint, parts)
    });
    Ok(Several {
        models: models.collect(),
        stack,
        loaded,
    })
}
