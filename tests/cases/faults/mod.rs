//! Runs and downloads that are killed, damaged, starved of space, or given what nobody expects.

mod downloads;
mod odd_file_systems;
mod output;
mod ranks;
mod run_folders;
mod training;
