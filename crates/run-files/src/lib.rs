#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod checkpoint;
pub mod disk;
pub mod divergence;
#[doc(hidden)]
pub mod fault_cases;
pub mod file_operations;
pub mod memory_limit;
pub mod metrics;
mod nullable;
pub mod output_file;
pub mod run_folder;
pub mod run_record;
pub mod schedule;
pub mod settings;
pub mod shell;
pub mod step_guard;
pub mod weights;
pub mod wording;
