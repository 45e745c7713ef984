//! Ranks that share a run: the same bits on any number of them, also after one was killed, stopped, cut off, or had no room.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use end_to_end_tests::Bench;
use end_to_end_tests::faults::{Draws, cases, passed, skipped};

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

/// The trainer with MPI, beside the one without, which other tests use; none where there is no MPI. The variable `TEST_TRAINER_MPI` names
/// one that is there already.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let has_mpi = Command::new("mpirun").arg("--version").output().is_ok();
        has_mpi.then(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let copy = folder.path().join("trainer");
            if let Some(given) = std::env::var_os("TEST_TRAINER_MPI") {
                fs::copy(given, &copy).expect("copied");
                return (folder, copy);
            }
            // Another test may build the other one at the same time, to the same place.
            for _ in 0..10 {
                let built = end_to_end_tests::build_with("trainer", &["mpi"]);
                fs::copy(built, &copy).expect("copied");
                let libraries = Command::new("ldd")
                    .arg(&copy)
                    .output()
                    .expect("ldd is there");
                if String::from_utf8_lossy(&libraries.stdout).contains("libmpi") {
                    return (folder, copy);
                }
            }
            panic!("no program with MPI was built");
        })
    });
    built.as_ref().map(|(_, program)| program.as_path())
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

fn assert_same_run(bench: &Bench, first: &str, second: &str) {
    for name in [
        "metrics.jsonl",
        "metrics.csv",
        "model.safetensors",
        "summary.json",
    ] {
        let read = |run_dir: &str| bench.read(&format!("{run_dir}/{name}"));
        assert!(
            read(first) == read(second),
            "{name} of {first} and {second} differ"
        );
    }
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
    assert_same_run(&bench, "one", "two");
    assert_same_run(&bench, "one", "four");
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
    // Where other tests have just built it, the program has MPI and joins no other rank.
    if output.status.code() == Some(2) {
        assert!(
            stderr.contains("apt-get install libopenmpi-dev"),
            "{stderr}"
        );
    }
}

/// The lines in which a rank says why it ends.
fn errors(output: &Output) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = stderr.lines().filter(|line| line.starts_with("error:"));
    lines.map(str::to_owned).collect()
}

