//! Reading folders back, whole and broken.

use std::fs;

use super::example::{row, summary, write_run};
use super::*;
use crate::settings::Sampler;

#[test]
fn a_finished_run_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let settings = Settings {
        seed: 7,
        epochs: 2,
        ..Settings::default()
    };
    write_run(&path, &settings, &summary());
    let record = RunRecord::read(&path).unwrap();
    assert_eq!(record.settings, settings);
    assert_eq!(record.summary, summary());
    assert_eq!(record.rows, [row(1), row(2)]);
    assert_eq!(record.environment["data_hash"], "0123456789abcdef");
    // 150 images in 3 seconds, twice.
    let timing = record.timing.expect("timed");
    assert_eq!(timing.images_per_second, 50.0);
    assert_eq!(timing.train_seconds, 6.0);
    assert_eq!(timing.peak_memory_bytes, Some(1 << 20));
}

#[test]
fn a_run_of_the_posts_sampler_has_no_bits_whatever_program_wrote_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = summary();
    results.test_bits_per_dim = Some(4.25);
    let read = |name: &str, sampler: Sampler| {
        let path = folder.path().join(name);
        let settings = Settings {
            likelihood: "logistic".parse().unwrap(),
            sampler,
            ..Settings::default()
        };
        write_run(&path, &settings, &results);
        RunRecord::read(&path).unwrap()
    };
    assert_eq!(read("correct", Sampler::Correct).summary, results);
    let blog = read("blog", Sampler::Blog);
    assert_eq!(blog.summary.test_bits_per_dim, None);
    assert_eq!(blog.summary.test, results.test);
    assert!(
        blog.settings
            .why_no_bound()
            .unwrap()
            .contains("bounds nothing")
    );
    let of_grey_levels = Settings {
        sampler: Sampler::Blog,
        ..Settings::default()
    };
    assert_eq!(of_grey_levels.why_no_bound(), None);
}

#[test]
fn folders_without_a_finished_run_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let error = RunRecord::read(&path).unwrap_err();
    assert!(
        matches!(error, RunRecordError::Folder(RunFolderError::NoRun { .. })),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);

    write_run(&path, &Settings::default(), &summary());
    fs::write(path.join(SUMMARY), "{}").unwrap();
    let error = RunRecord::read(&path).unwrap_err();
    assert!(
        error.to_string().contains("summary.json") && error.to_string().contains("`best`"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 21);

    fs::remove_file(path.join(SUMMARY)).unwrap();
    let error = RunRecord::read(&path).unwrap_err();
    assert!(
        error.to_string().contains("not finished") && error.to_string().contains("--resume"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);

    fs::write(path.join(SUMMARY), summary().to_json().to_string()).unwrap();
    let resumed = Settings {
        epochs: 3,
        ..Settings::default()
    };
    let config = path.join("config.json");
    resumed.write(&config).unwrap();
    let error = RunRecord::read(&path).unwrap_err();
    assert!(error.to_string().contains("not finished"), "{error}");
    let mut stopped = summary();
    stopped.stopped_early = true;
    fs::write(path.join(SUMMARY), stopped.to_json().to_string()).unwrap();
    RunRecord::read(&path).unwrap();

    fs::remove_file(path.join(TIMING_JSONL)).unwrap();
    let error = RunRecord::read(&path).unwrap_err();
    assert!(error.to_string().contains("timing.jsonl"), "{error}");
}
