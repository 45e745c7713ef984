//! `cargo xtask doctor`: each failed check says what to do and has its exit code, and the whole never takes 5 seconds.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use end_to_end_tests::{Bench, Ended};
use serde_json::Value;

/// How a mirror answers every request.
#[derive(Clone, Copy)]
enum Mirror {
    Gzip,
    Page,
    Silence,
}

/// Starts a mirror that lives as long as the test, and returns its address.
fn mirror(answer: Mirror) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let body = match answer {
                Mirror::Gzip => [&[0x1f, 0x8b][..], &[7; 100_000]].concat(),
                Mirror::Page => b"<html>moved</html>".to_vec(),
                Mirror::Silence => {
                    std::thread::sleep(Duration::from_secs(30));
                    continue;
                }
            };
            let length = body.len();
            // A client that hangs up early is its own affair.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            )
            .and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}/cifar-10-binary.tar.gz")
}

/// Runs it with these mirrors and flags; returns how it ended and each check's status.
fn doctor(bench: &Bench, mirrors: &[&str], flags: &[&str]) -> (Ended, Vec<(String, String)>) {
    // Built before the clock starts.
    let mut command = bench.xtask_command();
    command
        .args(["doctor", "--json"])
        .args(flags)
        .env("CIFAR10_MIRRORS", mirrors.join(","));
    let start = Instant::now();
    let output = command.output().expect("it starts");
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let ended = Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let report = ended.json();
    let checks = report["checks"].as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for check in &checks {
        let is_red = check["status"] == "red";
        assert!(
            !is_red || !text(&check["fix"]).is_empty(),
            "no fix: {check}"
        );
    }
    assert_eq!(report["exit_code"].as_i64(), ended.code.map(i64::from));
    let statuses = checks
        .iter()
        .map(|check| (text(&check["check"]), text(&check["status"])));
    (ended, statuses.collect())
}

#[track_caller]
fn assert_status(statuses: &[(String, String)], check: &str, status: &str) {
    let found: Vec<_> = statuses.iter().filter(|(name, _)| name == check).collect();
    assert!(!found.is_empty(), "no {check} in {statuses:?}");
    assert!(found.iter().all(|(_, found)| found == status), "{found:?}");
}

#[test]
fn a_machine_without_data_is_fit_where_a_mirror_answers() {
    let bench = Bench::new();
    let (ended, statuses) = doctor(&bench, &[&mirror(Mirror::Gzip)], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert_status(&statuses, "toolchain", "ok");
    assert_status(&statuses, "data", "warn");
    assert_status(&statuses, "mirror", "ok");
    assert_eq!(
        fs::read_dir(bench.path("")).expect("a folder").count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn no_network_and_no_data_is_the_code_for_the_network() {
    let bench = Bench::new();
    // Nothing listens there; one says nothing; one sends something else.
    let (silence, page) = (mirror(Mirror::Silence), mirror(Mirror::Page));
    let mirrors = ["http://127.0.0.1:1/x", &silence, &page];
    let (ended, statuses) = doctor(&bench, &mirrors, &[]);
    assert_eq!(ended.code, Some(10), "{}", ended.stdout);
    assert_status(&statuses, "mirror", "red");
    assert!(ended.stdout.contains("an HTML page"), "{}", ended.stdout);
    assert!(ended.stdout.contains("--from-file"), "{}", ended.stdout);

    let (ended, statuses) = doctor(&bench, &mirrors, &["--offline"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(statuses.iter().all(|(name, _)| name != "mirror"));
}

#[test]
fn damaged_data_is_the_code_for_the_checksum() {
    let bench = Bench::new();
    let folder = bench.path("d/cifar-10-batches-bin");
    fs::create_dir_all(&folder).expect("created");
    for name in [
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
    ] {
        let file = File::create(folder.join(format!("{name}.bin"))).expect("created");
        file.set_len(30_730_000).expect("sized");
    }
    let (ended, statuses) = doctor(&bench, &[], &["--offline", "--data-dir", "d"]);
    assert_eq!(ended.code, Some(11), "{}", ended.stdout);
    assert_status(&statuses, "data", "red");
    assert!(
        ended.stdout.contains("cargo xtask download --data-dir d"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_run_folder_that_cannot_be_written_is_the_code_for_the_disk() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "x").expect("written");
    let (ended, statuses) = doctor(&bench, &[], &["--offline", "--run-dir", "file/r"]);
    assert_eq!(ended.code, Some(21), "{}", ended.stdout);
    assert_status(&statuses, "run folder", "red");
}

#[test]
fn lines_for_people_say_the_same() {
    let bench = Bench::new();
    let ended = bench.xtask(&["doctor", "--offline"]).success();
    assert!(
        ended.stdout.contains("ok    toolchain: rustc "),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("fix: `cargo xtask download"),
        "{}",
        ended.stdout
    );
    bench
        .xtask(&["doctor", "--device", "gpu"])
        .failure(2, &["cuda:N"]);
}
