//! A step that is not finite on one rank only: all skip it, and ten in a row end all.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use end_to_end_tests::Bench;
use end_to_end_tests::faults::{passed, skipped};

use super::{LIMIT, MISSING, ROW, TINY, errors, mpirun, program};

/// The C library's exponential, which gives NaN from the call `NAN_FROM` on, `NAN_CALLS` times.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
static atomic_long calls;
float expf(float x) {
    static float (*original)(float);
    static long from, count;
    if (!original) {
        from = atol(getenv("NAN_FROM"));
        count = atol(getenv("NAN_CALLS"));
        original = (float (*)(float))dlsym(RTLD_NEXT, "expf");
    }
    long call = atomic_fetch_add(&calls, 1);
    return call >= from && call < from + count ? NAN : original(x);
}
"#;

/// None where there is no C compiler.
fn library(bench: &Bench) -> Option<PathBuf> {
    let (source, library) = (bench.path("nan.c"), bench.path("nan.so"));
    std::fs::write(&source, SOURCE).expect("written");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    status
        .is_ok_and(|status| status.success())
        .then_some(library)
}

/// A run on two ranks; the second one's exponential fails so many times, early in the first epoch.
fn run(bench: &Bench, program: &Path, library: &Path, calls: u64, run_dir: &str) -> Output {
    let script = format!(
        "if [ $OMPI_COMM_WORLD_RANK = 1 ]; then export LD_PRELOAD={}; fi; exec \"$@\"",
        library.display()
    );
    let mut command = mpirun(bench, 2);
    // A step takes a few hundred: four latents of four images, for the draw and its divergence.
    command
        .env("NAN_FROM", "500")
        .env("NAN_CALLS", calls.to_string())
        .args(["sh", "-c", &script, "sh"])
        .arg(program);
    command.args(TINY).arg(run_dir).output().expect("ended")
}

#[test]
fn faults_a_step_that_is_not_finite_on_one_rank_is_skipped_by_all() {
    let Some(program) = program() else {
        skipped(ROW, MISSING);
        return;
    };
    let bench = Bench::new();
    let Some(library) = library(&bench) else {
        skipped(ROW, "no C compiler");
        return;
    };
    let output = run(&bench, program, &library, 1, "once");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let rows = bench.rows("once");
    let skipped_steps: Vec<_> = rows.iter().map(|row| &row["skipped_steps"]).collect();
    assert_eq!(skipped_steps, [1, 0]);

    let began = Instant::now();
    let output = run(&bench, program, &library, 1 << 40, "always");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let errors = errors(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.len(), 1, "{stderr}");
    assert_eq!(output.status.code(), Some(30), "{stderr}");
    let report = bench.read_json("always/divergence.json");
    assert_eq!(
        (&report["skipped_in_a_row"], &report["value"]),
        (&10.into(), &"NaN".into()),
        "{report}"
    );
    bench
        .trainer(&["verify-run", "--run-dir", "always"])
        .success();
    passed(ROW, 2);
}
