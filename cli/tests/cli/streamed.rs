//! Sound leaves while what follows it is made: told by times alone.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{command, engine};

/// When each frame of a short speech could be read, since the run was started, and what its trace says
/// of when the frame's sound was made, since something that came after that start.
fn times(model: &str, trace: &Path) -> (Vec<Duration>, Vec<Duration>) {
    let started = Instant::now();
    let mut child = command()
        .args(["speak", "--stream", "pcm", "--text", "Hello there."])
        // A layer comes over this link in more than fifty milliseconds.
        .args(["--num-gpu-layers", "0", "--link-gbps", "0.001"])
        .args(["--max-new-tokens", "9", "--model", model, "--trace"])
        .arg(trace)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut sound, mut some) = (child.stdout.take().unwrap(), vec![0; 1 << 16]);
    let (mut bytes, mut came) = (0, Vec::new());
    while let Ok(more @ 1..) = sound.read(&mut some) {
        bytes += more;
        came.push((bytes, started.elapsed()));
    }
    assert!(child.wait().unwrap().success());
    let trace: Value = serde_json::from_slice(&fs::read(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap().iter();
    let made = events.filter(|event| event["name"] == "decode");
    let made = made.map(|event| {
        let us = |name: &str| event[name].as_f64().unwrap();
        Duration::from_secs_f64((us("ts") + us("dur")) / 1e6)
    });
    let made: Vec<_> = made.collect();
    let frame = bytes / made.len();
    let read = (1..=made.len()).map(|frames| {
        let whole = came.iter().find(|(bytes, _)| *bytes >= frames * frame);
        whole.unwrap().1
    });
    (read.collect(), made)
}

#[test]
fn a_frame_can_be_read_before_the_second_after_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for shape in ["vibevoice-tiny", "qwen3-tts-tiny"] {
        let model = folder.path().join(shape).display().to_string();
        engine(["synth", &model, "--shape", shape]).ok();
        let (read, made) = times(&model, &folder.path().join("trace.json"));
        assert!(made.len() > 3, "{shape}: {} frames", made.len());
        // The trace begins after the run does: the second after it was made later than this.
        for (at, (read, made)) in read.iter().zip(&made[2..]).enumerate() {
            assert!(
                read < made,
                "{shape}: frame {at} after {read:?}, its second after {made:?}"
            );
        }
    }
}
