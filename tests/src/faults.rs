//! How many faults a fault test goes through, and the line that it ends with.
//!
//! Other packages' tests include this file by its path, so that all of them count alike. `cargo xtask faults` sets
//! `FAULTS` and reads the lines.

#![allow(dead_code, unreachable_pub)]

/// The number of cases: `full` or `quick` as the variable `FAULTS` says, and `smoke` where it is unset, so that
/// `cargo test --workspace` stays a matter of minutes.
///
/// # Panics
/// If the variable has another value.
pub fn cases(smoke: usize, quick: usize, full: usize) -> usize {
    match std::env::var("FAULTS").as_deref() {
        Err(_) | Ok("") => smoke,
        Ok("quick") => quick,
        Ok("full") => full,
        Ok(other) => panic!("FAULTS is `{other}`; use quick or full"),
    }
}

/// Says that so many cases of a row of `cargo xtask faults` held.
pub fn report(row: &str, cases: usize) {
    println!("fault: {row}: {cases} cases");
}

/// Says which part of a row this machine cannot show.
pub fn report_skipped(row: &str, reason: &str) {
    println!("fault: {row}: skipped: {reason}");
}
