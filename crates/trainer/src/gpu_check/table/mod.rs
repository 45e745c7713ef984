//! `results.md`: the results as tables.

mod steps;

pub(super) use steps::ratios;

use super::results::{Outcome, Results};
use super::row::{ParityRow, Row};
use steps::steps;

/// All results in Markdown.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = head(results);
    text += &parts(results);
    text += &parity(results);
    text += &determinism(results);
    text += &starts(results);
    text += &products(results);
    text += &steps(results);
    text
}

fn head(results: &Results) -> String {
    let device = results.rows().find_map(|row| match row {
        Row::Device(device) => Some(device),
        _ => None,
    });
    let name = device.map(|device| format!(" ({})", device.name));
    let name = name.unwrap_or_default();
    let products = device.and_then(|device| device.matrix_products.as_deref());
    let products = products.map(|products| format!("\nMatrix products: {products}.\n"));
    let commit = results.commit.as_deref().unwrap_or("unknown");
    let mut text = format!(
        "# Check of {}{name}\n\n{}; program {}, commit {commit}; Burn {}; budget {} s.\n",
        results.device,
        results.date,
        results.program_version,
        results.burn_version,
        results.budget_seconds
    );
    text += &products.unwrap_or_default();
    if results.is_tiny {
        text +=
            "\nMade at a tiny size: this shows that the parts work, not what the device can do.\n";
    }
    let missing = results.named(Outcome::NotReached);
    if !missing.is_empty() {
        text += &format!("\n**Not reached:** {}.\n", missing.join(", "));
    }
    text
}

/// A table, or nothing where it has no rows.
fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("\n## {title}\n\n");
    let line = |cells: Vec<String>| {
        // A bar or a new line would end the cell.
        let cells: Vec<String> = cells
            .iter()
            .map(|cell| cell.replace('|', "\\|").replace(['\n', '\r'], " "))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    text += &line(columns.iter().map(ToString::to_string).collect());
    text += &line(vec!["---".to_owned(); columns.len()]);
    for row in rows {
        text += &line(row);
    }
    text
}

fn parts(results: &Results) -> String {
    let made = results
        .parts
        .iter()
        .filter(|part| part.outcome != Outcome::NotReached);
    let rows = made.map(|part| {
        let outcome = match part.outcome {
            Outcome::Failed => "**failed**",
            _ => "passed",
        };
        vec![
            part.part.clone(),
            outcome.to_owned(),
            format!("{:.1}", part.seconds),
            part.reason.clone().unwrap_or_default(),
        ]
    });
    let columns = ["part", "outcome", "seconds", "why"];
    table("Parts", &columns, rows.collect())
}

fn parity(results: &Results) -> String {
    let mut rows = Vec::new();
    for part in &results.parts {
        let precision = part.part.strip_prefix("parity-").unwrap_or_default();
        for row in &part.rows {
            if let Row::Parity(row) = row {
                rows.push(parity_line(precision, row));
            }
        }
    }
    let columns = [
        "against the golden file",
        "precision",
        "tensors",
        "nearest to its limit",
        "error",
        "allowed",
    ];
    table("Parity", &columns, rows)
}

fn parity_line(precision: &str, row: &ParityRow) -> Vec<String> {
    let worst = row.worst.as_ref();
    let error = worst.map(|worst| {
        let error = worst.error.map(|error| format!("{error:.1e}"));
        error.unwrap_or_else(|| "not finite".to_owned())
    });
    vec![
        row.case.clone(),
        precision.to_owned(),
        row.comparisons.to_string(),
        worst.map_or_else(
            || row.reason.clone().unwrap_or_default(),
            |worst| worst.tensor.clone(),
        ),
        error.unwrap_or_default(),
        worst.map_or_else(String::new, |worst| format!("{:.1e}", worst.allowed)),
    ]
}

fn determinism(results: &Results) -> String {
    let rows = results.rows().filter_map(|row| match row {
        Row::Determinism(row) => Some(vec![
            row.precision.to_string(),
            row.compared.name().to_owned(),
            format!("{} of {}", row.equal_losses, row.steps),
            format!("{} of {}", row.equal_weights, row.weights),
            if row.is_demanded { "yes" } else { "no" }.to_owned(),
        ]),
        _ => None,
    });
    let columns = [
        "precision",
        "the second one",
        "losses equal to the bit",
        "weights equal to the bit",
        "demanded",
    ];
    table("Two trainings with one seed", &columns, rows.collect())
}

