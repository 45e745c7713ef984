use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cifar_loader::{DownloadOptions, Error, Event, download, import_file};
use flate2::Compression;
use tempfile::TempDir;

use crate::fixture::{
    Tar, archive, archive_without_hashes, assert_published, gzip, gzip_at, listing, tar,
};
use crate::server::{Answer, Server};

pub(crate) const PART: &str = "cifar-10-binary.tar.gz.part";

pub(crate) fn options(servers: &[&Server]) -> DownloadOptions {
    DownloadOptions {
        mirrors: servers.iter().map(|server| server.url()).collect(),
        backoff: Duration::from_millis(5),
        stall_timeout: Duration::from_secs(10),
        lock_patience: Duration::from_secs(30),
        ..Default::default()
    }
}

/// Downloads and returns the outcome with the events in short form.
pub(crate) fn run(data_dir: &Path, options: &DownloadOptions) -> (Result<(), Error>, Vec<String>) {
    let mut events = Vec::new();
    let outcome = download(&archive(), data_dir, options, &mut |event| {
        let text = format!("{event:?}");
        events.push(text.split([' ', '{']).next().unwrap().to_owned());
    });
    (outcome.map(drop), events)
}

pub(crate) fn server(answers: &[Answer]) -> Server {
    Server::start(gzip(&tar()), answers.to_vec())
}

fn status(code: u16) -> Answer {
    Answer::Status(code, String::new(), "no")
}

#[track_caller]
fn check_success(answers: &[Answer], expected_ranges: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let server = server(answers);
    let (outcome, events) = run(folder.path(), &options(&[&server]));
    outcome.unwrap();
    assert_published(folder.path());
    assert_eq!(server.requests(), expected_ranges);
    events
}

/// One mirror that never delivers; returns the error and the folder.
#[track_caller]
fn check_failure(answers: &[Answer], exit_code: u8) -> (Error, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = run(folder.path(), &options(&[&server(answers)]));
    let error = outcome.unwrap_err();
    assert_eq!(error.exit_code(), exit_code, "{error}");
    assert!(
        listing(folder.path()).iter().all(|name| name == PART),
        "{:?}",
        listing(folder.path())
    );
    (error, folder)
}

#[test]
fn a_good_mirror_delivers_in_one_request() {
    let events = check_success(&[Answer::File], &["-"]);
    assert_eq!(events.first().unwrap(), "Connecting");
    assert!(events.iter().any(|event| event == "Transfer"));
    assert_eq!(events.last().unwrap(), "Published");
    check_success(&[Answer::Chunked], &["-"]);
}

#[test]
fn a_broken_connection_is_resumed_where_it_ended() {
    check_success(
        &[
            Answer::ResetAfter(1000),
            Answer::ResetAfter(50_000),
            Answer::File,
        ],
        &["-", "1000", "51000"],
    );
    check_success(&[Answer::ResetAfter(0), Answer::File], &["-", "-"]);
    check_success(&[Answer::ResetAfter(1), Answer::File], &["-", "-"]);
}

#[test]
fn a_stalled_connection_is_left_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Answer::StallAfter(2000), Answer::File]);
    let options = DownloadOptions {
        stall_timeout: Duration::from_millis(300),
        ..options(&[&server])
    };
    let start = Instant::now();
    run(folder.path(), &options).0.unwrap();
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_published(folder.path());
    let requests = server.requests();
    assert_eq!(requests[..2], ["-", "2000"], "{requests:?}");
}

#[test]
fn a_login_page_takes_nothing_from_what_was_received() {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join(PART);
    fs::write(&part, &gzip(&tar())[..5000]).unwrap();
    let page = Server::start(
        b"<html>please sign in</html>".repeat(300),
        vec![Answer::IgnoreRange],
    );
    let plain = Answer::Status(200, String::new(), "<html>please sign in</html>");
    let signs_in = server(&[plain]);
    for server in [&page, &signs_in] {
        let (outcome, _) = run(folder.path(), &options(&[server]));
        outcome.unwrap_err();
        assert_eq!(fs::metadata(&part).unwrap().len(), 5000);
    }
    // And behind it the download goes on.
    let server = server(&[Answer::File]);
    run(folder.path(), &options(&[&server])).0.unwrap();
    assert_eq!(server.requests(), ["5000"]);
    assert_published(folder.path());
}

#[test]
fn an_ignored_range_starts_over() {
    let events = check_success(
        &[Answer::ResetAfter(1000), Answer::IgnoreRange],
        &["-", "1000"],
    );
    assert!(events.iter().any(|event| event == "Restarting"));
}

