//! `engine tune`: what it measures, verifies and recommends.

use crate::common::{make, run, tiny};

/// A layer of the demo model takes about 5 ms over this link, far more than its compute: more
/// resident layers are always faster.
const SLOW: &str = "--link-gbps 0.02 --repeats 1 --tokens 3";

#[test]
fn within_a_limit_it_recommends_the_most_layers_and_says_what_would_help() {
    let plans = run("plan --json --memory 1TiB --link-gbps 0.02")
        .ok()
        .json();
    let bytes = plans["plans"][10]["total_bytes"].as_u64().unwrap();
    // A layer takes 14 ms: a thread that comes late now and then cannot make one fewer look better.
    let slower = "--link-gbps 0.008 --repeats 1 --tokens 3";
    let json = run(&format!("tune {slower} --memory {bytes} --json"))
        .ok()
        .json();
    let verified = json["verified"].as_array().unwrap();
    assert_eq!(verified.len(), 3);
    let best = &verified[json["best"].as_u64().unwrap() as usize];
    let resident = best["resident"].as_u64().unwrap();
    // One slot less makes room for one layer more.
    assert!((10..=11).contains(&resident), "{best}");
    for plan in verified {
        assert!(plan["memory_bytes"].as_u64().unwrap() <= bytes, "{plan}");
        // The emulated bus keeps its pace: the planner's word holds.
        assert!(plan["error"].as_f64().unwrap().abs() < 0.25, "{plan}");
    }
    let command = json["advice"]["command"].as_str().unwrap();
    assert!(
        command.contains(&format!("--num-gpu-layers {resident}")),
        "{command}"
    );
    assert!(
        json["advice"]["more_memory"]["ratio"].as_f64().unwrap() > 2.0,
        "{json}"
    );
    // Half of the cache is as much as all other layers.
    let smaller = &json["advice"]["smaller_cache"];
    assert_eq!(smaller["resident"], 28, "{json}");
    assert!(smaller["ratio"].as_f64().unwrap() > 2.0, "{json}");
    assert!(
        json["advice"]["faster_link"]["ratio"].as_f64().unwrap() > 1.5,
        "{json}"
    );
    // What it prints can be typed.
    let typed = command.strip_prefix("engine ").unwrap();
    run(&format!("{typed} --max-new-tokens 2 --prompt Hello")).ok();
}

#[test]
fn what_is_typed_is_kept() {
    let json = run(&format!(
        "tune {SLOW} --memory 30MiB --slots 3 --resident last --json"
    ))
    .ok()
    .json();
    for plan in json["verified"].as_array().unwrap() {
        assert_eq!(plan["spread"], "last", "{plan}");
        let streamed = 28 - plan["resident"].as_u64().unwrap();
        assert_eq!(plan["slots"].as_u64().unwrap(), streamed.min(3), "{plan}");
    }
}

#[test]
fn a_sweep_is_plotted_in_the_terminal_and_as_svg() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sweep.svg");
    let made = make(&tiny());
    let out = made
        .run("tune", &format!("{SLOW} --plot {}", file.display()))
        .ok();
    assert!(
        out.stdout
            .contains("Recommended:\n  engine generate --model "),
        "{}",
        out.stdout
    );
    assert!(
        out.stdout.contains("emulated link\n   0 "),
        "{}",
        out.stdout
    );
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    // Both lines, and a dot for each N.
    let layers = tiny().layers;
    assert_eq!(svg.matches("<polyline").count(), 2);
    assert_eq!(svg.matches("class=\"dot\"").count(), layers + 1);
    // The recommended plan stands out; each measured N has its mark, and no other N has one.
    assert_eq!(svg.matches("class=\"best\"").count(), 1);
    let marks = svg.matches("text-anchor=\"middle\">").count();
    assert_eq!(marks, layers + 1 + 1);
    // It is legible on any page, and says of which model it is.
    assert!(svg.contains("<rect class=\"page\" width=\"760\""), "{svg}");
    assert!(
        svg.contains(">model: tok/s against resident layers</text>"),
        "{svg}"
    );
    let titles = svg.split("font-size=\"14\">").skip(1);
    for title in titles.map(|text| text.split("</text>").next().unwrap()) {
        assert!(title.chars().count() <= 90, "{title}");
    }
}

#[test]
fn a_limit_that_nothing_fits_is_exit_code_4() {
    run("tune --memory 1MiB").fails(4, &["1.00 MiB are available"]);
}

#[test]
fn a_limit_is_said_as_it_was_typed() {
    for (typed, said) in [("1GiB", "1GiB"), ("1.5GiB", "1536MiB"), ("2GB", "2GB")] {
        let out = run(&format!("tune {SLOW} --verify 1 --memory {typed}")).ok();
        let told = format!(" --memory {said}");
        assert!(out.stdout.contains(&told), "{told}: {out:?}");
    }
    for (typed, said) in [
        ("1MiB", "1.00 MiB"),
        ("1500kB", "1.43 MiB"),
        ("3MB", "3.00 MB"),
    ] {
        let said = format!("{said} are available");
        run(&format!("generate --prompt a --memory {typed}")).fails(4, &[&said]);
    }
}
