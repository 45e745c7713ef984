#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod choice;
pub mod divergence;
#[doc(hidden)]
pub mod fault_cases;
mod files;
pub mod memory_limit;
pub mod metrics;
mod nullable;
pub mod run_folder;
pub mod run_record;
pub mod schedule;
pub mod settings;
pub mod shell;
pub mod step_guard;
pub mod weights;
pub mod wording;

pub use files::{atomic_file, disk, file_operations, output_file};
