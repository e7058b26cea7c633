//! What a run is made of, held to the reference stage by stage.

use super::*;

#[test]
fn prefill_and_predictor_are_the_references() {
    let cases = ALL
        .iter()
        .flat_map(|asked| BOTH.map(|kernels| (asked, kernels)));
    for (asked, kernels) in cases {
        let expected = recorded(asked.file);
        let mut tts = open_with(asked.folder, Residency::Layers(1), kernels);
        let (voice, options) = (asked.voice(&tts), asked.options(&tts, &expected));
        let mut session = tts.session().unwrap();
        session.keep_stages();
        let prompt = session.prompt(asked.text, &voice).unwrap();
        let what = |stage: &str| format!("{} {kernels:?} {stage}", asked.file);
        close(&what("prefill"), prompt.rows(), &expected.get("prefill"));
        let speaking = session.speak(prompt, options).unwrap();
        let said = speaking.map(Result::unwrap);
        let frames: Vec<Frame> = said.filter_map(|said| said.frame).collect();
        close(
            &what("predictor.logits"),
            &all(&frames, "predictor.logits"),
            &expected.get("predictor.logits"),
        );
    }
}

/// Channel after channel, of rows that have one number for each.
fn by_channel(rows: &[f32], channels: usize) -> Vec<f32> {
    let times = rows.len() / channels;
    let at = |channel: usize, time: usize| rows[time * channels + channel];
    (0..channels)
        .flat_map(|channel| (0..times).map(move |time| at(channel, time)))
        .collect()
}

#[test]
fn each_part_of_the_codec_is_the_references() {
    BOTH.into_iter().for_each(each_part_is_the_references);
}

fn each_part_is_the_references(kernels: Kernels) {
    let (spoken, expected) = (recorded(AUTO.file), recorded("codec.safetensors"));
    let mut tts = open_with(AUTO.folder, Residency::All, kernels);
    let (_, plain, _) = AUTO.speak(&mut tts, &spoken);
    let (voice, options) = (AUTO.voice(&tts), AUTO.options(&tts, &spoken));
    let mut session = tts.session().unwrap();
    session.keep_stages();
    let prompt = session.prompt(AUTO.text, &voice).unwrap();
    let speaking = session.speak(prompt, options).unwrap();
    let said = speaking.map(Result::unwrap);
    let frames: Vec<Frame> = said.filter_map(|said| said.frame).collect();
    // Looking changes nothing.
    for (plain, seen) in plain.iter().zip(&frames) {
        assert!(plain.audio == seen.audio);
        assert!(plain.stages.len() < seen.stages.len());
    }
    let names = expected.header.as_object().unwrap().keys();
    let stages: Vec<_> = names
        .filter(|name| name.starts_with("stage.") && *name != "stage.audio")
        .collect();
    assert_eq!(stages.len(), 12);
    for name in stages {
        let size = |at: usize| expected.header[name]["shape"][at].as_u64().unwrap() as usize;
        let numbers = size(0) * size(1);
        let found = all(&frames, name);
        // The reference decoded the first frames.
        let found = by_channel(&found[..numbers], size(0));
        close(name, &found, &expected.get(name));
    }
}
