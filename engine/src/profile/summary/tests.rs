use std::sync::Arc;
use std::time::Instant;

use offload::{
    BlockCost, BlockId, Costs, FixedBytes, Home, LayerIndex, LinkInfo, LoadRecord, PlanRequest,
    Residency, ResidencyPlan, Spread, StackId,
};

use super::super::{CoreTime, MemoryLimit, PassKind, PassTiming, StackNames, Stage};
use super::*;

fn streaming(resident: usize, emulated_gbps: Option<f64>) -> Streaming {
    let plan = ResidencyPlan::new(&PlanRequest {
        costs: Arc::new(Costs::uniform(28, BlockCost::of_slab(466_000_000))),
        fixed: FixedBytes::default(),
        residency: Residency::Layers(resident),
        spread: Spread::Even,
        slots: 2,
        memory_bytes: None,
        reserve: Default::default(),
        host: None,
    })
    .unwrap();
    let link = LinkInfo {
        home: Home::Ram,
        access: "memory copy".into(),
        emulated_gbps,
    };
    Streaming {
        plan,
        stack: StackId(0),
        names: StackNames::default(),
        link,
        prefetch: true,
        peak_gbps: Some(25.6),
        peak_lacking: None,
        memory: None,
        arithmetic: None,
    }
}

fn load(layer: u16, kind: LoadKind, pre_ms: f64, post_ms: f64) -> LoadRecord {
    let now = Instant::now();
    let ms = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
    LoadRecord {
        block: BlockId::new(StackId(0), LayerIndex(layer)),
        kind,
        slot: layer % 2,
        bytes: 466_000_000,
        issued_at: now,
        copy_from: now,
        copy_to: now + ms(18.8),
        asked_at: now,
        visit_to: now + ms(pre_ms),
        pre: ms(pre_ms),
        post: ms(post_ms),
        verify: Duration::ZERO,
    }
}

fn pass_of(total_ms: f64, compute_ms: f64, stalled_ms: f64) -> PassTiming {
    let ms = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
    let mut pass = PassTiming {
        units: 1,
        rows: 1,
        seen: 1,
        total: ms(total_ms),
        ..PassTiming::default()
    };
    pass.stages[Stage::Mlp].wall = ms(compute_ms);
    pass.stages[Stage::Transfer].wall = ms(stalled_ms);
    pass
}

fn pass() -> PassTiming {
    pass_of(151.2, 19.8, 130.9)
}

fn eight(kind_of_last: LoadKind) -> Vec<LoadRecord> {
    (0..8)
        .map(|index| {
            let kind = if index == 7 {
                kind_of_last
            } else {
                LoadKind::Async
            };
            load(index * 3, kind, 45.234, 0.118)
        })
        .collect()
}

#[test]
fn the_format_is_kept_to_the_letter() {
    let mut window = Window::default();
    window.add(&pass(), &eight(LoadKind::Async));
    window.add(&pass(), &eight(LoadKind::Sync));
    let streaming = streaming(20, None);
    let text = Summary {
        token: 10,
        window: &window,
        streaming: &streaming,
    }
    .to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "=".repeat(80));
    assert_eq!(lines[1], "PROFILING SUMMARY - Token 10");
    assert_eq!(lines[3], "Async usage: 7/8 layers (87%)");
    assert_eq!(lines[4], "  Layer  0: Pre= 45.23ms  Post=  0.12ms  [ASYNC]");
    assert_eq!(
        lines[11],
        "  Layer 21: Pre= 45.23ms  Post=  0.12ms  [SYNC]   <-- PROBLEM!"
    );
    assert_eq!(
        lines[12],
        "Link:  3.73 GB/token at 24.7 GB/s, 96% of the 25.6 GB/s measured on this link"
    );
    assert_eq!(
        lines[13],
        "Token: 151.2 ms = compute 19.8 + stalled 130.9 + other 0.5 | floor 145.6 ms | 6.6 tok/s of 6.9 possible"
    );
    assert_eq!(
        lines[14],
        "Verdict: link-bound. Some loads came late; 2 more resident layers would give +2.3 tok/s."
    );
    assert_eq!(lines.len(), 15);
}

