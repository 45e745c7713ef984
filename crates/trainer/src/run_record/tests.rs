//! Reading folders back, whole and broken.

use std::fs;

use super::*;
use crate::metrics::{MetricsWriter, Terms, TimingWriter};
use crate::run_folder::{RunFolder, pretty};

fn terms(loss: f64) -> Terms {
    Terms {
        loss,
        cross_entropy: loss - 40.0,
        excess: loss - 1720.0,
        kl: 33.1,
        l2: 1e-7,
    }
}

fn row(epoch: u32) -> EpochRow {
    EpochRow {
        epoch,
        train: terms(1900.25 - f64::from(epoch)),
        valid: terms(1910.1 - f64::from(epoch)),
        learning_rate: 0.001,
        skipped_steps: 0,
    }
}

/// Made-up results of two epochs.
pub(crate) fn summary() -> RunSummary {
    RunSummary {
        best: row(1),
        last: row(2),
        test: terms(1899.9),
        stopped_early: false,
        latent: LatentStatistics {
            kl_per_dimension: vec![0.1 + 0.2, 1e-9, 4.5],
            mean_variance: vec![0.5, 1e-12, 0.9],
        },
        parameters: PerPart {
            encoder: 10,
            decoder: 20,
            total: 30,
        },
        multiply_accumulates_per_image: PerPart {
            encoder: 100,
            decoder: 200,
            total: 300,
        },
        images: PerSplit {
            train: 150,
            valid: 20,
            test: 20,
        },
        floor: PerSplit {
            train: 1678.9,
            valid: 1680.1,
            test: 1681.7,
        },
    }
}

/// Writes the folder of a finished run of two epochs with these settings, epochs apart, and results.
pub(crate) fn write_run(path: &Path, settings: &Settings, summary: &RunSummary) {
    let folder = RunFolder::create(path).expect("new");
    let settings = Settings {
        epochs: 2,
        ..settings.clone()
    };
    folder
        .record(&settings, "0123456789abcdef", "embedded sample")
        .expect("recorded");
    let mut metrics = MetricsWriter::open(path, None).expect("opened");
    let mut timing = TimingWriter::open(path).expect("opened");
    for epoch in 1..=2 {
        metrics.append(&row(epoch)).expect("written");
        timing
            .append(&serde_json::json!({
                "epoch": epoch,
                "train_seconds": 3.0,
                "valid_seconds": 1.0,
                "peak_memory_bytes": 1 << 20,
            }))
            .expect("written");
    }
    folder
        .write(SUMMARY, &pretty(&summary.to_json()))
        .expect("written");
}

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
    assert_eq!(record.timing.images_per_second, 50.0);
    assert_eq!(record.timing.train_seconds, 6.0);
    assert_eq!(record.timing.peak_memory_bytes, Some(1 << 20));
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
        error.to_string().contains("summary.json") && error.to_string().contains("`latent`"),
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
