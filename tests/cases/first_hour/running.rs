//! What a run says while it trains and when it ends, and a terminal that is closed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end_tests::{Bench, tiny};

use super::{TINY, train};

#[test]
fn the_end_of_training_tells_the_score_the_pictures_and_what_comes_next() {
    let bench = Bench::new();
    let ended = bench.trainer(&train(&["--run-dir", "my run"])).success();
    let summary = bench.read_json("my run/summary.json");
    let score = summary["test"]["cross_entropy"].as_f64().expect("a number");
    for text in [
        "test, best",
        &format!("{score:.2}"),
        "final-10x10.png",
        "reconstructions/final.png",
        "cargo xtask report --run-dir 'my run'",
        "preset demo",
    ] {
        assert!(ended.stdout.contains(text), "no {text} in {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("epoch-0001.png"), "{}", ended.stdout);
    for picture in ended
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("picture     "))
    {
        assert!(bench.path(picture).is_file(), "{picture}");
    }
    let json = bench
        .trainer(&train(&["--run-dir", "other", "--json"]))
        .success();
    let last = json.stdout.lines().last().expect("an event");
    let event: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(event["event"], "finish");
    assert_eq!(event["test"], summary["test"]);
}

fn start(bench: &Bench, run_dir: &str, more: &[&str]) -> Child {
    bench
        .trainer_command()
        .args(tiny(TINY))
        .args(["--epochs", "200", "--json", "--run-dir", run_dir])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started")
}

/// Reads events until one holds the text.
fn wait_for(child: &mut Child, text: &str) {
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut lines = lines.lines();
    let found = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains(text));
    assert!(found, "no {text}");
    // Someone must go on reading.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(status.expect("kill is there").success());
}

/// The lines of a pipe, with the time of each, as they come.
fn lines_of(pipe: impl std::io::Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        // The test may have heard enough.
        lines.for_each(|line| drop(sender.send(line)));
    });
    receiver
}

#[test]
fn a_run_of_hours_is_announced_as_one_with_what_takes_less() {
    let bench = Bench::new();
    let mut child = bench
        .trainer_command()
        .args(tiny(TINY))
        .args(["--epochs", "1000000", "--run-dir", "r"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = lines_of(child.stderr.take().expect("piped"));
    let patience = Duration::from_secs(60);
    let said = std::iter::from_fn(|| lines.recv_timeout(patience).ok())
        .find(|line| line.contains("images/s an epoch takes"));
    child.kill().expect("killed");
    child.wait().expect("ended");
    let said = said.expect("an estimate");
    // Hours, and the flags that make them fewer.
    let whole = said.split("1000000 epochs ").nth(1).expect("a time");
    let is_of_hours = whole
        .split(' ')
        .next()
        .expect("a word")
        .matches(':')
        .count()
        == 2;
    assert!(whole.contains(" d ") || is_of_hours, "{said}");
    for flag in [
        "--preset demo",
        "--depth",
        "--width",
        "--limit-train",
        "--epochs",
    ] {
        assert!(said.contains(flag), "no {flag} in {said}");
    }
    // A short run is not.
    let short = bench.trainer(&train(&["--run-dir", "s"])).success();
    assert!(!short.stderr.contains("an epoch takes"), "{}", short.stderr);
}

#[test]
fn steps_that_tell_of_themselves_have_one_line_an_interval() {
    let bench = Bench::new();
    let output = bench
        .trainer_command()
        .args(tiny(
            "--batch-size 2 --limit-test 20 --epochs 1 --run-dir r",
        ))
        .env("LOG_INTERVAL", "0.5")
        .output()
        .expect("ended");
    assert!(output.status.success());
    let stdout = String::from_utf8_lossy(&output.stdout);
    let count = |begin: &str| {
        stdout
            .lines()
            .filter(|line| line.starts_with(begin))
            .count()
    };
    let steps = count("epoch 1/1  step ");
    assert!(steps >= 2, "{stdout}");
    // A busy machine may halt for longer than two intervals, but not each time.
    assert!(count("still at work") < steps, "{stdout}");
}

#[test]
fn a_log_is_never_silent_for_long() {
    let bench = Bench::new();
    let interval = Duration::from_millis(500);
    let mut child = bench
        .trainer_command()
        .args([
            "train",
            "--preset",
            "demo",
            "--width",
            "0.25",
            "--batch-size",
            "400",
        ])
        .args([
            "--limit-train",
            "800",
            "--limit-test",
            "300",
            "--epochs",
            "1",
            "--run-dir",
            "r",
        ])
        .env("LOG_INTERVAL", "0.25")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let lines = lines_of(child.stdout.take().expect("piped"));
    let (mut longest, mut since) = (Duration::ZERO, Instant::now());
    let mut all = Vec::new();
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(300)) {
        longest = longest.max(since.elapsed());
        since = Instant::now();
        all.push(line);
    }
    assert!(child.wait().expect("ended").success());
    // Each of the two steps takes longer than that, and so do the pictures.
    let broken = all
        .iter()
        .filter(|line| line.starts_with("still at work: "));
    assert!(broken.count() >= 2, "{all:?}");
    assert!(
        all.iter()
            .any(|line| line.starts_with("still at work: epoch 1, step ")),
        "{all:?}"
    );
    assert!(
        longest < 6 * interval,
        "{longest:?} without a line: {all:?}"
    );
    bench
        .trainer(&train(&["--run-dir", "r"]))
        .failure(2, &["--resume"]);
    let output = bench
        .trainer_command()
        .args(tiny(TINY))
        .env("LOG_INTERVAL", "never")
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("LOG_INTERVAL"), "{stderr}");
}