#[test]
fn the_cold_first_load_is_no_problem_and_the_worst_sync_is_shown() {
    let mut window = Window::default();
    let prompt = PassTiming {
        kind: PassKind::Prompt,
        ..pass()
    };
    window.add(&prompt, &[load(0, LoadKind::Sync, 350.0, 0.1)]);
    window.add(&pass(), &[load(0, LoadKind::Async, 10.0, 0.1)]);
    let line = window.layers().next().unwrap();
    assert_eq!((line.kind, line.problem), (LoadKind::Sync, false));
    assert!((line.pre_ms - 350.0).abs() < 0.01);
    window.clear();
    window.add(&pass(), &[load(0, LoadKind::Sync, 350.0, 0.1)]);
    assert!(window.layers().next().unwrap().problem);
}

#[test]
fn an_emulated_link_says_so_in_each_of_its_lines() {
    let mut window = Window::default();
    window.add(&pass(), &eight(LoadKind::Async));
    let streaming = streaming(20, Some(25.6));
    let text = Summary {
        token: 10,
        window: &window,
        streaming: &streaming,
    }
    .to_string();
    let tail: Vec<&str> = text.lines().skip(12).collect();
    assert_eq!(tail.len(), 3);
    assert!(
        tail.iter().all(|line| line.contains("emulated")),
        "{tail:?}"
    );
}

#[test]
fn an_emulated_bus_that_memory_is_too_slow_for_is_called_slow_and_predicted_as_it_is() {
    let mut window = Window::default();
    window.add(&pass(), &eight(LoadKind::Async));
    let told = |set: f64| {
        let mut streaming = streaming(20, Some(set));
        streaming.peak_gbps = Some(set);
        let text = Summary {
            token: 10,
            window: &window,
            streaming: &streaming,
        }
        .to_string();
        let rates = streaming.rates(window.means());
        let link = text.lines().find(|line| line.starts_with("Link:"));
        (link.unwrap().to_owned(), rates.link_bytes_per_s / 1e9)
    };
    // 466 MB in 18.8 ms.
    let reached = 466.0 / 18.8;
    let (link, gbps) = told(50.0);
    let words = "GB/s set on this link, whose copies in memory reach 24.8 GB/s here (emulated)";
    assert!(link.ends_with(words), "{link}");
    assert!((gbps - reached).abs() < 1e-6, "{gbps}");
    let (link, gbps) = told(25.6);
    assert!(link.ends_with("GB/s set on this link (emulated)"), "{link}");
    assert!((gbps - reached).abs() < 1e-6, "{gbps}");
    // Copies that had begun before the window seem to be faster than the bus.
    let (_, gbps) = told(12.0);
    assert!((gbps - 12.0).abs() < 1e-6, "{gbps}");
}

#[test]
fn a_plan_that_idles_the_link_is_told_so() {
    let mut window = Window::default();
    let slow = pass_of(400.0, 200.0, 199.0);
    window.add(&slow, &eight(LoadKind::Async));
    let even = streaming(20, None);
    let one_slot = Streaming {
        plan: ResidencyPlan::new(&PlanRequest {
            costs: Arc::new(Costs::uniform(28, BlockCost::of_slab(466_000_000))),
            fixed: FixedBytes::default(),
            residency: Residency::Layers(20),
            spread: Spread::ResidentFirst,
            slots: 1,
            memory_bytes: None,
            reserve: Default::default(),
            host: None,
        })
        .unwrap(),
        ..even.clone()
    };
    let verdict = |streaming| {
        let summary = Summary {
            token: 1,
            window: &window,
            streaming,
        };
        summary.to_string().lines().last().unwrap().to_owned()
    };
    assert!(verdict(&one_slot).starts_with("Verdict: ring-bound"));
    // With two slots and a good spread nothing of the plan idles it: half of a token is stalled.
    let text = verdict(&even);
    assert!(
        text.starts_with("Verdict: compute-bound. Waiting for layers takes 50%"),
        "{text}"
    );
}

/// Layers of 109 KB over a link of 46.7 GB/s: 2.3 us each.
fn small(resident: usize, memory_bytes: Option<u64>) -> Streaming {
    let large = streaming(resident, None);
    Streaming {
        plan: ResidencyPlan::with_resident(
            &PlanRequest {
                costs: Arc::new(Costs::uniform(28, BlockCost::of_slab(109_000))),
                fixed: FixedBytes::default(),
                residency: Residency::Layers(resident),
                spread: Spread::Even,
                slots: 2,
                memory_bytes,
                reserve: Default::default(),
                host: None,
            },
            resident,
        ),
        peak_gbps: Some(46.7),
        ..large
    }
}

fn small_loads() -> Vec<LoadRecord> {
    let small = |mut load: LoadRecord| {
        load.bytes = 109_000;
        load
    };
    eight(LoadKind::Async).into_iter().map(small).collect()
}

