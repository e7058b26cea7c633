//! Figures of `/metrics` under the names of another server.

use serde_json::json;

use crate::served::Served;

const FIGURES: [&str; 8] = [
    "num_requests_running",
    "num_requests_waiting",
    "gpu_cache_usage_perc",
    "kv_cache_usage_perc",
    "gpu_prefix_cache_queries_total",
    "gpu_prefix_cache_hits_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
];

#[test]
fn figures_have_the_names_of_vllm_where_they_are_asked_for() {
    let plain = Served::demo("");
    assert!(!plain.get("/metrics").ok().body.contains("vllm:"));
    let served = Served::demo(
        "--vllm-metrics --alias tale --parallel 1 --num-gpu-layers 0 --link-gbps 0.3 --context 512",
    );
    let figure = |name: &str| served.figure(&format!("vllm:{name}{{model_name=\"tale\"}}"));
    let turn = "Once upon a time there was a curious girl named Emma, and a little red house.";
    for _ in 0..2 {
        let body = json!({"prompt": turn, "max_tokens": 1});
        served.post("/v1/completions", &body).ok();
    }
    // Two long ones, of which one waits.
    let long = json!({"prompt": "One day", "max_tokens": 400, "stream": true});
    let mut first = served.stream("/v1/completions", &long);
    first.next().unwrap();
    let _second = served.stream("/v1/completions", &long);
    served.until("one waits", || figure("num_requests_waiting") == 1.0);
    assert_eq!(figure("num_requests_running"), 1.0);
    let used = figure("kv_cache_usage_perc");
    assert!(used > 0.0 && used < 1.0, "{used}");
    assert!(figure("gpu_cache_usage_perc") > 0.0);
    let page = served.get("/metrics").ok().body;
    for name in FIGURES {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        assert!(
            page.contains(&format!("# TYPE vllm:{name} {kind}\n")),
            "{page}"
        );
        assert!(page.contains(&format!("# HELP vllm:{name} ")), "{page}");
    }
    for (alias, own) in [
        ("prefix_cache_queries_total", "engine_prompt_tokens_total"),
        (
            "gpu_prefix_cache_queries_total",
            "engine_prompt_tokens_total",
        ),
        ("prefix_cache_hits_total", "engine_cached_tokens_total"),
        ("gpu_prefix_cache_hits_total", "engine_cached_tokens_total"),
    ] {
        let value = figure(alias);
        assert!(value > 0.0, "{alias}");
        assert_eq!(value, served.figure(own), "{alias}");
    }
}
