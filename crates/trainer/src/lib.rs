#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod commands;
pub mod device;
mod error;
mod experiment;
pub mod gpu_check;
mod process;
pub mod report;
pub mod run_folder;
pub mod run_record;
mod step;
pub mod sweep;
mod timing;
mod train;

pub use error::TrainerError;
pub use experiment::{evaluate, latent_statistics, model, pictures, random, verify_run, weights};
pub use process::{progress, stop_request};
pub use run_files::{
    atomic_file, checkpoint, disk, memory_limit, metrics, schedule, settings, step_guard,
};
pub use run_report::{image_sheet, loss_curves};
pub use step::{adam, gradient_norms, running_statistics};
pub use timing::{pytorch_timing, step_scaling, step_timing};
pub use train::{TrainOptions, split, train};

#[cfg(feature = "cuda")]
use device::cuda;
#[cfg(feature = "cuda")]
use device::cuda_requirements;
use device::{auto_batch, memory, step_memory};
use experiment::{data, export, split_images};
use process::{lifeline, own_program};
use run_files::{divergence, file_operations};
use run_report::chart;
use step::block_checkpointing as recomputation;
use step::{batch_parts, gradient_sum};
use train::step_clock;

#[cfg(test)]
use run_files::fault_cases;
