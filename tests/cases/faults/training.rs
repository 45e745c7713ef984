//! Training that is killed, asked to stop, or left without room, and goes on as if nothing had happened.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end_tests::faults::{Draws, cases, passed};
use end_to_end_tests::{Bench, tiny};

/// Two epochs of forty steps, with a checkpoint every five.
const TINY: &str = "--batch-size 4 --limit-train 160 --limit-test 20 --epochs 2 --checkpoint-every 5 --resume=or-start --json --run-dir";

fn arguments(run_dir: &str) -> Vec<&str> {
    [&tiny(TINY)[..], &[run_dir]].concat()
}

fn start(bench: &Bench, run_dir: &str) -> Child {
    bench
        .trainer_command()
        .args(arguments(run_dir))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the trainer starts")
}

/// Reads the program's events until one of this name; false where it ended before.
fn wait_for(child: &mut Child, event: &str) -> bool {
    let stdout = child.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    let wanted = format!("\"event\":\"{event}\"");
    let found = loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(0) | Err(_) => break false,
            Ok(_) if line.contains(&wanted) => break true,
            Ok(_) => {}
        }
    };
    // Someone must go on reading, or the program would wait.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    found
}

fn verify(bench: &Bench, run_dir: &str) {
    bench
        .trainer(&["verify-run", "--run-dir", run_dir])
        .success();
}

/// Where in a save a kill landed, by what it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Write,
    BetweenFiles,
    Manifest,
    Prune,
    /// The run has its summary, and not yet the list of its files.
    Summary,
}

/// What a run folder shows of a save under way.
fn phase(run_dir: &Path) -> Option<Phase> {
    let lists_files = |list: String| list.contains("sha256");
    if run_dir.join("summary.json").exists()
        && fs::read_to_string(run_dir.join("files.json")).is_ok_and(|list| !lists_files(list))
    {
        return Some(Phase::Summary);
    }
    for entry in fs::read_dir(run_dir.join("checkpoints")).ok()?.flatten() {
        let name = entry.file_name().into_string().ok()?;
        if name.ends_with(".old") {
            return Some(Phase::Prune);
        }
        if name.ends_with(".tmp") {
            let files: Vec<_> = fs::read_dir(entry.path()).ok()?.flatten().collect();
            let is_there = |name: &str| files.iter().any(|file| file.file_name() == *name);
            return Some(match files.len() {
                _ if is_there("manifest.json") => Phase::Manifest,
                0 | 1 => Phase::Write,
                _ => Phase::BetweenFiles,
            });
        }
    }
    None
}

