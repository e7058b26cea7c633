//! Some of the figures under the names that vLLM has for them, which routers and scalers look for.
//! Names that changed between its versions are there in both spellings.

use std::fmt::{self, Display, Formatter};

use engine::Load;

/// The figures that go out under other names.
#[derive(Debug)]
pub struct Aliases<'a> {
    pub model: &'a str,
    pub load: Load,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
}

impl Aliases<'_> {
    /// Of all positions, from 0 to 1.
    fn cache_used(&self) -> f64 {
        self.load.held as f64 / self.load.positions.max(1) as f64
    }
}

impl Display for Aliases<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let used = self.cache_used();
        let (prompt, cached) = (self.prompt_tokens as f64, self.cached_tokens as f64);
        let model = escaped(self.model);
        for (name, kind, help, value) in [
            (
                "num_requests_running",
                "gauge",
                "As engine_requests_running.",
                self.load.running as f64,
            ),
            (
                "num_requests_waiting",
                "gauge",
                "As engine_requests_waiting.",
                self.load.waiting as f64,
            ),
            ("gpu_cache_usage_perc", "gauge", KV_USED, used),
            ("kv_cache_usage_perc", "gauge", KV_USED, used),
            ("gpu_prefix_cache_queries_total", "counter", QUERIES, prompt),
            ("gpu_prefix_cache_hits_total", "counter", HITS, cached),
            ("prefix_cache_queries_total", "counter", QUERIES, prompt),
            ("prefix_cache_hits_total", "counter", HITS, cached),
        ] {
            writeln!(out, "# HELP vllm:{name} {help}")?;
            writeln!(out, "# TYPE vllm:{name} {kind}")?;
            writeln!(out, "vllm:{name}{{model_name=\"{model}\"}} {value}")?;
        }
        Ok(())
    }
}

const KV_USED: &str = "The share of engine_kv_positions that is used, from 0 to 1.";
const QUERIES: &str = "As engine_prompt_tokens_total.";
const HITS: &str = "As engine_cached_tokens_total.";

/// As a label's value holds it.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_all_positions_and_a_name_is_quoted() {
        let mut aliases = Aliases {
            model: "a\"b\\c\n",
            load: Load {
                held: 30,
                positions: 120,
                ..Load::default()
            },
            prompt_tokens: 9,
            cached_tokens: 4,
        };
        let text = aliases.to_string();
        let line = |name: &str| format!("\nvllm:{name}{{model_name=\"a\\\"b\\\\c\\n\"}} ");
        for (name, value) in [
            ("gpu_cache_usage_perc", "0.25"),
            ("kv_cache_usage_perc", "0.25"),
            ("prefix_cache_queries_total", "9"),
            ("gpu_prefix_cache_hits_total", "4"),
        ] {
            let wanted = format!("{}{value}\n", line(name));
            assert!(text.contains(&wanted), "{wanted} is missing: {text}");
        }
        aliases.load.positions = 0;
        aliases.load.held = 0;
        assert!(
            aliases
                .to_string()
                .contains("perc{model_name=\"a\\\"b\\\\c\\n\"} 0\n")
        );
    }
}
