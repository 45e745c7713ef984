//! End-to-end tests: one program of tests, one module a subject.

#![forbid(unsafe_code)]

mod bench_depths;
mod bench_step;
mod configuration;
mod demo;
mod doctor;
mod evaluation;
mod faults_downloads;
mod faults_output;
mod faults_run_folders;
mod faults_training;
mod first_hour;
mod gpu_check;
mod latent_commands;
mod likelihoods;
mod memory;
mod numbers;
mod outside;
mod pictures;
mod refusals;
mod report;
mod reproducibility;
mod verify;
