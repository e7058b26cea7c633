//! The offload summary of `--profile`: the format to the letter, below it what the tags hide.

use std::fmt;
use std::time::Duration;

use loader::units::{gigabytes, rate};
use offload::LoadKind;

use super::core_time::CoreShares;
use super::window::{Streaming, Window};

/// A summary is due after this long even if its tokens have not all come.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(5);

/// A window, ready to be printed.
#[derive(Debug)]
pub struct Summary<'a> {
    pub token: usize,
    pub window: &'a Window,
    pub streaming: &'a Streaming,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "=".repeat(80);
        writeln!(
            f,
            "{rule}\nPROFILING SUMMARY - Token {}\n{rule}",
            self.token
        )?;
        self.layers(f)?;
        self.limits(f)
    }
}

impl Summary<'_> {
    fn layers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = self.window.layers().len();
        if layers == 0 {
            return writeln!(f, "Async usage: no layer is streamed");
        }
        let ahead = self
            .window
            .layers()
            .filter(|layer| layer.kind == LoadKind::Async)
            .count();
        writeln!(
            f,
            "Async usage: {ahead}/{layers} layers ({}%)",
            ahead * 100 / layers
        )?;
        for layer in self.window.layers() {
            let mark = if layer.problem { "   <-- PROBLEM!" } else { "" };
            writeln!(
                f,
                "  Layer {:2}: Pre={:6.2}ms  Post={:6.2}ms  [{}]{mark}",
                layer.block.layer, layer.pre_ms, layer.post_ms, layer.kind
            )?;
        }
        Ok(())
    }

    fn limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let means = self.window.means();
        let limit = self.streaming.limit(means);
        let emulated = match self.streaming.link.emulated_gbps {
            Some(_) => " (emulated)",
            None => "",
        };
        if let Some(rate) = self.window.prompt_rate(self.streaming) {
            let lacking = self
                .streaming
                .arithmetic
                .as_ref()
                .and_then(|limit| limit.lacking);
            writeln!(f, "Prompt: {rate}{}{emulated}", measured_too_low(lacking))?;
        }
        if let Some(gbps) = self.window.link_gbps() {
            write!(
                f,
                "Link:  {}/token at {} GB/s",
                gigabytes(means.bytes_per_pass() as u64),
                rate(gbps)
            )?;
            match self.streaming.peak_gbps {
                Some(peak) => writeln!(
                    f,
                    ", {:.0}% of the {} GB/s {} on this link{emulated}",
                    gbps / peak * 100.0,
                    rate(peak),
                    if emulated.is_empty() {
                        "measured"
                    } else {
                        "set"
                    }
                )?,
                None => writeln!(f, "; the link's peak was not measured{emulated}")?,
            }
        }
        if let Some(limit) = &self.streaming.memory
            && let Some(memory) = limit.utilisation(self.window)
        {
            writeln!(
                f,
                "Memory: weights and cache read at {} GB/s while computing, {:.0}% of the {} GB/s measured{}",
                rate(memory.gbps),
                memory.share * 100.0,
                rate(limit.gbps),
                measured_too_low(limit.lacking)
            )?;
        }
        if let Some(verify_ms) = means.verify_ms() {
            writeln!(
                f,
                "Verify: {verify_ms:.2} ms/token for checksums, {:.1}% of a token, on a thread of its own",
                verify_ms / means.token_ms() * 100.0
            )?;
        }
        write!(
            f,
            "Token: {:.1} ms = compute {:.1} + stalled {:.1} + other {:.1}",
            means.token_ms(),
            means.compute_ms(),
            means.stalled_ms(),
            means.other_ms(),
        )?;
        let tokens_per_s = 1000.0 / means.token_ms();
        match self.window.cores().lacking() {
            // The floor has the window's own compute in it, which was held up.
            Some(_) => writeln!(
                f,
                " | floor not known, the cores were not free | {} tok/s{emulated}",
                rate(tokens_per_s)
            )?,
            None => writeln!(
                f,
                " | floor {:.1} ms | {} tok/s of {} possible{emulated}",
                limit.floor_ms,
                rate(tokens_per_s),
                rate(1000.0 / limit.floor_ms),
            )?,
        }
        writeln!(
            f,
            "Verdict: {}{emulated}",
            self.streaming.verdict(self.window)
        )
    }
}

/// What is added to a limit that was measured while the cores were not free.
fn measured_too_low(lacking: Option<CoreShares>) -> &'static str {
    match lacking {
        Some(_) => " (too low: the cores were not free)",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use offload::{
        BlockBytes, BlockId, FixedBytes, Home, LayerIndex, LinkInfo, LoadRecord, PlanRequest,
        Residency, ResidencyPlan, Spread, StackId,
    };

    use super::super::{CoreTime, MemoryLimit, PassTiming, Stage};
    use super::*;

    fn streaming(resident: usize, emulated_gbps: Option<f64>) -> Streaming {
        let plan = ResidencyPlan::new(&PlanRequest {
            layers: 28,
            block: BlockBytes::of_slab(466_000_000),
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
            link,
            prefetch: true,
            peak_gbps: Some(25.6),
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
            rows: 1,
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
        window.add(&pass(), &eight(LoadKind::Async), false);
        window.add(&pass(), &eight(LoadKind::Sync), false);
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
        window.add(&pass(), &[load(0, LoadKind::Sync, 350.0, 0.1)], true);
        window.add(&pass(), &[load(0, LoadKind::Async, 10.0, 0.1)], false);
        let line = window.layers().next().unwrap();
        assert_eq!((line.kind, line.problem), (LoadKind::Sync, false));
        assert!((line.pre_ms - 350.0).abs() < 0.01);
        window.clear();
        window.add(&pass(), &[load(0, LoadKind::Sync, 350.0, 0.1)], false);
        assert!(window.layers().next().unwrap().problem);
    }

    #[test]
    fn an_emulated_link_says_so_in_each_of_its_lines() {
        let mut window = Window::default();
        window.add(&pass(), &eight(LoadKind::Async), false);
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
    fn a_plan_that_idles_the_link_is_told_so() {
        let mut window = Window::default();
        let slow = pass_of(400.0, 200.0, 199.0);
        window.add(&slow, &eight(LoadKind::Async), false);
        let even = streaming(20, None);
        let one_slot = Streaming {
            plan: ResidencyPlan::new(&PlanRequest {
                layers: 28,
                block: BlockBytes::of_slab(466_000_000),
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
        assert!(verdict(&even).starts_with("Verdict: link-bound"));
    }

    #[test]
    fn memory_is_read_at_a_share_of_its_measured_rate() {
        let mut window = Window::default();
        window.add(&pass_of(50.0, 19.8, 30.0), &[], false);
        let streaming = Streaming {
            memory: Some(MemoryLimit {
                gbps: 40.0,
                weight_bytes: 600_000_000,
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
            window.add(&disturbed, &[], false);
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
            window.add(&quiet, &[], false);
            assert!(show(&window).contains("disturbed"), "{}", show(&window));
            window.clear();
            window.add(
                &PassTiming {
                    cores: cores(1),
                    ..quiet
                },
                &[],
                false,
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
        window.add(&pass, &eight(LoadKind::Async), false);
        let verdict = streaming(20, None).verdict(&window);
        assert!(verdict.to_string().starts_with("link-bound"), "{verdict}");
    }

    #[test]
    fn a_resident_run_is_bound_by_its_compute() {
        let mut window = Window::default();
        window.add(&pass_of(20.3, 19.8, 0.0), &[], false);
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
}
