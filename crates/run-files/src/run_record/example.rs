//! A made-up finished run, for tests here and in the crates above: results of two epochs, and its folder.

use std::path::Path;

use super::{LatentStatistics, PerNetwork, PerSplit, RunSummary};
use crate::metrics::{EpochRow, MetricsWriter, Terms, TimingWriter};
use crate::run_folder::{RunFolder, SUMMARY, pretty};
use crate::settings::Settings;

fn terms(loss: f64) -> Terms {
    Terms {
        loss,
        cross_entropy: loss - 40.0,
        excess: loss - 1720.0,
        kl: 33.1,
        l2: 1e-7,
    }
}

/// Its rows of metrics.
pub fn row(epoch: u32) -> EpochRow {
    EpochRow {
        epoch,
        train: terms(1900.25 - f64::from(epoch)),
        valid: terms(1910.1 - f64::from(epoch)),
        learning_rate: 0.001,
        last_learning_rate: 0.001,
        skipped_steps: 0,
        optional: Default::default(),
    }
}

/// Made-up results of two epochs.
pub fn summary() -> RunSummary {
    RunSummary {
        best: row(1),
        last: row(2),
        test: terms(1899.9),
        test_bits_per_dim: None,
        stopped_early: false,
        latent: LatentStatistics {
            kl_per_dimension: vec![0.1 + 0.2, 1e-9, 4.5],
            mean_variance: vec![0.5, 1e-12, 0.9],
        },
        parameters: PerNetwork {
            encoder: 10,
            decoder: 20,
            total: 30,
        },
        multiply_accumulates_per_image: PerNetwork {
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
///
/// # Panics
/// Where it cannot be written.
pub fn write_run(path: &Path, settings: &Settings, summary: &RunSummary) {
    let folder = RunFolder::create(path).expect("new");
    let settings = Settings {
        epochs: 2,
        ..settings.clone()
    };
    folder
        .record(&settings, "0123456789abcdef", "embedded sample", &[])
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
