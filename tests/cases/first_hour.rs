//! What people meet in their first hour: mistyped names, wrong guesses, moved folders, a closed terminal.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end_tests::Bench;

const TINY: [&str; 13] = [
    "train",
    "--preset",
    "demo",
    "--width",
    "0.02",
    "--latent-dim",
    "4",
    "--limit-train",
    "100",
    "--limit-test",
    "20",
    "--epochs",
    "1",
];

fn train(more: &[&'static str]) -> Vec<&'static str> {
    [&TINY[..], more].concat()
}

#[test]
fn a_mistyped_folder_is_not_begun_by_resuming() {
    let bench = Bench::new();
    bench
        .trainer(&["train", "--resume", "--run-dir", "runs/demo-sead-1"])
        .failure(
            2,
            &["nothing to resume", "runs/demo-sead-1", "--resume=or-start"],
        );
    assert!(!bench.path("runs").exists());
    bench
        .trainer(&["train", "--resume"])
        .failure(2, &["nothing to resume"]);
    bench
        .trainer(&train(&["--run-dir", "r", "--resume=or-start"]))
        .success();
    // One that is there is found without its name.
    bench.trainer(&train(&[])).success();
    let resumed = bench.trainer(&train(&["--resume"])).success();
    assert!(
        resumed.stdout.contains("all is trained, after epoch 1"),
        "{}",
        resumed.stdout
    );
}

#[test]
fn without_data_only_those_who_ask_for_the_sample_get_it() {
    let bench = Bench::new();
    let small = [
        "train",
        "--depth",
        "28",
        "--width",
        "0.02",
        "--latent-dim",
        "4",
        "--limit-train",
        "50",
        "--limit-test",
        "10",
        "--epochs",
        "1",
        "--run-dir",
    ];
    for more in [&["a"][..], &["b", "--preset", "depth28"]] {
        bench
            .trainer(&[&small[..], more].concat())
            .failure(12, &["cargo xtask download", "--data-dir", "--data sample"]);
    }
    bench
        .trainer(&["bench-depths", "--width", "0.02", "--seeds", "1"])
        .failure(12, &["cargo xtask download"]);
    bench
        .trainer(&[&small[..], &["c", "--data", "sample"]].concat())
        .success();
    let score = bench
        .trainer(&["evaluate", "--run-dir", "c", "--json"])
        .success()
        .json();
    assert_eq!(score["data_set"], "cifar-10-sample");
    assert_eq!(score["data_source"], "embedded sample");
    assert_eq!(score["images"], 10);
    bench
        .trainer(&["train", "--run-dir", "c", "--resume", "--epochs", "2"])
        .success();
}

#[test]
fn a_run_is_scored_on_its_own_data_or_not_at_all() {
    let bench = Bench::new();
    bench.trainer(&train(&["--run-dir", "r"])).success();
    // As if it had been trained on all of CIFAR-10, and handed over.
    let manifest = "r/checkpoints/epoch-0001-batch-00000/manifest.json";
    fs::remove_file(bench.path(manifest)).expect("removed");
    let environment = String::from_utf8(bench.read("r/environment.json")).expect("text");
    let environment: serde_json::Value = serde_json::from_str(&environment).expect("JSON");
    let mut other = environment.clone();
    other["data_hash"] = "0123456789abcdef0123456789abcdef".into();
    other["data_source"] = "/mnt/all-of-cifar".into();
    fs::write(bench.path("r/environment.json"), other.to_string()).expect("written");
    bench.trainer(&["evaluate", "--run-dir", "r"]).failure(
        12,
        &[
            "/mnt/all-of-cifar",
            "cifar-10-sample",
            "embedded sample",
            "--data-dir",
        ],
    );
    fs::write(bench.path("r/environment.json"), environment.to_string()).expect("written");
    let score = bench.trainer(&["evaluate", "--run-dir", "r"]).success();
    assert!(score.stdout.contains("cifar-10-sample"), "{}", score.stdout);
}

#[test]
fn the_folder_of_the_six_files_works_by_its_own_name() {
    let bench = Bench::new();
    // The sample's members, as a folder.
    let sample = end_to_end_tests::workspace().join("crates/cifar-loader/data");
    let container = fs::read_dir(sample)
        .expect("listed")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(".tar.gz"));
    let unpacked = bench
        .command("tar")
        .arg("xzf")
        .arg(container.expect("the sample"))
        .status();
    assert!(unpacked.expect("tar is there").success());
    let folder = "cifar-10-sample-bin";
    bench
        .trainer(&train(&["--run-dir", "a", "--data-dir", "."]))
        .success();
    bench
        .trainer(&train(&["--run-dir", "b", "--data-dir", folder]))
        .success();
    assert!(bench.read("a/model.safetensors") == bench.read("b/model.safetensors"));
    fs::create_dir_all(bench.path("d/cifar-10-batches-bin")).expect("created");
    let nested = bench
        .trainer(&train(&["--data-dir", "d/cifar-10-batches-bin"]))
        .failure(12, &["cargo xtask download --data-dir d`"]);
    assert!(
        !nested.stderr.contains("batches-bin`, or"),
        "{}",
        nested.stderr
    );
}

#[test]
fn wrong_guesses_are_answered() {
    let bench = Bench::new();
    for device in ["cpu", "gpu"] {
        bench
            .trainer(&train(&["--device", device]))
            .failure(2, &["flex (the CPU)", "cuda:N (an NVIDIA GPU"]);
    }
    bench.trainer(&train(&["--run-dir", "r"])).success();
    // The last one wins, as wrapper scripts rely on.
    let repeated = bench.trainer(&[
        "train",
        "--preset",
        "demo",
        "--epochs",
        "5",
        "--epochs",
        "7",
        "--print-config",
        "--json",
        "--json",
    ]);
    assert!(repeated.success().stdout.contains('7'));
    bench
        .trainer(&["evaluate", "--run-dir", "x", "--run-dir", "r"])
        .success();
    // A shell leaves this as it is.
    let home = bench.path("home");
    let output = bench
        .trainer_command()
        .args(train(&["--run-dir=~/x"]))
        .env("HOME", &home)
        .output()
        .expect("ended");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(home.join("x/summary.json").is_file() && !bench.path("~").exists());
    let output = bench
        .trainer_command()
        .args(["evaluate", "--run-dir=~/x"])
        .env("HOME", &home)
        .output()
        .expect("ended");
    assert!(output.status.success());

    fs::write(bench.path("bom.json"), "\u{feff}{\"batch_size\": 20}").expect("written");
    let config = [
        "train",
        "--preset",
        "demo",
        "--config",
        "bom.json",
        "--print-config",
    ];
    assert!(bench.trainer(&config).success().stdout.contains("20"));
    fs::write(bench.path("quoted.json"), "{\"batch_size\": \"20\"}").expect("written");
    bench
        .trainer(&["train", "--config", "quoted.json"])
        .failure(2, &["batch_size cannot be `\"20\"`"]);
}

#[cfg(unix)]
#[test]
fn the_environment_changes_no_run_without_a_word() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    bench.trainer(&train(&["--run-dir", "r"])).success();
    let output = bench
        .trainer_command()
        .args(["train", "--run-dir", "r", "--resume"])
        .env("EPOCHS", "2")
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("EPOCHS in the environment changes epochs of this run: 1 -> 2"),
        "{stderr}"
    );
    let output = bench
        .trainer_command()
        .args(TINY)
        .env("OUTDIR", std::ffi::OsStr::from_bytes(b"r\xff"))
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("OUTDIR") && stderr.contains("UTF-8"),
        "{stderr}"
    );
    assert!(!bench.path("runs").exists());
}

