//! The predictor held against the ring itself: real threads, an emulated bus, and a compute that
//! sleeps. The layer's time that goes into the prediction is the one that was measured, so what is
//! tested is the recurrence.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use candle_core::Device;
use loader::{BlockLayout, DType, ModelConfig};
use offload::{
    BlockCost, BlockId, Costs, FixedBytes, Itinerary, LayerIndex, OffloadError, PlanRequest,
    Prefetch, RamHome, RamLink, Rates, Residency, ResidencyPlan, Slab, Slot, Spread, StackId,
    StreamedStack, predict,
};

const STACK: StackId = StackId(0);
const LAYERS: usize = 8;
const COPY_MS: f64 = 6.0;

fn layout() -> Arc<BlockLayout> {
    let config = ModelConfig::parse(
        br#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 512,
             "num_hidden_layers": 8, "num_attention_heads": 2, "num_key_value_heads": 2,
             "vocab_size": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
             "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "float32"}"#,
    )
    .unwrap();
    Arc::new(BlockLayout::packed(&config.block_weights(), DType::F32))
}

fn stack(
    plan: &ResidencyPlan,
    layout: &Arc<BlockLayout>,
    gbps: f64,
    prefetch: Prefetch,
) -> StreamedStack {
    let homes: BTreeMap<_, _> = plan
        .streamed()
        .map(|layer| {
            let fill = |bytes: &mut [u8]| {
                bytes.fill(layer.0 as u8 + 1);
                Ok::<_, OffloadError>(())
            };
            let home = RamHome::filled("RAM".into(), layout.slab_bytes(), None, fill).unwrap();
            (BlockId::new(STACK, layer), home)
        })
        .collect();
    let slab = || Slab::new(layout.slab_bytes(), DType::F32, &Device::Cpu).unwrap();
    let slots = (0..plan.slots()).map(|_| Slot::new(slab())).collect();
    let link = Box::new(RamLink::new(homes, Some(gbps), plan.slots()).unwrap());
    let itinerary = Itinerary::of_stack(STACK, plan);
    let mut stack = StreamedStack::streaming(slots, itinerary, &[], link, prefetch).unwrap();
    for layer in plan.resident() {
        stack.keep(BlockId::new(STACK, layer), slab());
    }
    stack
}

/// Milliseconds a token at the steady state, and those of a layer's compute.
fn measure(stack: &mut StreamedStack, layer_ms: f64) -> (f64, f64) {
    const WARM_UP: usize = 2;
    const TOKENS: usize = 8;
    let mut from = Instant::now();
    let mut computed = Duration::ZERO;
    for token in 0..WARM_UP + TOKENS {
        if token == WARM_UP {
            from = Instant::now();
            computed = Duration::ZERO;
        }
        for layer in LayerIndex::first(LAYERS) {
            stack
                .visit(BlockId::new(STACK, layer), |_| {
                    let from = Instant::now();
                    thread::sleep(Duration::from_secs_f64(layer_ms / 1000.0));
                    computed += from.elapsed();
                    Ok::<_, OffloadError>(())
                })
                .unwrap();
        }
    }
    let token_ms = from.elapsed().as_secs_f64() * 1000.0 / TOKENS as f64;
    (
        token_ms,
        computed.as_secs_f64() * 1000.0 / (TOKENS * LAYERS) as f64,
    )
}

/// How far the prediction is from the measurement, as a share of it.
fn error(resident: usize, slots: usize, spread: Spread, prefetch: Prefetch, layer_ms: f64) -> f64 {
    let layout = layout();
    let plan = ResidencyPlan::new(&PlanRequest {
        costs: Arc::new(Costs::uniform(
            LAYERS,
            BlockCost::of_slab(layout.slab_bytes() as u64),
        )),
        fixed: FixedBytes::default(),
        residency: Residency::Layers(resident),
        spread,
        slots,
        memory_bytes: None,
        reserve: Default::default(),
        host: None,
    })
    .unwrap();
    let gbps = layout.slab_bytes() as f64 / COPY_MS / 1e6;
    let mut stack = stack(&plan, &layout, gbps, prefetch);
    let (token_ms, layer_ms) = measure(&mut stack, layer_ms);
    let rates = Rates {
        link_bytes_per_s: gbps * 1e9,
        layer_ms,
        other_ms: 0.0,
        prefetch: prefetch == Prefetch::Ahead,
        start_ms: 0.0,
    };
    let predicted_ms = predict(&plan, &rates).token_ms;
    println!(
        "{resident} resident, {slots} slots, {spread:?}, {prefetch:?}: {token_ms:.2} ms, predicted {predicted_ms:.2}"
    );
    (token_ms - predicted_ms).abs() / token_ms
}

#[test]
fn the_prediction_is_within_ten_percent_of_the_emulated_link() {
    for (resident, slots, spread, prefetch, layer_ms) in [
        (0, 2, Spread::Even, Prefetch::Ahead, 2.0),
        (0, 1, Spread::Even, Prefetch::Ahead, 2.0),
        (4, 2, Spread::Even, Prefetch::Ahead, 2.0),
        (4, 2, Spread::ResidentFirst, Prefetch::Ahead, 2.0),
        (4, 1, Spread::Even, Prefetch::Ahead, 4.0),
        (6, 2, Spread::Even, Prefetch::Ahead, 5.0),
        (3, 2, Spread::ResidentLast, Prefetch::AtNeed, 2.0),
        (5, 3, Spread::ResidentFirst, Prefetch::Ahead, 3.0),
    ] {
        // A busy machine makes single runs late, in copies and wake-ups that no model of the ring
        // contains: the best of a few is the ring's own.
        let mut best = f64::INFINITY;
        for _ in 0..4 {
            best = best.min(error(resident, slots, spread, prefetch, layer_ms));
            if best <= 0.10 {
                break;
            }
        }
        assert!(
            best <= 0.10,
            "{resident} resident, {slots} slots, {spread:?}, {prefetch:?}: off by {:.1}%",
            best * 100.0
        );
    }
}
