//! The report files of real runs, read back: a trace whose lanes hold what they promise, tables
//! that add up, pictures and pages that parse.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use engine::profile::files::{self, Origin, RunRecord};
use engine::profile::{LinkPeak, Recording, SpanName, Stage, Streaming, Timing};
use engine::{GenerationOptions, Model, ModelOptions, Source};
use offload::{Home, Prefetch, Residency, StackId};
use serde_json::Value;

const TOKENS: usize = 24;
const COPIES: u64 = 3;
const FIRST_SLOT: u64 = 10;

/// A run of the demo model, with all that its files are made from.
struct Ran {
    recording: Recording,
    timing: Timing,
    streaming: Streaming,
    origin: Origin,
}

impl Ran {
    fn run(&self) -> RunRecord<'_> {
        RunRecord {
            model: "the <demo> & \"model\"",
            name: "the <demo> & \"model\"",
            origin: &self.origin,
            unit: files::Unit::Token,
            ended: "max_new_tokens",
            tokens: self.recording.steps.len(),
            recording: &self.recording,
            rows: &[],
            timing: &self.timing,
            streaming: &self.streaming,
            peak_memory_bytes: Some(1 << 30),
        }
    }

    fn text(&self, write: fn(&RunRecord<'_>, &mut Vec<u8>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&self.run(), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

fn ran(options: ModelOptions, tokens: usize) -> Ran {
    let peak = LinkPeak {
        gbps: options.link_gbps.unwrap_or(10.0),
        lacking: None,
    };
    let mut model = Model::open(&Source::Demo, options).unwrap();
    model.measure_memory().unwrap();
    let streaming = model.streaming(Some(peak));
    let prompt = model.blueprint().encode("Once upon a time").unwrap();
    let mut session = model.session().unwrap();
    session.record();
    let options = GenerationOptions {
        max_new_tokens: tokens,
        ignore_eos: true,
        ..Default::default()
    };
    let mut generation = session.generate(prompt, options).unwrap();
    for piece in &mut generation {
        piece.unwrap();
    }
    let timing = generation.report().timing;
    let recording = generation.take_recording().unwrap();
    assert_eq!(recording.steps.len(), tokens);
    Ran {
        recording,
        timing,
        streaming,
        origin: Origin {
            version: "1.2.3".into(),
            commit: Some("0123456789ab".into()),
            date: "2026-01-31T23:59:59Z".into(),
            command: "engine generate".into(),
            seed: Some(7),
            machine: "a machine".into(),
        },
    }
}

fn twenty() -> ModelOptions {
    ModelOptions {
        residency: Residency::Layers(20),
        ..Default::default()
    }
}

fn emulated() -> ModelOptions {
    ModelOptions {
        link_gbps: Some(0.5),
        ..twenty()
    }
}

/// A complete event, in nanoseconds.
#[derive(Debug, Clone)]
struct Event {
    name: String,
    from: u64,
    to: u64,
    args: Value,
}

impl Event {
    /// Its name without the number of the token.
    fn stage(&self) -> &str {
        self.name.split(' ').next().unwrap()
    }
}

fn nanos(micros: &Value) -> u64 {
    (micros.as_f64().unwrap() * 1000.0).round() as u64
}

/// The lanes of a trace by their number, in the order of the file.
fn lanes(trace: &Value) -> BTreeMap<u64, Vec<Event>> {
    let mut lanes: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        if event["ph"] != "X" {
            continue;
        }
        let from = nanos(&event["ts"]);
        lanes
            .entry(event["tid"].as_u64().unwrap())
            .or_default()
            .push(Event {
                name: event["name"].as_str().unwrap().into(),
                from,
                to: from + nanos(&event["dur"]),
                args: event["args"].clone(),
            });
    }
    lanes
}

fn trace(ran: &Ran) -> Value {
    let text = ran.text(files::write_trace);
    let number = text.split("\"ts\":").nth(1).unwrap();
    let number = number.split(',').next().unwrap();
    assert_eq!(number.split('.').nth(1).unwrap().len(), 3, "{number}");
    serde_json::from_str(&text).unwrap()
}

/// Every event with those it is inside of, outermost first. Panics where two cross.
fn nested(events: &[Event]) -> Vec<(Vec<Event>, Event)> {
    let mut open: Vec<Event> = Vec::new();
    let mut all = Vec::new();
    for event in events {
        let before = all.last().map_or(0, |(_, last): &(_, Event)| last.from);
        assert!(event.from >= before, "out of order: {event:?}");
        while open
            .last()
            .is_some_and(|last| last.to <= event.from && event.to > last.to)
        {
            open.pop();
        }
        if let Some(last) = open.last() {
            assert!(event.to <= last.to, "{event:?} crosses {last:?}");
        }
        all.push((open.clone(), event.clone()));
        open.push(event.clone());
    }
    all
}

/// No two at the same time; neighbours may touch.
#[track_caller]
fn disjoint(events: &[Event]) {
    for pair in events.windows(2) {
        assert!(
            pair[0].to <= pair[1].from,
            "{:?} overlaps {:?}",
            pair[0],
            pair[1]
        );
    }
}

fn layer(event: &Event) -> u64 {
    event.args["layer"].as_u64().unwrap()
}

#[test]
fn the_lanes_of_a_trace_hold_what_they_promise() {
    let ram = ModelOptions {
        home: Some(Home::Ram),
        slots: Some(3),
        ..twenty()
    };
    let at_need = ModelOptions {
        prefetch: Prefetch::AtNeed,
        ..emulated()
    };
    for options in [twenty(), ram, emulated(), at_need] {
        let ran = ran(options.clone(), TOKENS);
        let trace = trace(&ran);
        let lanes = lanes(&trace);
        for events in lanes.values() {
            nested(events);
        }
        disjoint(&lanes[&2]);
        disjoint(&lanes[&COPIES]);
        let streamed: Vec<u64> = (ran.streaming.plan.streamed())
            .map(|layer| u64::from(layer.0))
            .collect();
        assert_eq!(streamed.len(), 8);

        // The copies lie in the order of the visits, and their true beginnings grow. Where several
        // threads read, one that was held up may begin a layer after its neighbour.
        let copies = &lanes[&COPIES];
        let mut order: Vec<u64> = copies.iter().map(layer).collect();
        let mut expected = streamed.repeat(TOKENS);
        if ran.streaming.link.home == Home::Disk {
            order.sort_unstable();
            expected.sort_unstable();
        }
        assert_eq!(order, expected, "{options:?}");
        let begins: Vec<f64> = (copies.iter())
            .map(|copy| copy.args["copy_from_us"].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(begins.is_sorted(), "{begins:?}");

        // A slot is in one state at a time: a copy never overlaps a visit of the same slot.
        let slots: Vec<&Vec<Event>> = (lanes.iter())
            .filter(|(lane, _)| **lane >= FIRST_SLOT)
            .map(|(_, events)| events)
            .collect();
        assert_eq!(slots.len(), ran.streaming.plan.slots());
        let mut visits: BTreeMap<u64, usize> = BTreeMap::new();
        for events in &slots {
            disjoint(events);
            let filled = |event: &&Event| ["read", "copy"].contains(&event.stage());
            let visited = |event: &&Event| event.stage() == "visit";
            let filled: Vec<u64> = events.iter().filter(filled).map(layer).collect();
            let visited: Vec<u64> = events.iter().filter(visited).map(layer).collect();
            assert_eq!(filled, visited);
            for layer in visited {
                *visits.entry(layer).or_default() += 1;
            }
        }
        let expected = streamed.iter().map(|&layer| (layer, TOKENS)).collect();
        assert_eq!(visits, expected, "one visit a token");

        // Every layer computes once a token, and while a streamed one does, its slot is visited.
        let (waits, computes): (Vec<&Event>, Vec<&Event>) =
            lanes[&2].iter().partition(|event| event.stage() == "wait");
        assert_eq!(computes.len(), 28 * TOKENS);
        // What it waited for is what it computes next; over a slow link nothing is ever there.
        for wait in &waits {
            let next = computes.iter().find(|compute| compute.from >= wait.to);
            assert_eq!(next.map(|compute| layer(compute)), Some(layer(wait)));
            assert!(streamed.contains(&layer(wait)));
        }
        if options.prefetch == Prefetch::AtNeed {
            assert_eq!(waits.len(), 8 * TOKENS);
        }
        let visiting: Vec<&Event> = (slots.iter().copied().flatten())
            .filter(|event| event.stage() == "visit")
            .collect();
        for compute in (computes.iter()).filter(|event| event.args["streamed"] == true) {
            let mut inside = visiting.iter().filter(|visit| {
                visit.from <= compute.from
                    && compute.to <= visit.to
                    && layer(visit) == layer(compute)
            });
            assert!(inside.next().is_some(), "{compute:?}");
        }
    }
}

/// Made-up records: the prompt's pass is another stack's, and a step serves four sequences.
#[test]
fn a_trace_of_two_stacks_names_them_and_its_rate_counts_tokens() {
    let mut ran = ran(twenty(), 3);
    let layers = |trace: &Value, lane: u64, step: u64| -> BTreeSet<String> {
        let compute = lanes(trace).remove(&lane).unwrap();
        let of_step = |event: &&Event| event.args["step"] == step && event.stage() == "layer";
        let named = compute.iter().filter(of_step).map(|it| it.name.clone());
        named.collect()
    };
    let one = trace(&ran);
    assert!(layers(&one, 2, 0).contains("layer 3"));
    assert!(!one.to_string().contains("\"stack\""));
    let rate = |trace: &Value| {
        let counters = trace["traceEvents"].as_array().unwrap().iter();
        let mut rates = counters.filter(|event| event["name"] == "tok/s");
        rates.next().unwrap()["args"]["tok/s"].as_f64().unwrap()
    };
    let one_rate = rate(&one);
    ran.recording.steps[0].timing.stack = StackId(1);
    for load in &mut ran.recording.steps[0].loads {
        load.block.stack = StackId(1);
    }
    ran.recording.steps[1].timing.units = 4;
    // The compute of the second one is the layers', not the passes': a span says whose it is.
    for span in &mut ran.recording.steps[0].spans {
        if let SpanName::Layer(block) = &mut span.name {
            block.stack = StackId(1);
        }
    }
    let two = trace(&ran);
    let lanes = lanes(&two);
    let lane_of = |name: &str| {
        let events = two["traceEvents"].as_array().unwrap();
        let named = events.iter().find(|event| event["args"]["name"] == name);
        named.unwrap()["tid"].as_u64().unwrap()
    };
    let [first, second] = ["compute: stack 0", "compute: stack 1"].map(lane_of);
    assert!(layers(&two, second, 0).contains("layer 1.3"));
    assert!(layers(&two, first, 1).contains("layer 0.3"));
    let stacks = |lane: u64| -> BTreeSet<u64> {
        let stacks = lanes[&lane].iter().map(|it| it.args["stack"].as_u64());
        stacks.map(Option::unwrap).collect()
    };
    // Each stack's compute has a lane of its own; copies and slots are shared.
    assert_eq!(stacks(first), BTreeSet::from([0]));
    assert_eq!(stacks(second), BTreeSet::from([1]));
    for lane in [3, 10] {
        assert_eq!(stacks(lane), BTreeSet::from([0, 1]), "lane {lane}");
    }
    let streamed = |event: &&Event| event.args["step"] == 0 && event.args["streamed"] == true;
    let streamed = lanes[&second].iter().filter(streamed).count();
    assert_eq!(streamed, ran.recording.steps[0].loads.len());
    assert!((rate(&two) / one_rate - 4.0).abs() < 0.01);
}

#[test]
fn stages_nest_in_a_trace_as_they_do_and_add_up_to_the_timing() {
    let ran = ran(emulated(), TOKENS);
    let trace = trace(&ran);
    let stages: BTreeMap<&str, Stage> = (Stage::ALL.into_iter())
        .map(|stage| (stage.name(), stage))
        .collect();
    let mut sums: BTreeMap<(bool, &str), u64> = BTreeMap::new();
    let lanes = lanes(&trace);
    for (outer, event) in nested(&lanes[&1]) {
        // No part of the run, and on the timeline so that its time is not taken for one.
        if event.name == "measuring peaks" {
            assert!(outer.is_empty(), "{outer:?}");
            continue;
        }
        let stage = stages[event.stage()];
        let parent = outer.last().map(|event| stages[event.stage()]);
        match (stage.parent(), stage.in_pass()) {
            (Some(expected), _) => assert_eq!(parent, Some(expected), "{event:?}"),
            (None, false) => assert_eq!(parent, None, "{event:?}"),
            (None, true) => assert!(
                matches!(parent, Some(Stage::Prefill | Stage::Step)),
                "{event:?} in {parent:?}"
            ),
        }
        let prompt = outer.first().is_some_and(|root| root.stage() == "prefill");
        *sums.entry((prompt, stage.name())).or_default() += event.to - event.from;
    }
    let totals = ran.timing.totals();
    let passes = [(true, &totals.prompt), (false, &totals.decode)];
    for stage in Stage::ALL.into_iter().filter(|stage| stage.in_pass()) {
        for (prompt, pass) in passes {
            let sum = sums.get(&(prompt, stage.name())).copied().unwrap_or(0);
            let timed = pass.stages[stage].wall.as_nanos() as u64;
            assert_eq!(sum, timed, "{} {prompt}", stage.name());
        }
    }
    let steps = lanes[&1].iter().filter(|event| event.stage() == "step");
    let indices: Vec<u64> = steps
        .map(|step| step.args["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indices, (1..TOKENS as u64).collect::<Vec<_>>());
    let near = |sum: u64, ms: f64| (sum as f64 / 1e6 - ms).abs() < 1e-3;
    assert!(near(sums[&(false, "model_load")], ran.timing.model_load_ms));
    assert!(near(sums[&(false, "init")], ran.timing.init_ms));
}

#[test]
fn an_emulated_link_is_called_one_in_every_file() {
    let ran = ran(emulated(), 4);
    let trace = trace(&ran);
    let named = |what: &str| {
        let events = trace["traceEvents"].as_array().unwrap().iter();
        events
            .filter(|event| event["name"] == what)
            .map(|event| event["args"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let threads = named("thread_name");
    assert_eq!(threads[..2], ["token", "compute"]);
    assert!(threads[2].starts_with("copy stream"), "{threads:?}");
    assert!(threads[3].starts_with("prefetch slot 0"), "{threads:?}");
    assert!(threads[2..].iter().all(|name| name.contains("emulated")));
    assert!(named("process_name")[0].contains("emulated"));
    assert_eq!(trace["otherData"]["emulated_gbps"], 0.5);
    let counters = trace["traceEvents"].as_array().unwrap().iter();
    let counters: Vec<&Value> = counters.filter(|event| event["ph"] == "C").collect();
    let of = |name: &str| {
        counters
            .iter()
            .filter(|event| event["name"] == name)
            .count()
    };
    assert_eq!(of("tok/s"), 3);
    if cfg!(target_os = "linux") {
        assert_eq!(of("memory"), 4);
    }
    let stats: Value = serde_json::from_str(&ran.text(files::write_stats)).unwrap();
    assert_eq!(stats["link"]["emulated_gbps"], 0.5);
    assert!(stats["verdict"].as_str().unwrap().ends_with("(emulated)"));
    assert!(ran.text(files::write_flamegraph).contains("emulated"));
    assert_eq!(page_data(&ran)["emulated"], true);
}

#[test]
fn the_table_has_the_stages_and_every_step() {
    let ran = ran(twenty(), TOKENS);
    let text = ran.text(files::write_tsv);
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "Stage\tTime(ms)\tCount\tAvg(ms)\tTotal(ms)"
    );
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    let decimals = |text: &str| text.split_once('.').unwrap().1.len();
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(
            [1, 3, 4].iter().all(|&column| decimals(row[column]) == 4),
            "{row:?}"
        );
    }
    let number = |row: &[&str], column: usize| row[column].parse::<f64>().unwrap();
    let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap();
    assert_eq!(number(row("prefill/blocks/mlp"), 2), 28.0);
    assert_eq!(
        number(row("generate/step/blocks/mlp"), 2),
        28.0 * (TOKENS - 1) as f64
    );
    let steps: Vec<_> = rows
        .iter()
        .filter(|row| row[0].starts_with("step["))
        .collect();
    assert_eq!(steps.len(), TOKENS - 1);
    assert_eq!((steps[0][0], steps[2][0]), ("step[1]", "step[3]"));
    let sum: f64 = steps.iter().map(|row| number(row, 1)).sum();
    assert!((sum - number(row("generate/step"), 1)).abs() < 0.01);
    assert!((sum - number(steps.last().unwrap(), 4)).abs() < 0.01);
}

#[test]
fn the_statistics_add_up() {
    let ran = ran(twenty(), TOKENS);
    let stats: Value = serde_json::from_str(&ran.text(files::write_stats)).unwrap();
    let totals = ran.timing.totals();
    assert_eq!(stats["tokens"], TOKENS);
    assert_eq!(stats["loads"]["async"], 8 * TOKENS);
    assert_eq!(stats["loads"]["bytes"], totals.bytes);
    assert_eq!(
        stats["plan"]["streamed_layers"].as_array().unwrap().len(),
        8
    );
    assert_eq!(stats["machine"], "a machine");
    assert_eq!(stats["origin"]["commit"], "0123456789ab");
    assert_eq!(stats["origin"]["seed"], 7);
    let top = stats["top_by_cpu_time"].as_array().unwrap();
    assert_eq!(top.len(), 10);
    let times: Vec<f64> = top
        .iter()
        .map(|it| it["cpu_time_ms"].as_f64().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    assert!(top.iter().all(|it| it["cuda_time_ms"].is_null()));
    assert_eq!(stats["top_by_cuda_time"].as_array().unwrap().len(), 0);
    let mlp = top.iter().find(|it| it["name"] == "mlp").unwrap();
    assert_eq!(mlp["count"], 28 * TOKENS);
    let wall = totals.prompt.stages[Stage::Mlp].wall + totals.decode.stages[Stage::Mlp].wall;
    assert!((mlp["cpu_time_ms"].as_f64().unwrap() - wall.as_secs_f64() * 1e3).abs() < 1e-6);
    // Nothing is counted twice.
    assert!(times.iter().sum::<f64>() <= ran.timing.tree().total.as_secs_f64() * 1e3 + 1e-6);
}

/// Tags are closed in order, attributes are quoted, text is escaped. Returns the tags' names.
fn well_formed(xml: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = xml
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>")
        .unwrap();
    while let Some((text, after)) = rest.split_once('<') {
        assert!(!text.contains('>'), "{text}");
        let mut entities = text.split('&').skip(1);
        assert!(entities.all(|it| {
            ["amp;", "lt;", "gt;", "quot;"]
                .iter()
                .any(|e| it.starts_with(e))
        }));
        let (tag, after) = after.split_once('>').unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap().to_owned();
        all.push(name.clone());
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    all
}

#[test]
fn the_flame_graph_is_a_picture_of_the_stages() {
    let ran = ran(twenty(), 4);
    let svg = ran.text(files::write_flamegraph);
    let tags = well_formed(&svg);
    let titles = tags.iter().filter(|tag| *tag == "title").count();
    // The run, and every node of the stage tree.
    assert_eq!(titles, 1 + ran.timing.tree().walk().len());
    assert!(svg.contains("the &lt;demo&gt; &amp; &quot;model&quot;"));
    for away in ["href", "<script", "url(", "@import"] {
        assert!(!svg.contains(away), "{away}");
    }
    // A box is as wide as its time, and inside the picture.
    let widths = svg.split("<svg x=\"").skip(1).map(|part| {
        let number = |text: &str| text.split('"').next().unwrap().parse::<f64>().unwrap();
        (number(part), number(part.split("width=\"").nth(1).unwrap()))
    });
    for (x, width) in widths {
        assert!(x >= 16.0 && x + width <= 1184.1, "{x} {width}");
    }
}

/// The data inside the page.
fn page_data(ran: &Ran) -> Value {
    let page = ran.text(files::write_html);
    let data = page.split("id=\"data\">").nth(1).unwrap();
    serde_json::from_str(data.split("</script>").next().unwrap()).unwrap()
}

#[test]
fn the_page_carries_its_data_and_asks_for_nothing() {
    let ran = ran(emulated(), TOKENS);
    let page = ran.text(files::write_html);
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.contains("<title>the &lt;demo&gt; &amp; &quot;model&quot; - run report</title>"));
    assert!(page.contains("default-src 'none'"));
    assert_eq!(page.matches("</script>").count(), 2);
    for away in ["http:", "https:", " src=", "url(", "@import", "{{"] {
        assert!(!page.contains(away), "{away}");
    }
    let data = page_data(&ran);
    assert_eq!(data["stats"]["model"], "the <demo> & \"model\"");
    let length = |path: &str| data.pointer(path).unwrap().as_array().unwrap().len();
    assert_eq!(length("/steps/from"), TOKENS);
    assert_eq!(length("/computes/from"), 28 * TOKENS);
    for column in [
        "layer",
        "step",
        "slot",
        "sync",
        "copy_from",
        "copy",
        "ahead",
        "pre",
        "visit",
    ] {
        assert_eq!(length(&format!("/loads/{column}")), 8 * TOKENS, "{column}");
    }
    // The columns give the waits back, to the tick.
    let ticks: i64 = data["loads"]["pre"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_i64().unwrap())
        .sum();
    let stalled = ran.timing.totals().stalled.as_nanos() as i64 / 100;
    assert!(
        (ticks - stalled).abs() <= 8 * TOKENS as i64,
        "{ticks} {stalled}"
    );
    let summary = data["summary"].as_str().unwrap();
    assert!(
        summary.contains(&format!("PROFILING SUMMARY - Token {TOKENS}")),
        "{summary}"
    );
}

#[test]
fn runs_without_streams_steps_or_anything_have_files_too() {
    let all = ModelOptions {
        residency: Residency::All,
        ..Default::default()
    };
    let resident = ran(all, 3);
    let one = ran(twenty(), 1);
    let mut nothing = ran(twenty(), 1);
    nothing.recording.steps.clear();
    nothing.recording.startup.clear();
    for ran in [&resident, &one, &nothing] {
        serde_json::from_str::<Value>(&ran.text(files::write_trace)).unwrap();
        serde_json::from_str::<Value>(&ran.text(files::write_stats)).unwrap();
        well_formed(&ran.text(files::write_flamegraph));
        assert!(ran.text(files::write_tsv).lines().count() > 1);
        page_data(ran);
    }
    assert!(!resident.text(files::write_trace).contains("copy stream"));
    assert!(page_data(&resident)["stats"]["link"].is_null());
    assert!(page_data(&nothing)["summary"].is_null());
}

#[test]
fn every_file_says_what_was_left_out() {
    let mut ran = ran(twenty(), 6);
    let dropped: Duration = ran
        .recording
        .steps
        .drain(4..)
        .map(|step| step.timing.total)
        .sum();
    ran.recording.left_out = 2;
    let trace = ran.text(files::write_trace);
    assert!(trace.contains("2 steps left out") && trace.contains("\"steps_left_out\":2"));
    let stats: Value = serde_json::from_str(&ran.text(files::write_stats)).unwrap();
    assert_eq!(
        (&stats["steps_recorded"], &stats["steps_left_out"]),
        (&4.into(), &2.into())
    );
    assert!(
        ran.text(files::write_flamegraph)
            .contains("2 steps left out")
    );
    assert!(
        page_data(&ran)["left_out"]
            .as_str()
            .unwrap()
            .starts_with("2 steps left out")
    );
    let table = ran.text(files::write_tsv);
    let last: Vec<&str> = table.lines().last().unwrap().split('\t').collect();
    assert_eq!((last[0], last[2]), ("steps_left_out", "2"));
    let ms = dropped.as_secs_f64() * 1e3;
    assert!(
        (last[1].parse::<f64>().unwrap() - ms).abs() < 1e-3,
        "{last:?} {ms}"
    );
}
