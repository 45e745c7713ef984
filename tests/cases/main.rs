//! End-to-end tests: one program of tests, one module a subject.

mod bench_depths;
mod configuration;
mod demo;
mod evaluation;
mod outside;
mod refusals;
mod reproducibility;