#[test]
fn faults_kill_9_at_random_times_gives_the_same_run() {
    let bench = Bench::new();
    // Builds the program where needed, which must not count as a run's time.
    let _ = bench.trainer_command();
    let began = Instant::now();
    bench.trainer(&arguments("whole")).success();
    let whole = began.elapsed();
    let wanted = cases(6, 20, 200);
    let mut draws = Draws::new(1);
    let (mut kills, mut landed, mut runs) = (0, Vec::new(), 0);
    let phases = [
        Phase::Write,
        Phase::BetweenFiles,
        Phase::Manifest,
        Phase::Prune,
        Phase::Summary,
    ];
    while kills < wanted || !phases.iter().all(|phase| landed.contains(phase)) {
        let run_dir = format!("killed-{runs}");
        let folder = bench.path(&run_dir);
        runs += 1;
        assert!(runs < 10 + 3 * wanted, "kills landed in {landed:?} only");
        for attempts in 0.. {
            assert!(attempts < 100, "the run does not get on");
            let mut child = start(&bench, &run_dir);
            let deadline =
                Instant::now() + Duration::from_micros(draws.below(whole.as_micros() as u64));
            // Every other kill waits for a phase of a save that none has landed in yet.
            let target = phases
                .into_iter()
                .find(|phase| !landed.contains(phase))
                .filter(|_| draws.below(2) == 0);
            while Instant::now() < deadline && child.try_wait().expect("asked").is_none() {
                if target.is_some() && phase(&folder) == target {
                    break;
                }
                if target.is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            child.kill().expect("killed, or gone already");
            if child.wait().expect("ended").success() {
                break;
            }
            kills += 1;
            landed.extend(phase(&folder));
            if folder.join("config.json").exists() {
                verify(&bench, &run_dir);
            }
        }
        bench.assert_same_run("whole", &run_dir);
        verify(&bench, &run_dir);
    }
    println!("{kills} kills over {runs} runs; in saves: {landed:?}");
    passed("kill -9", kills);
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .expect("kill is there");
    assert!(status.success(), "{signal} could not be sent");
}

#[cfg(unix)]
#[test]
fn faults_signals_leave_a_checkpoint_and_their_own_exit_code() {
    let bench = Bench::new();
    // Builds the program where needed, which must not count as a run's time.
    let _ = bench.trainer_command();
    let began = Instant::now();
    bench.trainer(&arguments("whole")).success();
    let whole = began.elapsed().as_millis() as u64;
    let each = cases(1, 10, 50);
    let mut draws = Draws::new(2);
    let mut count = 0;
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        for twice in [false, true] {
            let (mut done, mut attempts) = (0, 0);
            while done < each {
                attempts += 1;
                assert!(attempts < 20 + 10 * each, "runs are over too early");
                let run_dir = format!("stopped-{signal}-{twice}-{attempts}");
                let mut child = start(&bench, &run_dir);
                assert!(wait_for(&mut child, "run_start"));
                std::thread::sleep(Duration::from_millis(draws.below(whole * 2 / 3)));
                if child.try_wait().expect("asked").is_some() {
                    continue;
                }
                send(&child, signal);
                let mut last = Instant::now();
                let mut between = Duration::ZERO;
                if twice {
                    // Both sides of what counts as one signal.
                    let gap = draws.below(4) + 340 * draws.below(2);
                    std::thread::sleep(Duration::from_millis(gap));
                    // The first may have been enough already.
                    let _ = Command::new("kill")
                        .args([signal, &child.id().to_string()])
                        .stderr(Stdio::null())
                        .status();
                    between = last.elapsed();
                    last = Instant::now();
                }
                let output = child.wait_with_output().expect("ended");
                let stderr = String::from_utf8_lossy(&output.stderr);
                if output.status.success() {
                    continue;
                }
                assert_eq!(output.status.code(), Some(code), "{stderr}");
                assert!(last.elapsed().as_secs_f64() < 5.0, "{:?}", last.elapsed());
                assert!(!stderr.contains("panicked"), "{stderr}");
                if between < Duration::from_millis(200) {
                    assert!(stderr.contains("--resume"), "{stderr}");
                    let checkpoints = bench.path(&format!("{run_dir}/checkpoints"));
                    assert!(fs::read_dir(checkpoints).expect("listed").next().is_some());
                }
                verify(&bench, &run_dir);
                bench.trainer(&arguments(&run_dir)).success();
                bench.assert_same_run("whole", &run_dir);
                done += 1;
            }
            count += done;
        }
    }
    passed("signals", count);
}

#[cfg(unix)]
#[test]
fn faults_disk_full_by_a_file_size_limit() {
    let bench = Bench::new();
    bench.trainer(&arguments("whole")).success();
    // Half-kilobytes: the log of metrics, a picture, the smaller and the larger file of a checkpoint.
    let limits: Vec<u64> = match cases(2, 4, 20) {
        2 => vec![1, 200],
        4 => vec![1, 40, 120, 200],
        _ => (0..20).map(|case| 1 + 12 * case).collect(),
    };
    let mut count = 0;
    let program = bench.trainer_command().get_program().to_owned();
    for limit in limits {
        let run_dir = format!("limited-{limit}");
        let mut first = start(&bench, &run_dir);
        if wait_for(&mut first, "epoch") {
            send(&first, "-TERM");
        }
        first.wait().expect("ended");
        let limited = bench
            .command("sh")
            .args(["-c", &format!("ulimit -f {limit}; exec \"$@\""), "sh"])
            .arg(&program)
            .args(arguments(&run_dir))
            .output()
            .expect("ended");
        let stderr = String::from_utf8_lossy(&limited.stderr);
        assert_eq!(limited.status.code(), Some(21), "limit {limit}: {stderr}");
        assert!(
            stderr.contains("the disk is full at") && stderr.contains("--resume"),
            "{stderr}"
        );
        verify(&bench, &run_dir);
        bench.trainer(&arguments(&run_dir)).success();
        bench.assert_same_run("whole", &run_dir);
        count += 1;
    }
    passed("disk full", count);
}