#[test]
fn a_wrong_range_or_size_is_thrown_away() {
    check_success(
        &[Answer::ResetAfter(1000), Answer::WrongRange, Answer::File],
        &["-", "1000", "-"],
    );
    check_success(
        &[Answer::ResetAfter(1000), Answer::WrongTotal, Answer::File],
        &["-", "1000", "-"],
    );
}

#[test]
fn errors_that_pass_are_tried_again() {
    let busy = Answer::Status(429, "Retry-After: 0\r\n".into(), "");
    check_success(
        &[status(500), busy, status(503), Answer::File],
        &["-", "-", "-", "-"],
    );
}

#[test]
fn tries_are_bounded_and_the_partial_file_is_kept() {
    let answers = [Answer::ResetAfter(1000), status(500)];
    let (error, folder) = check_failure(&answers, 10);
    let text = error.to_string();
    for expected in [
        "HTTP 500",
        "cargo xtask download",
        "--from-file",
        "1000 bytes",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(fs::metadata(folder.path().join(PART)).unwrap().len(), 1000);

    // The next run goes on from there, with another mirror.
    let server = server(&[Answer::File]);
    run(folder.path(), &options(&[&server])).0.unwrap();
    assert_eq!(server.requests(), ["1000"]);
    assert_published(folder.path());
}

#[test]
fn a_missing_file_is_not_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (gone, good) = (server(&[status(404)]), server(&[Answer::File]));
    let (outcome, events) = run(folder.path(), &options(&[&gone, &good]));
    outcome.unwrap();
    assert_eq!(gone.requests().len(), 1);
    assert!(events.iter().any(|event| event == "GivingUp"));
    assert_published(folder.path());
    check_failure(&[status(404)], 10);
}

#[test]
fn redirects_are_followed_within_bounds() {
    let good = server(&[Answer::File]);
    let there = Answer::Status(302, format!("Location: {}\r\n", good.url()), "");
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &options(&[&server(&[there])]))
        .0
        .unwrap();
    assert_published(folder.path());

    let circle = Answer::Status(302, "Location: /again\r\n".into(), "");
    let (error, _folder) = check_failure(&[circle], 10);
    assert!(
        error.to_string().contains("more than 5 redirects"),
        "{error}"
    );
}

#[test]
fn an_html_page_with_status_200_is_told_and_nothing_is_kept() {
    let page = Answer::Body(b"\n<!DOCTYPE html><title>Sign in</title>".to_vec());
    let (error, folder) = check_failure(std::slice::from_ref(&page), 12);
    assert!(error.to_string().contains("found an HTML page"), "{error}");
    assert!(listing(folder.path()).is_empty());

    let good = server(&[Answer::File]);
    run(folder.path(), &options(&[&server(&[page]), &good]))
        .0
        .unwrap();
    assert_published(folder.path());
}

#[test]
fn a_wrong_member_is_a_checksum_error_and_the_next_mirror_is_tried() {
    let mut bytes = tar();
    let last = bytes.len() - 2000;
    bytes[last] ^= 1;
    let wrong = Answer::Body(gzip(&bytes));
    let (error, folder) = check_failure(std::slice::from_ref(&wrong), 11);
    assert!(
        error.to_string().contains("test_batch.bin has sha256"),
        "{error}"
    );
    assert!(listing(folder.path()).is_empty());

    let good = server(&[Answer::File]);
    run(folder.path(), &options(&[&server(&[wrong]), &good]))
        .0
        .unwrap();
    assert_published(folder.path());
}

#[test]
fn a_container_of_other_compression_is_accepted_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let container = gzip_at(&tar(), Compression::none());
    let server = Server::start(container, vec![Answer::ResetAfter(5000), Answer::File]);
    run(folder.path(), &options(&[&server])).0.unwrap();
    assert_eq!(server.requests(), ["-", "5000"]);
    assert_published(folder.path());
}

#[test]
fn a_partial_file_of_something_else_costs_one_more_request() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(PART), vec![0x1f; 3000]).unwrap();
    let good = server(&[Answer::File]);
    run(folder.path(), &options(&[&good])).0.unwrap();
    assert_eq!(good.requests(), ["3000", "-"]);
    assert_published(folder.path());

    // Longer than the whole: not even asked about.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(PART), vec![0x1f; 10_000_000]).unwrap();
    let good = server(&[Answer::File]);
    run(folder.path(), &options(&[&good])).0.unwrap();
    assert_eq!(good.requests(), ["-"]);
}

