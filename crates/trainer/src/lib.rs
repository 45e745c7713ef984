#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Models, writers and random streams: what they hold tells nothing in a log.
#![allow(missing_debug_implementations)]

pub mod commands;
pub mod device;
mod experiment;
pub mod gpu_check;
mod process;
pub mod ranks;
mod step;
pub mod sweep;
mod timing;
mod train;

pub use commands::TrainerError;
pub use device::DeviceError;
pub use experiment::data::split;
pub use experiment::{
    ExperimentError, evaluate, fid, importance, latent_pictures, latent_record, latent_statistics,
    model, pictures, prior, prior_samples, random, sample_statistics, verify_run, weights,
};
pub use process::{progress, stop_request};
pub use run_files::{
    atomic_file, checkpoint, disk, memory_limit, metrics, run_folder, run_record, schedule,
    settings, step_guard,
};
pub use run_report::{image_sheet, loss_curves, report};
pub use step::{adam, gradient_norms, running_statistics};
pub use timing::{TimingError, pytorch_timing, step_scaling, step_timing};
pub use train::{TrainError, TrainOptions, train};