/// The processes of the ranks, by their numbers.
fn ranks_below(launcher: u32, program: &Path) -> HashMap<usize, u32> {
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

fn send(process: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{signal}");
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
        send(
            *process,
            match blow {
                Blow::Killed => "-KILL",
                Blow::Stopped => "-STOP",
                _ => "-TERM",
            },
        );
        let output = child.wait_with_output().expect("ended");
        if output.status.success() {
            let _ = Command::new("kill")
                .args(["-KILL", &process.to_string()])
                .stderr(Stdio::null())
                .status();
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
    assert_same_run(bench, "whole", &run_dir);
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

/// Two network namespaces of this machine with their own addresses and a cable between them, as two hosts.
struct TwoHosts {
    names: [String; 2],
    agent: PathBuf,
}

impl TwoHosts {
    /// None where this process may not make them.
    fn new(bench: &Bench) -> Option<Self> {
        let number = std::process::id();
        let names = ["a", "b"].map(|host| format!("rv{number}{host}"));
        let [first, second] = &names;
        let commands = [
            format!("netns add {first}"),
            format!("netns add {second}"),
            format!("link add c{first} type veth peer name c{second}"),
            format!("link set c{first} netns {first}"),
            format!("link set c{second} netns {second}"),
            format!("-n {first} addr add 10.77.0.1/24 dev c{first}"),
            format!("-n {second} addr add 10.77.0.2/24 dev c{second}"),
            format!("-n {first} link set c{first} up"),
            format!("-n {second} link set c{second} up"),
            format!("-n {first} link set lo up"),
            format!("-n {second} link set lo up"),
        ];
        let agent = bench.path("agent");
        let hosts = Self { names, agent };
        let script = format!(
            "#!/bin/sh\nshift\nexec ip netns exec {second} unshare --uts sh -c \"hostname second; $*\"\n",
            second = hosts.names[1],
        );
        fs::write(&hosts.agent, script).expect("written");
        let made = Command::new("chmod").arg("+x").arg(&hosts.agent).status();
        assert!(made.is_ok_and(|status| status.success()));
        let are_made = commands.iter().all(|command| ip(command));
        are_made.then_some(hosts)
    }

    /// The run on one rank of each host.
    fn start(&self, bench: &Bench, program: &Path, run_dir: &str) -> Child {
        let mut command = bench.command("ip");
        command
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("RAYON_NUM_THREADS", "1")
            .args([
                "netns",
                "exec",
                &self.names[0],
                "unshare",
                "--uts",
                "sh",
                "-c",
            ])
            .arg("hostname first; exec \"$@\"")
            .args([
                "sh",
                "mpirun",
                "-n",
                "2",
                "--host",
                "10.77.0.1,10.77.0.2",
                "--bind-to",
                "none",
            ])
            .args(["--mca", "plm_rsh_agent", self.agent.to_str().expect("text")])
            .args([
                "--mca",
                "btl",
                "self,tcp",
                "--mca",
                "btl_tcp_if_include",
                "10.77.0.0/24",
            ])
            .args([
                "--mca",
                "oob_tcp_if_include",
                "10.77.0.0/24",
                "-x",
                "RAYON_NUM_THREADS",
            ])
            .arg(program)
            .args(TINY)
            .arg(run_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("it starts")
    }

    /// The trainers on one of the hosts.
    fn trainers(&self, host: usize, program: &Path) -> Vec<u32> {
        let output = Command::new("ip")
            .args(["netns", "pids", &self.names[host]])
            .output();
        let output = output.expect("ip is there");
        let processes = String::from_utf8_lossy(&output.stdout).into_owned();
        let processes = processes
            .lines()
            .filter_map(|line| line.trim().parse().ok());
        let is_trainer = |process: &u32| {
            fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|exe| exe == program)
        };
        processes.filter(is_trainer).collect()
    }

    fn set_cable(&self, state: &str) {
        assert!(ip(&format!("-n {0} link set c{0} {state}", self.names[0])));
    }

    /// Ends what a launcher has left on either host.
    fn clear(&self) {
        for name in &self.names {
            let script = format!("for p in $(ip netns pids {name}); do kill -9 $p; done");
            let _ = Command::new("sh")
                .args(["-c", &script])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        self.clear();
        for name in &self.names {
            ip(&format!("netns del {name}"));
        }
    }
}

fn ip(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn faults_ranks_of_two_hosts_whose_network_is_cut() {
    let Some(program) = program() else {
        skipped(ROW, MISSING);
        return;
    };
    let bench = Bench::new();
    let Some(hosts) = TwoHosts::new(&bench) else {
        skipped(ROW, "network namespaces: this process may not make them");
        return;
    };
    train(&bench, program, 1, "whole");
    let whole = hosts
        .start(&bench, program, "of-two-hosts")
        .wait_with_output();
    let whole = whole.expect("ended");
    let stderr = String::from_utf8_lossy(&whole.stderr);
    assert!(whole.status.success(), "{stderr}");
    assert_same_run(&bench, "whole", "of-two-hosts");
    let wanted = cases(1, 2, 10);
    let mut draws = Draws::new(9);
    let (mut done, mut attempt) = (0, 0);
    while done < wanted {
        attempt += 1;
        let run_dir = format!("cut-{attempt}");
        let mut child = hosts.start(&bench, program, &run_dir);
        let further = Duration::from_millis(draws.below(1_000));
        if !wait_for_start(&bench, &mut child, &run_dir, further) {
            continue;
        }
        assert_eq!(
            [0, 1].map(|host| hosts.trainers(host, program).len()),
            [1, 1]
        );
        hosts.set_cable("down");
        let began = Instant::now();
        let are_left = || [0, 1].map(|host| hosts.trainers(host, program).len()) != [0, 0];
        while are_left() && began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(!are_left(), "a rank is left after {LIMIT:?}");
        // The launcher itself may wait for the other host for longer.
        hosts.clear();
        let output = child.wait_with_output().expect("ended");
        hosts.set_cable("up");
        let errors = errors(&output);
        if output.status.success() {
            continue;
        }
        assert!(errors.len() <= 1, "{errors:?}");
        bench
            .trainer(&["verify-run", "--run-dir", &run_dir])
            .success();
        train(
            &bench,
            program,
            [1, 2, 4][draws.below(3) as usize],
            &run_dir,
        );
        assert_same_run(&bench, "whole", &run_dir);
        done += 1;
    }
    passed(ROW, done);
}
