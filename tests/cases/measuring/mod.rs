//! Commands that time, compare and check.

mod bench_depths;
mod bench_step;
mod gpu_check;
