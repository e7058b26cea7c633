//! Where the numbers of this run come from.

use engine::Machine;
use engine::profile::files::Origin;

/// The origin of what this process reports; `seed` where something is drawn.
pub fn of_this_run(seed: Option<u64>) -> Origin {
    // The program's own path is the machine's, and says nothing.
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once("engine".to_owned()).chain(args).collect();
    let words = words.iter().map(String::as_str);
    Origin {
        version: env!("CARGO_PKG_VERSION").into(),
        commit: option_env!("ENGINE_COMMIT").map(str::to_owned),
        date: engine::text::date_and_time(),
        // Only a zero byte cannot be quoted, and no argument has one.
        command: shlex::try_join(words).unwrap_or_default(),
        seed,
        machine: Machine::here().to_string(),
    }
}
