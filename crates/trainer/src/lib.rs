#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod adam;
pub mod atomic_file;
mod auto_batch;
mod batch_parts;
mod chart;
pub mod checkpoint;
pub mod commands;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod cuda_requirements;
mod data;
pub mod device;
pub mod disk;
mod divergence;
mod error;
pub mod evaluate;
mod export;
#[cfg(test)]
mod fault_cases;
mod file_operations;
pub mod gpu_check;
pub mod gradient_norms;
mod gradient_sum;
pub mod image_sheet;
pub mod latent_statistics;
mod lifeline;
pub mod loss_curves;
mod memory;
pub mod memory_limit;
pub mod metrics;
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
pub mod schedule;
pub mod settings;
mod split_images;
mod step_clock;
pub mod step_guard;
mod step_memory;
pub mod step_scaling;
pub mod step_timing;
pub mod stop_request;
pub mod sweep;
mod train;
pub mod verify_run;
pub mod weights;

pub use error::TrainerError;
pub use train::{TrainOptions, split, train};
