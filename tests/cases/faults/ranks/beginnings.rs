//! Ranks that cannot begin, or that were not asked for the same: one of them says why, and all end with its exit code.

use std::path::Path;

use end_to_end_tests::Bench;

use super::{MISSING, errors, mpirun, program};

const RUN: [&str; 15] = [
    "train",
    "--preset",
    "demo",
    "--width",
    "0.02",
    "--latent-dim",
    "4",
    "--batch-size",
    "8",
    "--limit-train",
    "16",
    "--limit-test",
    "10",
    "--epochs",
    "1",
];

/// What two ranks say that are given these flags besides, and the exit code.
fn end_of(
    bench: &Bench,
    program: &Path,
    [first, second]: [&[&str]; 2],
) -> (Vec<String>, Option<i32>) {
    let mut command = mpirun(bench, 1);
    command.arg(program).args(RUN).args(first);
    command.args([":", "-n", "1"]);
    command.arg(program).args(RUN).args(second);
    let output = command.output().expect("ended");
    (errors(&output), output.status.code())
}

#[test]
fn a_rank_that_cannot_begin_gives_its_reason_and_its_exit_code() {
    let Some(program) = program() else {
        println!("skipped: {MISSING}");
        return;
    };
    let bench = Bench::new();
    let flags: [&[&str]; 2] = [
        &["--run-dir", "a"],
        &["--run-dir", "a", "--device", "cuda:0"],
    ];
    let (errors, code) = end_of(&bench, program, flags);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with("error: rank 1 of 2: ") && errors[0].contains("cuda"),
        "{errors:?}"
    );
    assert_eq!(code, Some(2), "{errors:?}");
    assert!(!bench.path("a").exists(), "a run that never began");

    // What no rank can do is said once.
    for _ in 0..3 {
        let flags: &[&str] = &["--run-dir", "b", "--resume"];
        let (errors, code) = end_of(&bench, program, [flags, flags]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("b"), "{errors:?}");
        assert_eq!(code, Some(2), "{errors:?}");
    }
    let flags: &[&str] = &["--run-dir", "c", "--shards", "1"];
    let (errors, code) = end_of(&bench, program, [flags, flags]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("2 ranks divide"), "{errors:?}");
    assert_eq!(code, Some(2), "{errors:?}");
}

#[test]
fn ranks_that_were_not_asked_for_the_same_say_what_differs() {
    let Some(program) = program() else {
        println!("skipped: {MISSING}");
        return;
    };
    let bench = Bench::new();
    std::fs::write(bench.path("c.json"), "{\"seed\": 2}").expect("written");
    for (flag, value) in [
        ("--resume", "--resume=or-start"),
        ("--config", "--config=c.json"),
    ] {
        let (with, without): (&[&str], &[&str]) =
            (&["--run-dir", "run", value], &["--run-dir", "run"]);
        for flags in [[with, without], [without, with]] {
            let (errors, code) = end_of(&bench, program, flags);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(
                errors[0].contains(&format!("rank 1 of 2 has another `{flag}` than rank 0")),
                "{errors:?}"
            );
            assert_eq!(code, Some(2), "{errors:?}");
            assert!(!bench.path("run").exists(), "a run that never began");
        }
    }
}
