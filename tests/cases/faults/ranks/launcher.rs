//! What the launcher passes on to the ranks, and a launcher whose ranks cannot find each other.

use std::time::Instant;

use end_to_end_tests::{Bench, ended};

use super::blows::send;
use super::{LIMIT, MISSING, TINY, errors, program, start, train, wait_for_start};

/// SIGTERM it keeps for itself, and then ends with a code of its own.
#[test]
fn sigusr2_to_the_launcher_ends_all_ranks_with_a_checkpoint() {
    let Some(program) = program() else {
        println!("skipped: {MISSING}");
        return;
    };
    let bench = Bench::new();
    train(&bench, program, 1, "whole");
    let mut child = start(&bench, program, 2, "run");
    assert!(wait_for_start(
        &bench,
        &mut child,
        "run",
        std::time::Duration::ZERO
    ));
    let began = Instant::now();
    assert!(send(child.id(), "-USR2"));
    let output = child.wait_with_output().expect("ended");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let errors = errors(&output);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("stopped by SIGUSR2"), "{errors:?}");
    assert_eq!(output.status.code(), Some(143), "{errors:?}");
    train(&bench, program, 1, "run");
    bench.assert_same_run("whole", "run");
}

/// As where `mpirun` is MPICH's and the program was built with Open MPI, or the other way round: each rank would train for itself, into one folder.
#[test]
fn ranks_of_another_librarys_launcher_are_refused() {
    let Some(program) = program() else {
        println!("skipped: {MISSING}");
        return;
    };
    let bench = Bench::new();
    for (rank, said) in [("0", "another library than the launcher's"), ("1", "")] {
        let mut command = bench.command(program.to_str().expect("text"));
        command
            .env("PMI_SIZE", "2")
            .env("PMI_RANK", rank)
            .args(TINY)
            .arg("run");
        let ended = ended(&mut command).failure(2, &[said]);
        // One of them says it.
        assert_eq!(ended.stderr.contains("error:"), rank == "0", "{ended:?}");
        assert!(!bench.path("run").exists(), "a run that never began");
    }
}
