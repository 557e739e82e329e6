//! What tests take from outside: built programs, the payload, shared data, and how much is to be tested.

use std::path::{Path, PathBuf};

use crate::skipped;

/// Whether everything is to be tested instead of a sample (`cargo xtask test --full`).
pub fn full_run() -> bool {
    std::env::var_os("GRAVURE_FULL").is_some()
}

/// Seed of sampled tests; printed by `cargo xtask test`, 1 when tests run by themselves.
pub fn seed() -> u64 {
    std::env::var("GRAVURE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Directory `cargo xtask payload` builds into; a loud skip when it was not built.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn payload_dir() -> Option<PathBuf> {
    built("GRAVURE_PAYLOAD_DIR", "vmlinuz")
}

/// The `gravure` program; a loud skip when it was not built.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn gravure_program() -> Option<PathBuf> {
    built("GRAVURE_BIN", "")
}

/// The image `cargo xtask test` built for deployments; a loud skip when it was not built.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn test_image() -> Option<PathBuf> {
    built("GRAVURE_TEST_IMAGE", "")
}

/// Whether part `index` of `count` is in this run's sample: all are in a full run, else the seed chooses one. A part
/// that is left out says so and counts as skipped.
pub fn in_sample(index: u64, count: u64) -> bool {
    let chosen = full_run() || seed() % count.max(1) == index;
    if !chosen {
        eprintln!("SKIPPED: not in the sample of seed {}; `cargo xtask test --full` runs it", seed());
    }
    chosen
}

/// Whether a test that only full runs have time for is to run; says so and counts as skipped when not.
pub fn in_full_run(what: &str) -> bool {
    let chosen = full_run();
    if !chosen {
        eprintln!("SKIPPED: {what}: `cargo xtask test --full` runs it");
    }
    chosen
}

fn built(variable: &str, inside: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let there = path.filter(|path| path.join(inside).exists() || (inside.is_empty() && path.exists()));
    if there.is_none() {
        skipped(&format!(
            "{variable} names nothing that was built; `cargo xtask test` builds it and sets it"
        ));
    }
    there
}

/// Shared test data (vectors, corpora): `GRAVURE_SHARED`, else `shared` beside the checkout; a loud skip when absent.
///
/// # Panics
/// When it is missing and oracles are required.
pub fn shared_dir() -> Option<PathBuf> {
    let given = std::env::var_os("GRAVURE_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let found = given.unwrap_or(beside);
    if found.is_dir() {
        return Some(found);
    }
    skipped(&format!("no shared test data at {}", found.display()));
    None
}