#[test]
fn small_layers_are_bound_by_being_handed_over_and_not_by_the_link() {
    let mut window = Window::default();
    window.add(&pass_of(0.84, 0.2, 0.6), &small_loads());
    let verdict = small(20, None).verdict(&window).to_string();
    assert_eq!(
        verdict,
        "latency-bound. The layers are small: handing a layer over takes 0.075 ms, its copy \
         0.002 at the link's peak. Keep all layers resident (--num-gpu-layers all): 4166.7 \
         tok/s instead of 1190.5, predicted."
    );
    // Where they do not fit, the advice is not to keep them.
    let verdict = small(20, Some(23 * 109_000)).verdict(&window).to_string();
    assert!(verdict.contains("Every more resident layer"), "{verdict}");
    assert!(verdict.contains("do not fit"), "{verdict}");
}

#[test]
fn a_first_pass_that_waits_for_its_first_loads_alone_is_cold() {
    let mut loads = eight(LoadKind::Async);
    for (index, load) in loads.iter_mut().enumerate() {
        load.pre = Duration::from_micros(if index < 2 { 40_000 } else { 10 });
    }
    let pass = pass_of(600.0, 519.0, 80.06);
    let verdict_of = |kind| {
        let mut window = Window::default();
        window.add(&PassTiming { kind, ..pass }, &loads);
        streaming(20, None).verdict(&window).to_string()
    };
    assert!(
        verdict_of(PassKind::Prompt)
            .starts_with("cold. The first loads were waited for, 80.00 of 600.00 ms"),
        "{}",
        verdict_of(PassKind::Prompt)
    );
    // Of a later pass there is no such excuse.
    assert!(
        !verdict_of(PassKind::Decode).starts_with("cold"),
        "{}",
        verdict_of(PassKind::Decode)
    );
}

#[test]
fn a_link_that_carries_little_of_its_peak_is_said_to() {
    let mut window = Window::default();
    window.add(&pass_of(400.0, 19.8, 380.0), &eight(LoadKind::Async));
    let verdict = streaming(20, None).verdict(&window).to_string();
    assert!(
        verdict.starts_with("link-bound. It carries 36% of its peak: it is slower"),
        "{verdict}"
    );
}

