//! What a plan leaves open and rates decide: the form of resident matrices, and how many slots.

use std::ops::RangeInclusive;

use offload::{Home, LinkInfo, PlanRequest, Prefetch, Rates, Residency, ResidencyPlan, predict};

use super::sizes::costs;
use super::{Blueprint, OneSlot};
use crate::error::EngineError;
use crate::model::forms;
use crate::model::glance;
use crate::model::options::ModelOptions;
use crate::weights::blocks::Blocks;

/// Two keep a link busy where the streamed layers are spread.
pub(super) const SLOTS_DEFAULT: usize = 2;

/// Blocks that a disk reads in some ten milliseconds: what it loses between two of them is then up to an
/// eighth, and a third slot gives most of that back (docs/measured.md). Larger ones lose little, and
/// smaller ones are as fast from memory.
const THIRD_SLOT_BYTES: RangeInclusive<usize> = 16 << 20..=64 << 20;

/// How many slots a plan begins with where none were asked for.
pub(super) fn slots(options: &ModelOptions, blocks: &Blocks, link: &LinkInfo) -> usize {
    if let Some(asked) = options.slots {
        return asked;
    }
    // What `auto` gives to a slot it takes from a layer.
    let is_given = options.residency != Residency::Auto;
    let from_disk = link.home == Home::Disk && link.emulated_gbps.is_none();
    let block = |layer| blocks.streamed(layer, link.home).slab_bytes();
    let largest = blocks.layers().map(block).max().unwrap_or(0);
    match is_given && from_disk && THIRD_SLOT_BYTES.contains(&largest) {
        true => SLOTS_DEFAULT + 1,
        false => SLOTS_DEFAULT,
    }
}

/// One slot is taken where its plan is predicted to be faster by more than this: what the
/// prediction leaves out is never nothing.
const ONE_SLOT_GAIN: f64 = 1.03;

impl Blueprint {
    /// Where both forms were timed: resident blocks are plain if that gives more tokens a second,
    /// with as many of them as then fit.
    pub(super) fn prefer_faster_form(&mut self) -> Result<(), EngineError> {
        let Some(times) = self.forms else {
            return Ok(());
        };
        let plain_blocks = self.blocks.plain();
        let request = PlanRequest {
            costs: costs(
                &plain_blocks,
                &self.link,
                self.on_device(),
                self.can_be_left,
            ),
            ..self.request.clone()
        };
        let Ok(plain) = ResidencyPlan::new(&request) else {
            return Ok(());
        };
        let streams = plain.streamed_count() + self.plan.streamed_count() > 0;
        let link_gbps = match streams {
            true => self.glance_at_link()?,
            false => f64::INFINITY,
        };
        let prefetch = self.options.prefetch == Prefetch::Ahead;
        let is_plain = forms::plain_is_faster(&times, &plain, &self.plan, link_gbps, prefetch);
        if is_plain {
            self.blocks = plain_blocks;
            self.request = request;
            self.plan = plain;
        }
        Ok(())
    }

    /// About what the link reaches, for choices that are made before a plan is.
    fn glance_at_link(&self) -> Result<f64, EngineError> {
        match self.link.emulated_gbps {
            Some(gbps) => Ok(gbps),
            None => glance::link_gbps(&self.checkpoint, self.link.home, self.place.as_ref()),
        }
    }

    /// Where `auto` may choose the slots as well: one, if the layer that stays in place of the
    /// other gains more than its slot did. That is so where few layers are streamed and a copy
    /// takes much longer than a layer: one slot idles the link for a layer's compute and a start at
    /// each visit, and the other way there is a whole copy more in a token.
    pub(super) fn prefer_one_slot(&mut self) -> Result<(), EngineError> {
        let chooses = self.options.residency == Residency::Auto && self.options.slots.is_none();
        let (true, Some(times), Some(timed)) = (chooses, self.times, self.timed_form()) else {
            return Ok(());
        };
        let request = PlanRequest {
            slots: 1,
            ..self.request.clone()
        };
        let Ok(one) = ResidencyPlan::new(&request) else {
            return Ok(());
        };
        if self.plan.slots() < 2 || one.resident_count() <= self.plan.resident_count() {
            return Ok(());
        }
        let link_gbps = self.glance_at_link()?;
        let prefetch = self.options.prefetch == Prefetch::Ahead;
        let predicted = |plan: &ResidencyPlan, start_ms: f64| {
            let rates = Rates {
                start_ms,
                ..forms::rates(&times, timed, plan, link_gbps, prefetch)
            };
            predict(plan, &rates).token_ms
        };
        // What takes time to find out is asked for only where it decides.
        if predicted(&one, 0.0) * ONE_SLOT_GAIN > predicted(&self.plan, 0.0) {
            return Ok(());
        }
        let start_ms = self.measure_start_ms(link_gbps)?;
        let (one_ms, two_ms) = (predicted(&one, start_ms), predicted(&self.plan, start_ms));
        if one_ms * ONE_SLOT_GAIN < two_ms {
            self.one_slot = Some(OneSlot {
                token_ms: one_ms,
                two_token_ms: two_ms,
                two_resident: self.plan.resident_count(),
            });
            self.request = request;
            self.plan = one;
        }
        Ok(())
    }

    /// What a copy takes longer on its own than its bytes do at this rate.
    fn measure_start_ms(&self, link_gbps: f64) -> Result<f64, EngineError> {
        match self.link.emulated_gbps {
            // One thread copies, and begins at once.
            Some(_) => Ok(0.0),
            None => {
                let block_bytes = self.plan.link_bytes_each() as u64;
                glance::start_ms(&self.checkpoint, self.link.home, block_bytes, link_gbps)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use loader::Family;
    use loader::synth::{self, SynthSpec};

    use super::*;
    use crate::model::options::Source;

    #[test]
    fn blocks_of_a_few_megabytes_from_a_disk_get_a_third_slot() {
        let folder = tempfile::tempdir().unwrap();
        // 20 MiB a block.
        let spec = SynthSpec {
            hidden_size: 1024,
            intermediate_size: 2048,
            heads: 16,
            kv_heads: 16,
            head_dim: 64,
            ..SynthSpec::tiny(Family::LLAMA)
        };
        let path = folder.path().join("model");
        synth::write(&path, &spec.with_layers(4), &mut |_, _| {}).unwrap();
        let given = ModelOptions {
            residency: Residency::Layers(0),
            home: Some(Home::Disk),
            context: Some(64),
            ..ModelOptions::default()
        };
        let slots = |options: &ModelOptions| {
            let source = Source::Directory(path.clone());
            let blueprint = Blueprint::new(&source, options.clone()).unwrap();
            blueprint.plan.slots()
        };
        assert_eq!(slots(&given), 3);
        let asked = ModelOptions {
            slots: Some(2),
            ..given.clone()
        };
        let from_ram = ModelOptions {
            home: Some(Home::Ram),
            ..given.clone()
        };
        assert_eq!([slots(&asked), slots(&from_ram)], [2, 2]);
        // Room for two slots, and none for three: what two need, and half a slot.
        // A limit that is given has no reserve.
        let roomy = ModelOptions {
            memory_bytes: Some(1 << 30),
            ..asked
        };
        let two = Blueprint::new(&Source::Directory(path.clone()), roomy).unwrap();
        let tight = ModelOptions {
            memory_bytes: Some(two.plan.total_bytes() + (10 << 20)),
            ..given
        };
        assert_eq!(slots(&tight), 2);
    }
}