fn starts(results: &Results) -> String {
    let rows = results.rows().filter_map(|row| match row {
        Row::Start(row) => Some(vec![
            if row.is_cold { "compiled now" } else { "kept" }.to_owned(),
            format!("{:.1}", row.seconds),
        ]),
        _ => None,
    });
    let columns = ["kernels", "seconds"];
    let title = "From the start of a process to the end of its first step";
    table(title, &columns, rows.collect())
}

fn products(results: &Results) -> String {
    let rows = results.rows().filter_map(|row| match row {
        Row::Product(row) => Some(vec![
            row.precision.to_string(),
            row.size.to_string(),
            format!("{:.4}", 1e3 * row.seconds),
            tera(row.operations_per_second),
        ]),
        _ => None,
    });
    let columns = ["precision", "rows and columns", "ms", "TFLOP/s"];
    table("Products of two square matrices", &columns, rows.collect())
}

fn tera(operations_per_second: f64) -> String {
    format!("{:.3}", operations_per_second / 1e12)
}

#[cfg(test)]
mod tests {
    use super::super::results::PartResult;
    use super::super::row::{ProductRow, PytorchRow, StepRow};
    use super::steps::share_of_products;
    use super::*;
    use run_files::settings::Precision;

    fn step() -> StepRow {
        StepRow {
            depth: 28,
            batch: 25,
            precision: Precision::F32,
            is_plain: false,
            is_launched: false,
            capture_failure: None,
            unplanned_products: None,
            seconds_per_step: 0.02,
            fastest: 0.02,
            slowest: 0.02,
            steps: 1,
            warmup: 0,
            first_step_seconds: 3.0,
            images_per_second: 1250.0,
            peak_bytes: Some(3 << 20),
            predicted_bytes: Some(4 << 20),
            operations: 500_000_000_000,
            operations_per_second: 25e12,
        }
    }

    fn pytorch(form: &str, seconds: Option<f64>) -> Row {
        Row::Pytorch(PytorchRow {
            depth: 28,
            batch: 25,
            precision: Precision::F32,
            form: form.to_owned(),
            version: None,
            seconds_per_step: seconds,
            peak_bytes: None,
            reason: seconds.is_none().then(|| "a | bar\nand a line".to_owned()),
        })
    }

    fn product(precision: Precision, rate: f64) -> Row {
        Row::Product(ProductRow {
            precision,
            size: 8192,
            seconds: 0.1,
            operations_per_second: rate,
            unplanned_products: None,
        })
    }

    fn results(rows: Vec<Row>) -> Results {
        let mut part = PartResult::not_reached("step-28-25-f32".to_owned());
        part.outcome = Outcome::Failed;
        part.reason = Some("a | bar\nand a line".to_owned());
        part.rows = rows;
        Results {
            device: "cuda:0".to_owned(),
            program_version: "0.1.0".to_owned(),
            commit: None,
            burn_version: "0.22.1".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
            budget_seconds: 290.0,
            is_tiny: false,
            parts: vec![part, PartResult::not_reached("products-f32".to_owned())],
        }
    }

    #[test]
    fn a_step_is_compared_with_products_of_its_precision_and_pytorchs_fastest_form() {
        let results = results(vec![
            Row::Step(step()),
            product(Precision::Bf16, 1000e12),
            product(Precision::F32, 100e12),
            pytorch("channels-last", Some(0.04)),
            pytorch("compiled", Some(0.01)),
            pytorch("contiguous", None),
        ]);
        assert_eq!(share_of_products(&results, &step()), Some(0.25));
        let text = markdown(&results);
        let line = "| 28 | 25 | f32 | ours | 20.00 | 1250 | 3.0 | 3 | 4 | 25.000 | 25.0 % | 10.00 (compiled) |  | 2.00 |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("**Not reached:** products-f32."), "{text}");
        let line =
            "step-28-25-f32           20.00 ms, PyTorch 10.00 ms (compiled): 2.00 times PyTorch's";
        assert_eq!(ratios(&results), [line]);
    }

    #[test]
    fn what_was_not_measured_is_empty_and_messages_stay_in_their_cells() {
        let text = markdown(&results(vec![Row::Step(step()), pytorch("compiled", None)]));
        assert!(text.contains("25.000 |  |  |  |  |"), "{text}");
        assert!(text.contains(r"a \| bar and a line |"), "{text}");
        assert!(!text.contains("## Parity"), "{text}");
    }
}