#[test]
fn the_end_of_training_tells_the_score_the_pictures_and_what_comes_next() {
    let bench = Bench::new();
    let ended = bench.trainer(&train(&["--run-dir", "my run"])).success();
    let summary: serde_json::Value =
        serde_json::from_slice(&bench.read("my run/summary.json")).expect("JSON");
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
        .args(TINY)
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
        .args(TINY)
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
        .env("LOG_INTERVAL", "0.5")
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
        .args(TINY)
        .env("LOG_INTERVAL", "never")
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("LOG_INTERVAL"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_closed_terminal_and_a_schedulers_warning_cost_nothing() {
    let bench = Bench::new();
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
        .args(TINY)
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

#[cfg(target_os = "linux")]
#[test]
fn a_micro_batch_is_chosen_by_what_the_process_may_have() {
    let bench = Bench::new();
    let program = bench.trainer_command().get_program().to_owned();
    // The address space, in kilobytes.
    let limited = |limit: &str, more: &[&str]| {
        let output = bench
            .command("sh")
            .args(["-c", &format!("ulimit -v {limit}; exec \"$@\""), "sh"])
            .arg(&program)
            .args([
                "train",
                "--preset",
                "demo",
                "--width",
                "0.25",
                "--batch-size",
                "500",
                "--auto-batch",
            ])
            .args([
                "--limit-train",
                "500",
                "--limit-test",
                "10",
                "--epochs",
                "1",
                "--json",
            ])
            .args(more)
            .output()
            .expect("ended");
        let texts =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), texts)
    };
    let (code, [_, stderr]) = limited("300000", &["--run-dir", "none"]);
    assert_eq!(code, Some(31), "{stderr}");
    assert!(
        !stderr.contains("--auto-batch") && stderr.contains("--width"),
        "{stderr}"
    );
    let (code, [stdout, stderr]) = limited("2500000", &["--run-dir", "some"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("micro-batches of at most"), "{stdout}");
    // A resumed run keeps what was chosen, also where its folder is not named.
    let (code, [_, stderr]) = limited("2500000", &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let (code, [_, stderr]) = limited("2500000", &["--resume"]);
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn a_resumed_run_is_built_for_the_device_it_recorded() {
    let bench = Bench::new();
    bench.trainer(&train(&["--run-dir", "my runs/r"])).success();
    // The trainer without that backend says what would have it, and that it is the same command.
    let config = String::from_utf8(bench.read("my runs/r/config.json")).expect("text");
    let config = config.replace("\"device\": \"flex\"", "\"device\": \"cuda:0\"");
    fs::write(bench.path("my runs/r/config.json"), config).expect("written");
    bench
        .trainer(&["train", "--run-dir", "my runs/r", "--resume"])
        .failure(2, &["feature `cuda`", "same command", "--device cuda:0"]);
}
