//! Runs that go well: their files, their numbers, and what their settings ask for.

mod configuration;
mod demo;
mod latents;
mod likelihoods;
mod memory;
mod numbers;
mod older;
mod reproducibility;
mod weight_average;
