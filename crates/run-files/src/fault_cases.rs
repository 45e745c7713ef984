//! How many cases a fault test takes, and its line in the table of `cargo xtask faults`.

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
