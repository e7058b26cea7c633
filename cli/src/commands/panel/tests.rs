use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::profile::{PassTiming, StackNames, Stage};
use offload::{
    BlockCost, BlockId, Costs, FixedBytes, Home, LinkInfo, LoadRecord, PlanRequest, Residency,
    ResidencyPlan, Spread, StackId,
};

use super::*;

fn streaming(layers: usize, resident: usize, emulated_gbps: Option<f64>) -> Streaming {
    Streaming {
        plan: ResidencyPlan::new(&PlanRequest {
            costs: Arc::new(Costs::uniform(layers, BlockCost::of_slab(466_000_000))),
            fixed: FixedBytes::default(),
            residency: Residency::Layers(resident),
            spread: Spread::Even,
            slots: 2,
            memory_bytes: None,
            reserve: Default::default(),
            host: None,
        })
        .unwrap(),
        stack: StackId(0),
        names: StackNames::default(),
        link: LinkInfo {
            home: Home::Ram,
            access: "memory copy".into(),
            emulated_gbps,
        },
        prefetch: true,
        peak_gbps: Some(25.6),
        peak_lacking: None,
        arithmetic: None,
        memory: None,
    }
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

/// One token of 151.2 ms; `load` says what became of each streamed layer.
fn window(streaming: &Streaming, load: impl Fn(usize) -> (LoadKind, f64)) -> Window {
    let now = Instant::now();
    let loads: Vec<LoadRecord> = (streaming.plan.streamed())
        .enumerate()
        .map(|(index, layer)| {
            let (kind, pre_ms) = load(index);
            LoadRecord {
                block: BlockId::new(StackId(0), layer),
                kind,
                slot: 0,
                bytes: 466_000_000,
                issued_at: now,
                copy_from: now,
                copy_to: now + ms(18.8),
                asked_at: now,
                visit_to: now + ms(pre_ms),
                pre: ms(pre_ms),
                post: ms(0.1),
                verify: Duration::ZERO,
            }
        })
        .collect();
    let mut pass = PassTiming {
        rows: 1,
        total: ms(151.2),
        ..PassTiming::default()
    };
    pass.stages[Stage::Mlp].wall = ms(19.8);
    pass.stages[Stage::Transfer].wall = ms(130.9);
    let mut window = Window::default();
    window.add(&pass, &loads);
    window
}

fn drawn(streaming: &Streaming, now: &Window, columns: usize, colour: bool) -> Vec<String> {
    let panel = Panel {
        tokens: 57,
        now,
        mean_tokens_per_s: Some(6.4),
        streaming,
        memory_bytes: Some(6 << 30),
    };
    panel.lines(columns, &Console::with_colour(colour))
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |line, part| line + part.split_once('m').unwrap().1)
}

fn mixed(index: usize) -> (LoadKind, f64) {
    match index {
        0 => (LoadKind::Sync, 45.0),
        1 | 2 => (LoadKind::Async, 40.0),
        _ => (LoadKind::Async, 0.9),
    }
}