#[test]
fn a_range_past_the_end_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let whole = gzip(&tar());
    fs::write(folder.path().join(PART), &whole[..whole.len() - 1]).unwrap();
    // This mirror's container is shorter than what is here.
    let shorter = gzip_at(&tar(), Compression::best());
    assert!(
        shorter.len() < whole.len() - 1,
        "{} {}",
        shorter.len(),
        whole.len()
    );
    let server = Server::start(shorter, vec![Answer::File]);
    run(folder.path(), &options(&[&server])).0.unwrap();
    assert_eq!(server.requests().last().unwrap(), "-");
    assert_published(folder.path());
}

#[test]
fn a_complete_partial_file_needs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(PART), gzip(&tar())).unwrap();
    let unused = server(&[status(500)]);
    run(folder.path(), &options(&[&unused])).0.unwrap();
    assert!(unused.requests().is_empty());
    assert_published(folder.path());
}

#[test]
fn endless_bytes_end_at_the_cap() {
    let (error, folder) = check_failure(&[Answer::Endless], 10);
    assert!(error.to_string().contains("sends more than"), "{error}");
    let length = fs::metadata(folder.path().join(PART)).map_or(0, |metadata| metadata.len());
    assert!(length <= archive().max_bytes());
}

#[test]
fn a_slow_mirror_is_named_and_left_for_the_next() {
    let slow_options = |servers: &[&Server]| DownloadOptions {
        slow_window: Duration::from_millis(700),
        slow_bytes_per_second: 50_000.0,
        stall_timeout: Duration::from_secs(5),
        ..options(servers)
    };
    let slow = || server(&[Answer::Trickle(2000, Duration::from_millis(100))]);
    let folder = tempfile::tempdir().unwrap();
    let (first, good) = (slow(), server(&[Answer::File]));
    let (outcome, events) = run(folder.path(), &slow_options(&[&first, &good]));
    outcome.unwrap();
    assert!(events.iter().any(|event| event == "Slow"));
    assert_ne!(good.requests(), ["-"], "what the slow mirror sent is kept");
    assert_published(folder.path());

    // When the others fail, the slow one is gone back to.
    let folder = tempfile::tempdir().unwrap();
    let answers = [
        Answer::Trickle(2000, Duration::from_millis(100)),
        Answer::File,
    ];
    let (first, gone) = (server(&answers), server(&[status(404)]));
    run(folder.path(), &slow_options(&[&first, &gone]))
        .0
        .unwrap();
    assert_eq!(first.requests().len(), 2);
    assert_published(folder.path());
}

#[test]
fn simultaneous_downloads_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Answer::Trickle(40_000, Duration::from_millis(40))]);
    let options = options(&[&server]);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| run(folder.path(), &options).0.unwrap());
        }
    });
    assert_eq!(server.requests().len(), 1);
    assert_published(folder.path());
}

#[test]
fn an_unusable_address_is_a_usage_error_before_any_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let options = DownloadOptions {
        mirrors: vec!["ftp://host/x".into()],
        ..Default::default()
    };
    let error = run(folder.path(), &options).0.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(listing(folder.path()).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_apart_from_the_network() {
    let folder = tempfile::tempdir().unwrap();
    // Writing into a folder that is a file fails like any other write.
    let blocked = folder.path().join("file");
    fs::write(&blocked, b"x").unwrap();
    let error = run(&blocked.join("data"), &options(&[&server(&[Answer::File])]))
        .0
        .unwrap_err();
    assert_eq!(error.exit_code(), 21, "{error}");
}

#[test]
fn progress_counts_up_to_the_total() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Answer::Trickle(30_000, Duration::from_millis(110))]);
    let mut last = 0;
    let mut totals = Vec::new();
    download(
        &archive_without_hashes(),
        folder.path(),
        &options(&[&server]),
        &mut |event| {
            if let Event::Transfer { bytes, total, .. } = event {
                assert!(*bytes >= last);
                last = *bytes;
                totals.push(*total);
            }
        },
    )
    .unwrap();
    let length = gzip(&tar()).len() as u64;
    assert_eq!(last, length);
    assert!(totals.iter().all(|total| *total == Some(length)));
}

#[test]
fn a_wrong_archive_leaves_no_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.tar.gz");
    fs::write(
        &file,
        gzip(&Tar::default().file("readme", b"hello").finish()),
    )
    .unwrap();
    let error = import_file(&archive(), folder.path(), &file, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::MissingMember { .. }), "{error}");
    assert_eq!(listing(folder.path()), ["other.tar.gz"]);
}
