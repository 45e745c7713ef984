//! Ranks that share a run: the same bits on any number of them, also after one was killed, stopped, cut off, or had no room.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use end_to_end_tests::Bench;

mod beginnings;
mod blows;
mod large_vectors;
mod launcher;
mod not_finite;
mod two_hosts;

/// Two epochs of twenty steps in four shards, with a checkpoint every five.
const TINY: [&str; 24] = [
    "train",
    "--preset",
    "demo",
    "--width",
    "0.02",
    "--latent-dim",
    "4",
    "--batch-size",
    "8",
    "--shards",
    "4",
    "--limit-train",
    "160",
    "--limit-test",
    "20",
    "--epochs",
    "2",
    "--checkpoint-every",
    "5",
    "--rank-timeout",
    "5",
    "--resume=or-start",
    "--json",
    "--run-dir",
];
const ROW: &str = "ranks";
const MISSING: &str = "no mpirun: `apt-get install libopenmpi-dev openmpi-bin libclang-dev`";
/// All processes of a run end within this.
const LIMIT: Duration = Duration::from_secs(30);

/// The trainer with MPI; none where there is no MPI. The variable `TEST_TRAINER_MPI` names one that is there already.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let given = std::env::var_os("TEST_TRAINER_MPI").map(PathBuf::from);
        let has_mpi = Command::new("mpirun").arg("--version").output().is_ok();
        has_mpi.then(|| given.unwrap_or_else(|| end_to_end_tests::trainer_with(&["mpi"])))
    });
    built.as_deref()
}

fn mpirun(bench: &Bench, count: usize) -> Command {
    let mut command = bench.command("mpirun");
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("RAYON_NUM_THREADS", "1")
        .args(["-n", &count.to_string()])
        .args(["--bind-to", "none", "--oversubscribe"])
        .args(["--mca", "odls_base_sigkill_timeout", "3"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The run on so many ranks; on one without a launcher.
fn start(bench: &Bench, program: &Path, count: usize, run_dir: &str) -> Child {
    let mut command = if count == 1 {
        let mut command = bench.command(program.to_str().expect("text"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    } else {
        let mut command = mpirun(bench, count);
        command.arg(program);
        command
    };
    let command = command.args(TINY).arg(run_dir);
    command.spawn().expect("it starts")
}

fn train(bench: &Bench, program: &Path, count: usize, run_dir: &str) {
    let output = start(bench, program, count, run_dir).wait_with_output();
    let output = output.expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{count} ranks: {stderr}");
}

#[test]
fn one_two_and_four_ranks_give_the_same_bytes() {
    let Some(program) = program() else {
        println!("skipped: {MISSING}");
        return;
    };
    let bench = Bench::new();
    for (count, run_dir) in [(1, "one"), (2, "two"), (4, "four")] {
        train(&bench, program, count, run_dir);
    }
    bench.assert_same_run("one", "two");
    bench.assert_same_run("one", "four");
    let config = |run_dir: &str| bench.read(&format!("{run_dir}/config.json"));
    let text = String::from_utf8(config("four")).expect("text");
    assert_eq!(
        text.replace("\"four\"", "\"one\"").as_bytes(),
        config("one")
    );
    bench
        .trainer(&["verify-run", "--run-dir", "four"])
        .success();
}

#[test]
fn ranks_that_differ_are_told_apart_before_the_first_step() {
    let Some(program) = program() else {
        println!("skipped: {MISSING}");
        return;
    };
    let bench = Bench::new();
    let script = "if [ $OMPI_COMM_WORLD_RANK = 1 ]; then export EPOCHS=3; fi; exec \"$@\"";
    let mut command = mpirun(&bench, 2);
    command.args(["sh", "-c", script, "sh"]).arg(program);
    let arguments = TINY.iter().filter(|flag| !["--epochs", "2"].contains(flag));
    let output = command.args(arguments).arg("run").output().expect("ended");
    let errors = errors(&output);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains("rank 1 of 2 has another `epochs` than rank 0: 3, not"),
        "{errors:?}"
    );
    assert_eq!(output.status.code(), Some(2));

    // Without MPI in the program one line says what to install.
    let alone = bench.trainer_command().get_program().to_owned();
    let mut command = bench.command(alone.to_str().expect("text"));
    let output = command
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .args(TINY)
        .arg("run")
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("apt-get install libopenmpi-dev"),
        "{stderr}"
    );
}

/// The lines in which a rank says why it ends.
fn errors(output: &Output) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = stderr.lines().filter(|line| line.starts_with("error:"));
    lines.map(str::to_owned).collect()
}

/// Waits until the run has begun, and a little longer; false where it is over.
fn wait_for_start(bench: &Bench, child: &mut Child, run_dir: &str, further: Duration) -> bool {
    let config = bench.path(&format!("{run_dir}/metrics.jsonl"));
    while !config.exists() {
        if child.try_wait().expect("asked").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(further);
    child.try_wait().expect("asked").is_none()
}
