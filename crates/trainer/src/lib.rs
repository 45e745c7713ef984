#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod adam;
mod auto_batch;
mod batch_parts;
pub mod commands;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod cuda_requirements;
mod data;
pub mod device;
mod error;
pub mod evaluate;
mod export;
pub mod gpu_check;
pub mod gradient_norms;
mod gradient_sum;
pub mod latent_statistics;
mod lifeline;
mod memory;
pub mod model;
mod own_program;
pub mod pictures;
pub mod progress;
pub mod pytorch_timing;
pub mod random;
mod recomputation;
pub mod report;
pub mod run_folder;
pub mod run_record;
pub mod running_statistics;
mod split_images;
mod step_clock;
mod step_memory;
pub mod step_scaling;
pub mod step_timing;
pub mod stop_request;
pub mod sweep;
mod train;
pub mod verify_run;
pub mod weights;

pub use error::TrainerError;
pub use run_files::{
    atomic_file, checkpoint, disk, memory_limit, metrics, schedule, settings, step_guard,
};
pub use run_report::{image_sheet, loss_curves};
pub use train::{TrainOptions, split, train};

use run_files::{divergence, file_operations};
use run_report::chart;

#[cfg(test)]
use run_files::fault_cases;
