//! The commands that measure how long training takes.

pub(super) mod bench_depths;
pub(super) mod bench_step;
mod pytorch_comparison;
