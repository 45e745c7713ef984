//! A rank that is killed, stopped, asked to end, or has no room: all end together, and the run goes on with any number of ranks.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use end_to_end_tests::Bench;
use end_to_end_tests::faults::{Draws, cases, passed, skipped};

use super::{LIMIT, MISSING, ROW, TINY, errors, mpirun, program, start, train, wait_for_start};

/// What happens to a rank.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Killed,
    Stopped,
    AskedToEnd,
    WithoutRoom,
}

const BLOWS: [Blow; 4] = [
    Blow::Killed,
    Blow::Stopped,
    Blow::AskedToEnd,
    Blow::WithoutRoom,
];
/// Cases at the same time.
const AT_ONCE: usize = 3;

#[test]
fn faults_ranks_end_together_and_the_run_goes_on_with_any_number() {
    let Some(program) = program() else {
        skipped(ROW, MISSING);
        return;
    };
    let bench = Bench::new();
    let began = Instant::now();
    train(&bench, program, 1, "whole");
    let whole = began.elapsed().as_millis() as u64;
    let wanted = cases(1, 12, 60);
    let next = AtomicUsize::new(0);
    // Most of a case is waiting for the launcher.
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= wanted {
                        return;
                    }
                    let mut draws = Draws::new(7 + case as u64);
                    while !strike(&bench, program, case, whole, &mut draws) {}
                }
            });
        }
    });
    passed(ROW, wanted);
}

/// One case; false where the run was over before, or by the time of, the blow.
fn strike(bench: &Bench, program: &Path, case: usize, whole: u64, draws: &mut Draws) -> bool {
    let blow = BLOWS[case % BLOWS.len()];
    let count = [2, 4][draws.below(2) as usize];
    let rank = draws.below(count as u64) as usize;
    let run_dir = format!("run-{case}-{}", draws.below(1 << 20));
    let name = format!("{blow:?}, rank {rank} of {count}, {run_dir}");
    if matches!(blow, Blow::WithoutRoom) {
        without_room(bench, program, count, &run_dir, 1 + draws.below(150));
    } else {
        let mut child = start(bench, program, count, &run_dir);
        let further = Duration::from_millis(draws.below(whole));
        let ranks = if wait_for_start(bench, &mut child, &run_dir, further) {
            ranks_below(child.id(), program)
        } else {
            HashMap::new()
        };
        let Some(process) = ranks.get(&rank) else {
            assert!(child.wait_with_output().expect("ended").status.success());
            return false;
        };
        let began = Instant::now();
        let is_sent = send(
            *process,
            match blow {
                Blow::Killed => "-KILL",
                Blow::Stopped => "-STOP",
                _ => "-TERM",
            },
        );
        if !is_sent {
            assert!(child.wait_with_output().expect("ended").status.success());
            return false;
        }
        // A rank that is stopped at its very end keeps nobody from ending but the launcher.
        let summary = bench.path(&format!("{run_dir}/summary.json"));
        let (has_ended, was_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !has_ended.load(Ordering::Relaxed) && began.elapsed() < LIMIT {
                    std::thread::sleep(Duration::from_millis(100));
                }
                if !has_ended.load(Ordering::Relaxed) && summary.exists() {
                    was_over.store(true, Ordering::Relaxed);
                    kill(*process);
                }
            });
            let output = child.wait_with_output().expect("ended");
            has_ended.store(true, Ordering::Relaxed);
            output
        });
        if output.status.success() || was_over.load(Ordering::Relaxed) {
            kill(*process);
            return false;
        }
        let gone = |process: &u32| !Path::new(&format!("/proc/{process}")).exists();
        // The launcher does not wait for those that it has killed.
        while !ranks.values().all(gone) && began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(ranks.values().all(gone), "{name}: a rank is left");
        assert!(began.elapsed() < LIMIT, "{name}: {:?}", began.elapsed());
        check_end(blow, rank, &output, &name);
    }
    bench
        .trainer(&["verify-run", "--run-dir", &run_dir])
        .success();
    // Goes on with another number of ranks.
    let count = [1, 2, 4][draws.below(3) as usize];
    train(bench, program, count, &run_dir);
    bench.assert_same_run("whole", &run_dir);
    true
}

/// The exit code and the one cause.
fn check_end(blow: Blow, rank: usize, output: &Output, case: &str) {
    let errors = errors(output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.len() <= 1 && !stderr.contains("panicked"),
        "{case}: {stderr}"
    );
    let code = output.status.code();
    match blow {
        // As any program that is killed; the launcher says which rank it was.
        Blow::Killed => {
            assert_eq!(code, Some(137), "{case}: {stderr}");
            assert!(
                stderr.contains(&format!("rank {rank}")) && stderr.contains("signal 9"),
                "{case}: {stderr}"
            );
        }
        Blow::Stopped => {
            assert_eq!(code, Some(33), "{case}: {stderr}");
            assert!(errors[0].contains("no sign of life"), "{case}: {stderr}");
        }
        Blow::AskedToEnd => {
            assert_eq!(code, Some(143), "{case}: {stderr}");
            assert!(errors[0].contains("stopped by SIGTERM"), "{case}: {stderr}");
        }
        Blow::WithoutRoom => {
            assert_eq!(code, Some(21), "{case}: {stderr}");
            assert!(
                errors[0].contains("the disk is full at"),
                "{case}: {stderr}"
            );
        }
    }
}

/// A limit of so many half-kilobytes on the files of rank 0.
fn without_room(bench: &Bench, program: &Path, count: usize, run_dir: &str, limit: u64) {
    let script =
        format!("if [ $OMPI_COMM_WORLD_RANK = 0 ]; then ulimit -f {limit}; fi; exec \"$@\"");
    let mut command = mpirun(bench, count);
    // Shared memory of the launcher's library lies in files, which the limit would meet too.
    command.args(["--mca", "btl", "self,tcp"]);
    command.args(["sh", "-c", &script, "sh"]).arg(program);
    let began = Instant::now();
    let output = command.args(TINY).arg(run_dir).output().expect("ended");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    check_end(
        Blow::WithoutRoom,
        0,
        &output,
        &format!("limit {limit}, {count} ranks"),
    );
}

/// The processes of the ranks, by their numbers.
pub(super) fn ranks_below(launcher: u32, program: &Path) -> HashMap<usize, u32> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let is_ours = fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program);
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_child = status.contains(&format!("PPid:\t{launcher}\n"));
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let rank = environment
            .split(|byte| *byte == 0)
            .filter_map(|variable| std::str::from_utf8(variable).ok())
            .find_map(|variable| variable.strip_prefix("OMPI_COMM_WORLD_RANK="))
            .and_then(|rank| rank.parse().ok());
        if let Some(rank) = rank.filter(|_| is_ours && is_child) {
            found.insert(rank, process);
        }
    }
    found
}

fn kill(process: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Whether the process was still there.
pub(super) fn send(process: u32, signal: &str) -> bool {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .stderr(Stdio::null())
        .status();
    status.expect("kill is there").success()
}