#[test]
fn a_panel_at_80_columns() {
    let streaming = streaming(28, 20, None);
    let lines = drawn(&streaming, &window(&streaming, mixed), 80, false);
    let expected = [
        "--- token 57 ------------------------------------------------------------------",
        "Speed:   6.61 tok/s now, 6.40 tok/s mean",
        "Token:   151.2 ms = compute 19.8 + stalled 130.9 + other 0.5 (87% stalled)",
        "Link:    24.7 GB/s, 96% of the 25.6 GB/s measured",
        "Async:   7/8 layers (87%)",
        "Memory:  6.00 GiB",
        "Verdict: link-bound. Some loads came late; 2 more resident layers would give",
        "         +2.3 tok/s.",
        " 0 !..~...~..=...=..=...=..=...",
        ". resident, = ready in time, ~ late (waited for), ! SYNC",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_cell_is_ready_when_its_part_of_the_stalls_is_hidden() {
    // 5 % of 151.2 ms over 8 layers: 0.945 ms each.
    let streaming = streaming(8, 0, None);
    let pre = |pre_ms| window(&streaming, move |_| (LoadKind::Async, pre_ms));
    let strip = |pre_ms| drawn(&streaming, &pre(pre_ms), 80, false)[8].clone();
    assert_eq!(strip(0.94), "0 ========");
    assert_eq!(strip(0.95), "0 ~~~~~~~~");
}

#[test]
fn no_width_is_exceeded_and_no_layer_lost() {
    for layers in [1, 2, 9, 10, 11, 28, 99, 100, 101, 200] {
        for resident in [0, layers / 3, layers] {
            let streaming = streaming(layers, resident, Some(25.6));
            let window = window(&streaming, mixed);
            for columns in [1, 2, 5, 9, 10, 11, 12, 20, 39, 40, 41, 79, 80, 132, 300] {
                let lines = drawn(&streaming, &window, columns, false);
                let wide = lines.iter().find(|line| line.chars().count() > columns);
                assert_eq!(wide, None, "{layers} {resident} {columns}");
                let coloured = drawn(&streaming, &window, columns, true);
                let bare: Vec<String> = coloured.iter().map(|line| without_colours(line)).collect();
                assert_eq!(bare, lines);
                if columns >= 20 {
                    let is_cell = |symbol: &char| ".=~!?".contains(*symbol);
                    let strip = lines.iter().filter_map(|line| {
                        let (index, cells) = line.trim_start().split_once(' ')?;
                        index.parse::<usize>().ok()?;
                        cells.chars().all(|cell| is_cell(&cell)).then_some(cells)
                    });
                    let cells: String = strip.collect();
                    assert_eq!(cells.len(), layers, "{columns} {lines:?}");
                    let still = cells.chars().filter(|&cell| cell == '.').count();
                    assert_eq!(still, resident);
                }
            }
        }
    }
}

#[test]
fn colours_are_reset_on_every_line() {
    let streaming = streaming(28, 20, None);
    let lines = drawn(&streaming, &window(&streaming, mixed), 40, true);
    for line in &lines {
        let set = line.matches("\x1b[").count();
        assert_eq!(set, 2 * line.matches("\x1b[0m").count(), "{line:?}");
    }
    let strip = &lines[lines.len() - 3];
    assert!(
        strip.starts_with(" 0 \x1b[1;31m!\x1b[0m\x1b[2m..\x1b[0m\x1b[33m~"),
        "{lines:?}"
    );
}

#[test]
fn nothing_streamed_and_an_emulated_link_say_so() {
    let resident = streaming(28, 28, None);
    let text = drawn(&resident, &window(&resident, mixed), 80, false).join("\n");
    assert!(text.contains("Link:    nothing is streamed\n"), "{text}");
    assert!(text.contains("Async:   no layer is streamed\n"), "{text}");
    assert!(
        text.contains("Verdict: compute-bound. Every layer"),
        "{text}"
    );
    assert!(
        text.contains(&format!("\n 0 {}\n", ".".repeat(28))),
        "{text}"
    );

    let emulated = streaming(28, 20, Some(25.6));
    let lines = drawn(&emulated, &window(&emulated, mixed), 120, false);
    for start in ["--- ", "Link: ", "Verdict: "] {
        let line = lines.iter().find(|line| line.starts_with(start)).unwrap();
        assert!(line.contains("emulated"), "{line}");
    }
}

#[test]
fn before_the_first_token_there_is_only_the_plan() {
    let streaming = streaming(4, 2, None);
    let lines = drawn(&streaming, &Window::default(), 80, false);
    assert_eq!(lines[1], "0 ?.?.");
    assert_eq!(lines.len(), 3);
}

/// Made-up records: a second stack's layers have a row of their own, however many there are.
#[test]
fn each_stack_has_its_own_rows() {
    let streaming = streaming(28, 20, None);
    let mut now = window(&streaming, mixed);
    let load = |layer, kind| LoadRecord {
        block: BlockId::new(StackId(1), offload::LayerIndex(layer)),
        kind,
        slot: 0,
        bytes: 1,
        issued_at: Instant::now(),
        copy_from: Instant::now(),
        copy_to: Instant::now(),
        asked_at: Instant::now(),
        visit_to: Instant::now(),
        pre: Duration::ZERO,
        post: Duration::ZERO,
        verify: Duration::ZERO,
    };
    let loads = [load(31, LoadKind::Sync), load(29, LoadKind::Async)];
    let pass = PassTiming {
        stack: StackId(1),
        total: ms(10.0),
        ..PassTiming::default()
    };
    now.add(&pass, &loads);
    let lines = drawn(&streaming, &now, 80, false);
    let at = |what: &str| lines.iter().position(|line| line == what).unwrap();
    let (first, second) = (at("stack 0"), at("stack 1"));
    assert_eq!(second, first + 2, "{lines:?}");
    assert!(lines[first + 1].len() == "28 ".len() + 28, "{lines:?}");
    assert_eq!(lines[second + 1], format!(" 0 {}=?!", "?".repeat(29)));
    // One stack is not named.
    let lines = drawn(&streaming, &window(&streaming, mixed), 80, false);
    assert!(!lines.iter().any(|line| line.starts_with("stack")));
}

/// A pass that serves four sequences gives four tokens.
#[test]
fn speed_counts_tokens_and_not_passes() {
    let streaming = streaming(28, 28, None);
    let mut now = Window::default();
    now.add(
        &PassTiming {
            units: 4,
            rows: 4,
            total: ms(200.0),
            ..PassTiming::default()
        },
        &[],
    );
    let lines = drawn(&streaming, &now, 80, false);
    assert!(lines[1].contains("20.0 tok/s now"), "{lines:?}");
    assert!(lines[2].contains("50.0 ms = "), "{lines:?}");
}
