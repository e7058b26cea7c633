//! Tells the program which commit it was built from. Without git, or outside of the repository
//! (from an archive, say), it is not known, and that is no failure.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ENGINE_COMMIT");
    let packaged = std::env::var("ENGINE_COMMIT").ok();
    if let Some(commit) = packaged.or_else(commit) {
        println!("cargo::rustc-env=ENGINE_COMMIT={}", commit.trim());
    }
}

/// Of the repository that this file is tracked by: another one around an unpacked archive says
/// nothing about it.
fn commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let head = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(head.trim()).exists() {
        println!("cargo::rerun-if-changed={}", head.trim());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then_some(text)
}
