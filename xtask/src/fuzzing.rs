//! Coverage-guided fuzzing of every parser, with libFuzzer on the stable compiler.
//!
//! The programs lie in `fuzz/`, outside the workspace. They need a C++ compiler for libFuzzer, and these flags of
//! rustc's, which are those that cargo-fuzz passes, without a sanitizer: no code of ours is unsafe there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, bail};

use crate::build;
use crate::output::tell;

const RUST_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";

/// Every parser.
const TARGETS: [&str; 6] = [
    "record",
    "tar",
    "manifest",
    "state",
    "configuration",
    "metrics",
];
/// Seconds for each parser in the quick set and in the full one. Time, and not a number of inputs, so that the full set is the
/// larger one on every machine.
const QUICK_SECONDS: u32 = 30;
const FULL_SECONDS: u32 = 600;
/// Inputs are at most so long, in bytes: two records, or a container of one.
const LONGEST: u32 = 8192;

/// How fuzzing ended.
pub(crate) enum Outcome {
    /// No input failed.
    Passed {
        /// Inputs tried, over all parsers.
        executions: u64,
    },
    /// It cannot be done here, and why.
    Skipped(String),
    /// What failed, in a line each.
    Failed(Vec<String>),
}

/// Fuzzes every parser, as many at a time as there are processors.
pub(crate) fn run(is_quick: bool) -> anyhow::Result<Outcome> {
    if !has_cpp_compiler() {
        return Ok(Outcome::Skipped(
            "no C++ compiler (c++, or the one that CXX names)".to_owned(),
        ));
    }
    let programs = build_programs()?;
    let seconds = if is_quick {
        QUICK_SECONDS
    } else {
        FULL_SECONDS
    };
    let pending = Mutex::new(TARGETS.into_iter());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = next(&pending) {
                    tell(format_args!("fuzzing {target}"));
                    let outcome = fuzz(&programs, target, seconds);
                    outcomes
                        .lock()
                        .expect("no other thread panics with the lock")
                        .push((target, outcome));
                }
            });
        }
    });
    let outcomes = outcomes
        .into_inner()
        .expect("no thread panics with the lock");
    let mut executions = 0;
    let mut failures = Vec::new();
    for (target, outcome) in outcomes {
        match outcome {
            Ok(count) => {
                tell(format_args!("fuzzing {target}: {count} executions"));
                executions += count;
            }
            Err(error) => failures.push(format!("fuzzing {target}: {error:#}")),
        }
    }
    Ok(if failures.is_empty() {
        Outcome::Passed { executions }
    } else {
        Outcome::Failed(failures)
    })
}

fn next<T>(pending: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    pending
        .lock()
        .expect("no other thread panics with the lock")
        .next()
}

fn has_cpp_compiler() -> bool {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    Command::new(compiler)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Builds the fuzzing programs and returns their folder.
fn build_programs() -> anyhow::Result<PathBuf> {
    let host = build::host()?;
    let target_dir = working_folder();
    let status = build::cargo()
        // A named target keeps the flags away from build scripts, which could not be linked with them.
        .args(["build", "--release", "--locked", "--target", &host])
        .arg("--manifest-path")
        .arg(build::workspace().join("fuzz").join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", RUST_FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("the fuzzing programs could not be built; cargo's messages stand above");
    }
    Ok(target_dir.join(host).join("release"))
}

fn working_folder() -> PathBuf {
    build::workspace().join("target").join("fuzz")
}

/// Fuzzes one parser for so many seconds; returns the executions.
fn fuzz(programs: &Path, target: &str, seconds: u32) -> anyhow::Result<u64> {
    let found = working_folder().join("corpus").join(target);
    fs::create_dir_all(&found)?;
    let artifacts = working_folder().join("artifacts");
    fs::create_dir_all(&artifacts)?;
    let log = working_folder().join(format!("{target}.log"));
    let kept = build::workspace().join("fuzz").join("corpus").join(target);
    let limit = format!("-max_total_time={seconds}");
    let status = Command::new(programs.join(target))
        // New inputs go into the first folder; the second is the one under version control.
        .args([&found, &kept])
        .args([&limit, "-timeout=10", "-rss_limit_mb=512"])
        .args([&format!("-max_len={LONGEST}"), "-print_final_stats=1"])
        .arg(format!(
            "-artifact_prefix={}/{target}-",
            artifacts.display()
        ))
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .status()
        .context("the fuzzing program could not be started")?;
    let messages = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        bail!(
            "{}; the input lies in {}, the messages in {}; add the input to {} once it passes",
            failure(&messages),
            artifacts.display(),
            log.display(),
            kept.display()
        );
    }
    executions(&messages).context("the fuzzing program did not say how many inputs it tried")
}

/// The line that says what went wrong.
fn failure(messages: &str) -> &str {
    let tells = |line: &&str| line.contains("panicked at") || line.contains("ERROR: libFuzzer");
    messages
        .lines()
        .find(tells)
        .unwrap_or("it ended with an error")
}

fn executions(messages: &str) -> Option<u64> {
    let count = messages
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_and_failures_are_read() {
        let messages = "x\nstat::number_of_executed_units: 1504\nstat::peak_rss_mb: 63";
        assert_eq!(executions(messages), Some(1504));
        assert_eq!(executions("nothing"), None);
        let messages = "a\n==1== ERROR: libFuzzer: timeout after 1 seconds\nb";
        assert!(failure(messages).contains("timeout"));
    }

    #[test]
    fn every_parser_has_a_program_and_a_kept_corpus() {
        let fuzz = build::workspace().join("fuzz");
        for target in TARGETS {
            assert!(fuzz.join("targets").join(format!("{target}.rs")).is_file());
            let corpus = fs::read_dir(fuzz.join("corpus").join(target)).unwrap();
            assert!(corpus.count() > 0, "{target}");
        }
    }
}