/// A file system of 24 MB of its own, where this process may make one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        fs::create_dir_all(path).expect("created");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(path)
            .stderr(Stdio::null())
            .status();
        status
            .is_ok_and(|status| status.success())
            .then_some(Self(path))
    }

    /// Leaves so many bytes.
    fn fill(&self, left: usize) {
        let path = self.0.join("filler");
        let file = fs::File::create(&path).expect("created");
        let block = vec![0; 4096];
        let mut writer = &file;
        let mut size = 0u64;
        while std::io::Write::write_all(&mut writer, &block).is_ok() {
            size += block.len() as u64;
        }
        file.set_len(size.saturating_sub(left as u64))
            .expect("shortened");
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn faults_disk_full_by_a_small_file_system() {
    let bench = Bench::new();
    bench.trainer(&arguments("whole")).success();
    let folder = bench.path("small");
    let Some(disk) = SmallDisk::mount(&folder) else {
        println!("skipped: this process may not mount a file system");
        return;
    };
    let run_dir = "small/run";
    let mut count = 0;
    let lefts: Vec<usize> = match cases(1, 3, 18) {
        1 => vec![0],
        3 => vec![0, 20_000, 200_000],
        _ => (0..18).map(|case| 20_000 * case).collect(),
    };
    for left in lefts {
        let mut child = start(&bench, run_dir);
        assert!(wait_for(&mut child, "run_start"));
        disk.fill(left);
        let output = child.wait_with_output().expect("ended");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(21),
            "{left} bytes left: {stderr}"
        );
        assert!(stderr.contains("free"), "{stderr}");
        // Without room for four checkpoints a run does not begin at all.
        bench
            .trainer(&arguments(run_dir))
            .failure(21, &["to be written", "free"]);
        disk.clear();
        verify(&bench, run_dir);
        bench.trainer(&arguments(run_dir)).success();
        bench.assert_same_run("whole", run_dir);
        fs::remove_dir_all(bench.path(run_dir)).expect("removed");
        count += 1;
    }

    // With --on-disk-full=pause the run waits for room, and goes on by itself.
    let mut child = bench
        .trainer_command()
        .args(arguments(run_dir))
        .arg("--on-disk-full=pause")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the trainer starts");
    assert!(wait_for(&mut child, "run_start"));
    disk.fill(0);
    std::thread::sleep(Duration::from_secs(3));
    assert!(child.try_wait().expect("asked").is_none(), "it should wait");
    disk.clear();
    assert!(child.wait().expect("ended").success());
    bench.assert_same_run("whole", run_dir);

    // Five checkpoints of 1.2 MB fit at the start; of those there are, room is not asked for again.
    let larger = "--intermediate-dim 512 --limit-train 50 --limit-test 10 --run-dir small/larger";
    fs::remove_dir_all(bench.path(run_dir)).expect("removed");
    bench
        .trainer(&[tiny(larger), vec!["--epochs", "3"]].concat())
        .success();
    bench
        .trainer(&[
            "train",
            "--resume",
            "--run-dir",
            "small/larger",
            "--epochs",
            "4",
        ])
        .success();
    passed("disk full", count + 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_without_memory_has_its_own_exit_code() {
    let bench = Bench::new();
    let program = bench.trainer_command().get_program().to_owned();
    // The address space, in kilobytes: enough to start, too little for a step of 500 images.
    let limited = bench
        .command("sh")
        .args(["-c", "ulimit -v 1500000; exec \"$@\"", "sh"])
        .arg(&program)
        .args([
            "train",
            "--preset",
            "demo",
            "--width",
            "0.25",
            "--batch-size",
            "500",
        ])
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(31), "{stderr}");
    assert!(stderr.contains("--batch-size"), "{stderr}");

    bench
        .trainer(&[
            "train",
            "--preset",
            "demo",
            "--width",
            "16",
            "--batch-size",
            "2000",
        ])
        .failure(31, &["out of memory", "--batch-size"]);
}
