//! Training steps beside products and PyTorch.

use std::fmt::Write;

use super::super::results::Results;
use super::super::row::{PytorchRow, Row, StepRow};
use super::{table, tera};
use run_files::settings::Precision;
use run_files::wording::mebibytes;

/// A step's operations a second as a share of those of products in the same precision, where both were measured.
pub(super) fn share_of_products(results: &Results, step: &StepRow) -> Option<f64> {
    let rate = |precision: Precision| {
        results.rows().find_map(|row| match row {
            Row::Product(row) if row.precision == precision => Some(row.operations_per_second),
            _ => None,
        })
    };
    Some(step.operations_per_second / rate(step.precision)?)
}

/// PyTorch's fastest form of that step.
fn in_pytorch<'a>(results: &'a Results, step: &StepRow) -> Option<(f64, &'a PytorchRow)> {
    let of_step = |row: &'a Row| match row {
        Row::Pytorch(row) => {
            let same =
                (row.depth, row.batch, row.precision) == (step.depth, step.batch, step.precision);
            row.seconds_per_step
                .filter(|_| same)
                .map(|seconds| (seconds, row))
        }
        _ => None,
    };
    let rows = results.rows().filter_map(of_step);
    rows.min_by(|a, b| a.0.total_cmp(&b.0))
}

/// Each of our steps, as training makes it, beside PyTorch's fastest form, where both were timed: a line each.
pub(in crate::gpu_check) fn ratios(results: &Results) -> Vec<String> {
    let lines = results.rows().filter_map(|row| {
        let Row::Step(step) = row else { return None };
        if step.is_plain || step.is_launched {
            return None;
        }
        let (seconds, pytorch) = in_pytorch(results, step)?;
        let name = format!("step-{}-{}-{}", step.depth, step.batch, step.precision);
        Some(format!(
            "{name:<24} {:.2} ms, PyTorch {:.2} ms ({}): {:.2} times PyTorch's",
            1e3 * step.seconds_per_step,
            1e3 * seconds,
            pytorch.form,
            step.seconds_per_step / seconds
        ))
    });
    lines.collect()
}

pub(super) fn steps(results: &Results) -> String {
    let rows = results.rows().filter_map(|row| match row {
        Row::Step(step) => Some(step_line(results, step)),
        _ => None,
    });
    let columns = [
        "depth",
        "batch",
        "precision",
        "blocks",
        "ms a step",
        "images/s",
        "first step, s",
        "peak, MiB",
        "predicted, MiB",
        "TFLOP/s",
        "of products",
        "PyTorch, ms",
        "PyTorch, MiB",
        "times PyTorch",
    ];
    let mut text = table("Training steps", &columns, rows.collect());
    if !text.is_empty() {
        let _ = writeln!(
            text,
            "\nTFLOP/s counts six operations a multiply-accumulate of convolutions and dense layers as the model writes them, whether a form \
             of the blocks makes them or not (`Burn's` layers make them all); `of products` is its \
             share of the rate above. The peak on a GPU is what the memory pool holds at the end, tuning's pages among them. \
             PyTorch's is its fastest form; `times PyTorch` is our time over its."
        );
    }
    text
}

fn step_line(results: &Results, step: &StepRow) -> Vec<String> {
    let pytorch = in_pytorch(results, step);
    let share = share_of_products(results, step);
    vec![
        step.depth.to_string(),
        step.batch.to_string(),
        step.precision.to_string(),
        match (step.is_plain, step.is_launched) {
            (true, _) => "Burn's",
            (_, true) => "ours, launched",
            _ => "ours",
        }
        .to_owned(),
        format!("{:.2}", 1e3 * step.seconds_per_step),
        format!("{:.0}", step.images_per_second),
        format!("{:.1}", step.first_step_seconds),
        whole_mebibytes(step.peak_bytes),
        whole_mebibytes(step.predicted_bytes),
        tera(step.operations_per_second),
        share.map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share)),
        pytorch.map_or_else(String::new, |(seconds, row)| {
            format!("{:.2} ({})", 1e3 * seconds, row.form)
        }),
        whole_mebibytes(pytorch.and_then(|(_, row)| row.peak_bytes)),
        pytorch.map_or_else(String::new, |(seconds, _)| {
            format!("{:.2}", step.seconds_per_step / seconds)
        }),
    ]
}

fn whole_mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| format!("{:.0}", mebibytes(bytes)))
}
