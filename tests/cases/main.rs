//! End-to-end tests: one program of tests, one module a subject.

#![forbid(unsafe_code)]

mod bench_depths;
mod bench_step;
mod configuration;
mod demo;
mod doctor;
mod evaluation;
mod faults_downloads;
mod faults_training;
mod gpu_check;
mod likelihoods;
mod memory;
mod outside;
mod refusals;
mod report;
mod reproducibility;
mod verify;
