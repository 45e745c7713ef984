//! The numbers of a run: `metrics.jsonl` and `metrics.csv`, one row an epoch, and `timing.jsonl`.
//!
//! The two metrics files hold nothing that reads a clock, so two runs with one seed write the same bytes; everything
//! that does read one goes to `timing.jsonl`. Numbers are written in the shortest decimal form that reads back to the
//! same bits. JSON has no NaN and no infinity: `metrics.jsonl` writes `null` for them, which every reader takes, and
//! `metrics.csv` writes `NaN`, `inf` or `-inf`, which tells them apart.

mod batch_loss;
mod epoch_rates;
mod error;
mod optional_metrics;
mod reader;
mod row;
mod term_sums;
mod timing;
mod writer;

pub use batch_loss::BatchLoss;
pub use epoch_rates::EpochRates;
pub use error::MetricsError;
pub use optional_metrics::OptionalMetrics;
pub use reader::read_rows;
pub use row::{EpochRow, Terms};
pub use term_sums::TermSums;
pub use timing::{EpochTiming, TIMING_JSONL, TimingWriter, peak_memory_bytes};
pub use writer::{METRICS_CSV, METRICS_JSONL, MetricsLengths, MetricsWriter};

#[cfg(test)]
mod tests;
