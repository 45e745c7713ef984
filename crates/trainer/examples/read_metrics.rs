//! Prints the loss curve of a run: `cargo run -p trainer --example read_metrics -- RUN_FOLDER/metrics.jsonl`.
//!
//! Without an argument it trains the smallest model for two epochs first.

use std::path::PathBuf;

use trainer::TrainOptions;
use trainer::device::open_device;
use trainer::metrics::read_rows;
use trainer::progress::{Progress, ProgressMode};
use trainer::settings::{Preset, Settings};
use trainer::stop_request::StopRequest;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => train()?,
    };
    for row in read_rows(&path)? {
        println!(
            "epoch {:4}  training {:9.2}  validation {:9.2}",
            row.epoch, row.train.loss, row.valid.loss
        );
    }
    Ok(())
}

fn train() -> Result<PathBuf, trainer::TrainerError> {
    let settings = Settings {
        preset: Some(Preset::Demo),
        depth: 28,
        width: 0.02,
        intermediate_dim: 16,
        latent_dim: 4,
        epochs: 2,
        limit_train: Some(200),
        limit_test: Some(50),
        ..Settings::default()
    };
    let run_dir = std::env::temp_dir().join(format!("read-metrics-{}", std::process::id()));
    let device = open_device(settings.device.main())?;
    // Nobody asks this run to stop; a program of yours may.
    let stop = StopRequest::new();
    trainer::train(
        &settings,
        TrainOptions::new(&run_dir, &stop),
        &device,
        &mut Progress::new(ProgressMode::Plain),
    )?;
    Ok(run_dir.join("metrics.jsonl"))
}
