//! How many cases a fault test takes, and its line in the table of `cargo xtask faults`.
//!
//! Tests of other packages include this file by its path.

#![allow(dead_code, unreachable_pub)]

/// The number of cases by the environment variable FAULTS: `quick`, `full`, or unset for a few.
pub fn cases(few: usize, quick: usize, full: usize) -> usize {
    match std::env::var("FAULTS").as_deref() {
        Ok("full") => full,
        Ok("quick") => quick,
        _ => few,
    }
}

/// Tells `cargo xtask faults` that so many cases of a row have passed.
pub fn passed(row: &str, cases: usize) {
    println!("fault: {row}: {cases} cases");
}

/// Tells `cargo xtask faults` which part of a row this machine cannot show.
pub fn skipped(row: &str, reason: &str) {
    println!("fault: {row}: skipped: {reason}");
}

/// Numbers that are the same in every run of a test: Knuth's linear congruential generator.
#[derive(Debug)]
pub struct Draws(u64);

impl Draws {
    /// The draws of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
