//! A rank that is stopped while a vector as large as users' is on its way through a network whose buffers are full.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use end_to_end_tests::Bench;
use end_to_end_tests::faults::{Draws, cases, passed, skipped};

use super::blows::{ranks_below, send};
use super::{LIMIT, MISSING, ROW, errors, mpirun, program, wait_for_start};

/// Millions of values, with few images, so that much of a step is their transfer.
const WIDE: &str = "train --depth 28 --width 0.5 --latent-dim 4 --intermediate-dim 16 --batch-size 4 --shards 2 --limit-train 400 \
                    --limit-test 20 --epochs 1 --data sample --rank-timeout 5 --json --run-dir";
/// Buffers of the network in bytes, far smaller than a vector.
const BUFFERS: [&str; 6] = [
    "--mca",
    "btl_tcp_sndbuf",
    "16384",
    "--mca",
    "btl_tcp_rcvbuf",
    "16384",
];

#[test]
fn faults_ranks_that_are_stopped_amid_a_large_vector_are_lost() {
    let Some(program) = program() else {
        skipped(ROW, MISSING);
        return;
    };
    let bench = Bench::new();
    let wanted = cases(1, 2, 10);
    for case in 0..wanted {
        let run_dir = format!("run-{case}");
        let mut command = mpirun(&bench, 2);
        command.args(["--mca", "btl", "self,tcp"]).args(BUFFERS);
        let command = command.arg(program).args(WIDE.split_whitespace());
        let mut child = command.arg(&run_dir).spawn().expect("it starts");
        // Among the steps.
        let further = 2000 + Draws::new(11 + case as u64).below(1000);
        let ranks = if wait_for_start(&bench, &mut child, &run_dir, Duration::from_millis(further))
        {
            ranks_below(child.id(), program)
        } else {
            HashMap::new()
        };
        wait_for_transfer(ranks[&0], &run_dir);
        let began = Instant::now();
        assert!(send(ranks[&1], "-STOP"), "a rank ended by itself");
        let output = child.wait_with_output().expect("ended");
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(33), "case {case}: {errors:?}");
        assert!(
            errors[0].contains("no sign of life"),
            "case {case}: {errors:?}"
        );
        assert!(
            began.elapsed() < LIMIT,
            "case {case}: {:?}",
            began.elapsed()
        );
        let checkpoints = std::fs::read_dir(bench.path(&format!("{run_dir}/checkpoints")));
        assert!(
            checkpoints.is_ok_and(|mut files| files.next().is_some()),
            "case {case}"
        );
        let verify = ["verify-run", "--run-dir", &run_dir];
        bench.trainer(&verify).success();
    }
    passed(ROW, wanted);
}

/// Waits until a process has written more in a moment than signs of life and heads of messages are.
fn wait_for_transfer(process: u32, case: &str) {
    const SMALL: u64 = 1 << 20;
    let written = || {
        let text = std::fs::read_to_string(format!("/proc/{process}/io")).expect("it runs");
        let bytes = text.lines().find_map(|line| line.strip_prefix("wchar: "));
        bytes.expect("Linux").parse::<u64>().expect("a number")
    };
    let (began, before) = (Instant::now(), written());
    while written() < before + SMALL {
        assert!(began.elapsed() < LIMIT, "{case}: no vector was sent");
        std::thread::sleep(Duration::from_millis(1));
    }
}