#[test]
fn a_peak_that_is_exceeded_was_measured_too_low_and_the_best_is_kept() {
    let mut window = Window::default();
    window.add(&pass(), &eight(LoadKind::Async));
    let mut low = Streaming {
        peak_gbps: Some(2.1),
        memory: Some(MemoryLimit {
            gbps: 1.9,
            weight_bytes: 600_000_000,
            frame_bytes: 0,
            cache_bytes_per_position: 1000,
            lacking: None,
        }),
        ..streaming(20, None)
    };
    let show = |streaming: &Streaming| {
        let summary = Summary {
            token: 1,
            window: &window,
            streaming,
        };
        summary.to_string()
    };
    let text = show(&low);
    for line in [
        "at 24.7 GB/s, over 100% (the peak was measured too low) of the 2.1 GB/s measured on this link\n",
        "while computing, over 100% (the peak was measured too low) of the 1.9 GB/s measured\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    low.keep_best(&window);
    let text = show(&low);
    assert!(text.contains("100% of the 24.7 GB/s measured"), "{text}");
    assert!(!text.contains("too low"), "{text}");
    // A rate that was set is not raised.
    let mut set = Streaming {
        peak_gbps: Some(2.1),
        ..streaming(20, Some(2.1))
    };
    set.keep_best(&window);
    assert_eq!(set.peak_gbps, Some(2.1));
    assert!(show(&set).contains("100% of the 2.1 GB/s set"));
}

#[test]
fn memory_is_read_at_a_share_of_its_measured_rate() {
    let mut window = Window::default();
    window.add(&pass_of(50.0, 19.8, 30.0), &[]);
    let streaming = Streaming {
        memory: Some(MemoryLimit {
            gbps: 40.0,
            weight_bytes: 600_000_000,
            frame_bytes: 0,
            cache_bytes_per_position: 1000,
            lacking: None,
        }),
        ..streaming(28, None)
    };
    let summary = Summary {
        token: 1,
        window: &window,
        streaming: &streaming,
    };
    // 600 MB in the 20 ms that it did not wait.
    let line = "Memory: weights and cache read at 30.0 GB/s while computing, 75% of the 40.0 GB/s measured\n";
    assert!(summary.to_string().contains(line), "{summary}");
}

#[test]
fn a_stretch_without_cores_is_called_disturbed_and_has_no_floor() {
    let cores = |waited_ms| CoreTime {
        watched: Duration::from_millis(100),
        waited: Duration::from_millis(waited_ms),
        others: Duration::from_millis(50),
        stolen: Duration::ZERO,
    };
    let quiet = pass_of(20.3, 19.8, 0.0);
    let disturbed = PassTiming {
        cores: cores(41),
        ..quiet
    };
    for resident in [28, 20] {
        let streaming = streaming(resident, None);
        let show = |window: &Window| {
            let summary = Summary {
                token: 3,
                window,
                streaming: &streaming,
            };
            summary.to_string()
        };
        let mut window = Window::default();
        window.add(&disturbed, &[]);
        let text = show(&window);
        assert!(
            text.contains("floor not known, the cores were not free | 49.3 tok/s\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "Verdict: disturbed. The compute threads waited for a core 41% of the time \
                 (other programs used 50% of the cores); "
            ),
            "{text}"
        );
        // The next window is too short to say anything of its own; the one after is quiet.
        window.clear();
        window.add(&quiet, &[]);
        assert!(show(&window).contains("disturbed"), "{}", show(&window));
        window.clear();
        window.add(
            &PassTiming {
                cores: cores(1),
                ..quiet
            },
            &[],
        );
        assert!(!show(&window).contains("disturbed"), "{}", show(&window));
    }
}

#[test]
fn a_wait_for_the_link_that_is_longer_than_that_for_cores_is_what_counts() {
    let mut pass = pass();
    pass.cores = CoreTime {
        watched: Duration::from_millis(100),
        waited: Duration::from_millis(20),
        ..CoreTime::default()
    };
    let mut window = Window::default();
    window.add(&pass, &eight(LoadKind::Async));
    let verdict = streaming(20, None).verdict(&window);
    assert!(verdict.to_string().starts_with("link-bound"), "{verdict}");
}

#[test]
fn a_link_that_idles_beside_cores_that_were_taken_is_not_the_limit() {
    let mut window = Window::default();
    let taken = PassTiming {
        cores: CoreTime {
            watched: Duration::from_millis(100),
            waited: Duration::from_millis(96),
            others: Duration::from_millis(97),
            stolen: Duration::ZERO,
        },
        ..pass_of(14.7, 0.4, 14.3)
    };
    window.add(&taken, &small_loads());
    let verdict = small(20, None).verdict(&window).to_string();
    assert!(verdict.starts_with("disturbed"), "{verdict}");
}

#[test]
fn a_resident_run_is_bound_by_its_compute() {
    let mut window = Window::default();
    window.add(&pass_of(20.3, 19.8, 0.0), &[]);
    let streaming = streaming(28, None);
    let text = Summary {
        token: 3,
        window: &window,
        streaming: &streaming,
    }
    .to_string();
    assert!(text.contains("Async usage: no layer is streamed"), "{text}");
    assert!(text.contains("Verdict: compute-bound"), "{text}");
    assert!(!text.contains("Link"), "{text}");
}

/// A pass that serves four sequences gives four tokens, and each has a quarter of its time.
#[test]
fn rates_count_tokens_and_not_passes() {
    let mut window = Window::default();
    let four = PassTiming {
        units: 4,
        rows: 4,
        ..pass()
    };
    window.add(&four, &eight(LoadKind::Async));
    let streaming = streaming(20, None);
    let text = Summary {
        token: 4,
        window: &window,
        streaming: &streaming,
    }
    .to_string();
    assert!(text.contains("Link:  932 MB/token at 24.7 GB/s"), "{text}");
    assert!(
        text.contains("Token: 37.8 ms = compute 5.0 + stalled 32.7 + other 0.1 | floor 36.4 ms | 26.5 tok/s of 27.5 possible"),
        "{text}"
    );
}

/// Made-up records of two stacks: each layer is named with its own.
#[test]
fn layers_of_several_stacks_are_named_with_them() {
    let mut window = Window::default();
    let mut loads = eight(LoadKind::Async);
    loads[3].block.stack = StackId(1);
    window.add(&pass(), &loads);
    let streaming = streaming(20, None);
    let text = Summary {
        token: 1,
        window: &window,
        streaming: &streaming,
    }
    .to_string();
    assert!(text.contains("  Layer 0.0: Pre="), "{text}");
    assert!(text.contains("  Layer 1.9: Pre="), "{text}");
}
