//! `environment.json`: what a run ran on, from its first process to its last.

use serde::Serialize;
use serde_json::Value;

use super::names::BURN_VERSION;
use crate::settings::{Difference, Settings};

/// Version of what a run records of itself: from 2 on a finished run has a list of its files.
pub const RECORD_FORMAT: u64 = 2;

/// What a resumed run's processes are recorded under, after the first.
const RESUMED: &str = "resumed";
const CHANGED: &str = "changed_settings";

/// The keys of `environment.json`, in their order.
#[derive(Serialize)]
struct ThisProcess<'a> {
    format: u64,
    versions: Versions,
    commit: Option<String>,
    command: Vec<String>,
    device: String,
    threads: Option<usize>,
    operating_system: &'static str,
    architecture: &'static str,
    data_hash: &'a str,
    data_source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    matrix_products: Option<&'a str>,
}

#[derive(Serialize)]
struct Versions {
    trainer: &'static str,
    burn: &'static str,
    /// As the compiler names itself.
    rust: &'static str,
}

/// What this process is and where it runs; `matrix_products` is what multiplies matrices on a GPU.
pub(super) fn of_this_process(
    settings: &Settings,
    data_hash: &str,
    data_source: &str,
    matrix_products: Option<&str>,
) -> Value {
    // Given by `cargo xtask`, which knows the checkout.
    let commit = std::env::var("RESNET_VAE_COMMIT").ok();
    let record = ThisProcess {
        format: RECORD_FORMAT,
        versions: Versions {
            trainer: env!("CARGO_PKG_VERSION"),
            burn: BURN_VERSION,
            rust: env!("RUN_FILES_RUSTC_VERSION"),
        },
        commit: commit.filter(|commit| !commit.is_empty()),
        command: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        device: settings.device.to_string(),
        threads: std::thread::available_parallelism().map(usize::from).ok(),
        operating_system: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
        data_hash,
        data_source,
        matrix_products,
    };
    serde_json::to_value(record).expect("a record has names and numbers only")
}

/// The record of a run that goes on: that of its first process, and one of each later one that differs from the one before.
pub(super) fn resumed(mut before: Value, mut now: Value, changed: &[Difference]) -> Value {
    let Some(record) = before.as_object_mut() else {
        return now;
    };
    if let Some(entry) = now.as_object_mut() {
        entry.remove("format");
        if !changed.is_empty() {
            let lines = changed.iter().map(ToString::to_string);
            entry.insert(CHANGED.to_owned(), lines.collect::<Vec<_>>().into());
        }
    }
    let resumed = record
        .entry(RESUMED)
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Some(resumed) = resumed.as_array_mut()
        && resumed.last() != Some(&now)
    {
        resumed.push(now);
    }
    before
}

/// The settings that were changed on a run's way, as `key: before -> after`.
pub fn changed_settings(environment: &Value) -> Vec<String> {
    let processes = environment[RESUMED].as_array().into_iter().flatten();
    let lines = processes.filter_map(|process| process[CHANGED].as_array());
    lines
        .flatten()
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect()
}

/// Whether the changes that a run's processes recorded lead from the one value to the other.
pub(super) fn is_recorded(difference: &Difference, changed: &[String]) -> bool {
    let mut values = vec![difference.before.as_str()];
    for line in changed {
        let change = line
            .strip_prefix(difference.key)
            .and_then(|rest| rest.strip_prefix(": "))
            .and_then(|rest| rest.split_once(" -> "));
        if let Some((before, after)) = change
            && values.contains(&before)
        {
            values.push(after);
        }
    }
    values.contains(&difference.after.as_str())
}

/// The commits of the programs that a run was made with, each once, in their order.
pub fn commits(environment: &Value) -> Vec<String> {
    let later = environment[RESUMED].as_array().into_iter().flatten();
    let mut commits: Vec<String> = Vec::new();
    for process in std::iter::once(environment).chain(later) {
        let commit = process["commit"].as_str().unwrap_or("unknown");
        if !commits.iter().any(|known| known == commit) {
            commits.push(commit.to_owned());
        }
    }
    commits
}