#[cfg(unix)]
/// Whether the tests run under `nohup`, so that what they start ignores a closed terminal.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// A run whose steps take seconds.
const SLOW: &str = "train --data sample --depth 28 --width 0.25 --latent-dim 8 --batch-size 100 --limit-train 2000 --limit-test 10 --json --run-dir";

/// Starts it and waits until it is in its second step.
fn start_slow(bench: &Bench, run_dir: &str) -> Child {
    let mut child = bench
        .trainer_command()
        .args(SLOW.split(' '))
        .arg(run_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    wait_for(&mut child, "\"event\":\"step\"");
    // Between two steps it looks whether someone has asked it to stop.
    std::thread::sleep(Duration::from_millis(200));
    child
}

#[cfg(unix)]
#[test]
fn signals_that_come_together_are_one_and_a_later_one_ends_the_run_at_once() {
    let bench = Bench::new();
    let has_checkpoint = |run_dir: &str| {
        let names = fs::read_dir(bench.path(&format!("{run_dir}/checkpoints")));
        names.expect("listed").next().is_some()
    };
    // Bash sends a hangup to its jobs where its terminal is closed, and when it ends so does the kernel.
    if !ignores_hangup() {
        let child = start_slow(&bench, "closed");
        send(&child, "-HUP");
        std::thread::sleep(Duration::from_millis(400));
        send(&child, "-HUP");
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(143));
        assert!(has_checkpoint("closed"));
    }

    // `timeout` signals its child and then the child's group.
    let program = bench.trainer_command().get_program().to_owned();
    let output = bench
        .command("timeout")
        .arg("6")
        .arg(program)
        .args(SLOW.split(' '))
        .arg("limited")
        .output()
        .expect("ended");
    assert_eq!(output.status.code(), Some(124));
    assert!(has_checkpoint("limited"));

    // A second Ctrl-C does not wait for the step.
    let child = start_slow(&bench, "impatient");
    send(&child, "-INT");
    std::thread::sleep(Duration::from_millis(500));
    send(&child, "-INT");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(130));
    assert!(!has_checkpoint("impatient"));
}

#[test]
fn a_closed_terminal_and_a_schedulers_warning_cost_nothing() {
    let bench = Bench::new();
    if !ignores_hangup() {
        let mut child = start(&bench, "r", &[]);
        wait_for(&mut child, "\"event\":\"epoch\"");
        send(&child, "-HUP");
        let output = child.wait_with_output().expect("ended");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(143), "{stderr}");
        assert!(
            stderr.contains("SIGHUP") && stderr.contains("--resume"),
            "{stderr}"
        );
        bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    }

    // SIGUSR1 asks for a checkpoint and nothing else, in a run that would write none for a while.
    let mut child = start(&bench, "s", &["--limit-train", "2000", "--batch-size", "2"]);
    wait_for(&mut child, "\"event\":\"step\"");
    send(&child, "-USR1");
    let checkpoints = bench.path("s/checkpoints");
    let written = (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let names = fs::read_dir(&checkpoints).into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .any(|name| name.starts_with("epoch-0000-batch-") && !name.contains('.'))
    });
    assert!(child.try_wait().expect("asked").is_none(), "it goes on");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(written, "a checkpoint within the first epoch");
    bench.trainer(&["verify-run", "--run-dir", "s"]).success();

    // Under nohup a hangup stays ignored.
    let program = bench.trainer_command().get_program().to_owned();
    let mut child = bench
        .command("sh")
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(program)
        .args(tiny(TINY))
        .args(["--epochs", "200", "--json", "--run-dir", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    wait_for(&mut child, "\"event\":\"epoch\"");
    send(&child, "-HUP");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(child.try_wait().expect("asked").is_none(), "it goes on");
    child.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn a_run_that_is_still_training_is_not_one_that_was_never_begun() {
    let bench = Bench::new();
    let mut child = start(&bench, "r", &[]);
    wait_for(&mut child, "\"event\":\"epoch\"");
    let evaluated = bench.trainer(&["evaluate", "--run-dir", "r"]);
    child.kill().expect("killed");
    child.wait().expect("ended");
    let evaluated = evaluated.failure(2, &["not finished", "--resume"]);
    assert!(
        !evaluated.stderr.contains("train there first"),
        "{}",
        evaluated.stderr
    );
}
