//! The files of a sweep: `table.md`, `table.csv`, `results.json` and `report.html`, each whole at any moment.

use std::path::Path;

use super::columns::columns;
use super::error::SweepError;
use super::plan::{Protocol, SweepPreset};
use super::results::SweepResults;
use super::tables::{comparison_table, main_table, published_table};
use run_files::atomic_file::write_atomically;
use run_files::run_folder::{file_error, pretty};
use run_report::report::{ReportGroup, ReportTable, SweepReport, write_sweep_report};

/// Tables for people and for pages of documentation.
pub const TABLE_MD: &str = "table.md";
/// The main table for programs, one row a group.
pub const TABLE_CSV: &str = "table.csv";
/// Everything, for programs.
pub const RESULTS_JSON: &str = "results.json";
/// Everything, for people: one page that opens without network.
pub const REPORT_HTML: &str = "report.html";

/// Writes all files anew.
///
/// # Errors
/// Where one cannot be written.
pub(super) fn write_files(results: &SweepResults) -> Result<(), SweepError> {
    let folder = &results.options.out;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        write_atomically(&path, bytes).map_err(file_error(&path))
    };
    write(RESULTS_JSON, &pretty(&results.to_json()))?;
    write(TABLE_CSV, csv(results).as_bytes())?;
    write(TABLE_MD, markdown(results).as_bytes())?;
    write_report(results, &folder.join(REPORT_HTML))
}

fn write_report(results: &SweepResults, path: &Path) -> Result<(), SweepError> {
    let groups = results.plan.groups.iter().enumerate();
    let report = SweepReport {
        title: title(results),
        intro: intro(results),
        table: main_table(results),
        comparisons: comparison_table(results),
        published: published_table(results),
        failed: failed(results),
        groups: groups
            .map(|(position, group)| ReportGroup {
                label: group.label(),
                depth: group.depth,
                shortcuts: group.shortcuts,
                runs: results.records_of(position),
            })
            .collect(),
        command: results.command.clone(),
    };
    Ok(write_sweep_report(path, &report)?)
}

fn title(results: &SweepResults) -> String {
    let depths: Vec<String> = results.options.depths.iter().map(u32::to_string).collect();
    format!("ResNet VAE at depth {}", depths.join(", "))
}

/// What the sweep is and what it can show, a paragraph each.
fn intro(results: &SweepResults) -> Vec<String> {
    let settings = &results.plan.runs[0].settings;
    let images = &results.data.images;
    let mut intro = vec![
        match results.options.protocol {
            Protocol::HeldOut => {
                "Protocol held-out: learning rate and stopping see training images that were held out, the test set is scored \
                 once, at the end, and the latent is drawn with the standard deviation that the KL term means."
            }
            Protocol::Blog => {
                "Protocol blog, the post's own: learning rate and stopping see the test set, so its scores are too good by an \
                 unknown amount; and the latent is drawn with the square of the standard deviation that the KL term means."
            }
        }
        .to_owned(),
        format!(
            "Data: {} ({} images to train on, {} to validate on, {} to test on). {}Latent {} dimensions, batch {}, \
             epochs at most {}, seeds 1 to {}, device {}.",
            results.data.name,
            images.train,
            images.valid,
            images.test,
            match results.options.matching.quantity() {
                None => format!("Width {}. ", settings.width),
                Some(quantity) => format!(
                    "Width {} in the first row, the others matched to its {quantity}. ",
                    settings.width
                ),
            },
            settings.latent_dim,
            settings.batch_size,
            settings.epochs,
            results.options.seeds,
            settings.device,
        ),
    ];
    if results.options.preset == Some(SweepPreset::Demo) {
        intro.push(
            "This is the demo: it shows that the command works, not what depth buys. Models of a few channels, trained for a \
             handful of epochs on a few images, are far from the end of training; a deeper one may only be slower to start. \
             Nothing here can be carried over to the post's models or to all of CIFAR-10."
                .to_owned(),
        );
    }
    let (finished, all) = (results.finished(), results.plan.runs.len());
    if finished < all {
        intro.push(format!(
            "{finished} of {all} runs are finished so far; the same command goes on."
        ));
    }
    intro
}

/// A line for each failed run.
fn failed(results: &SweepResults) -> Vec<String> {
    let failures = results.failures();
    failures
        .map(|(position, _, failure)| {
            let run = &results.plan.runs[position];
            format!(
                "{}, seed {}: {} ({})",
                results.plan.groups[run.group].label(),
                run.seed,
                failure.message,
                failure.status
            )
        })
        .collect()
}

/// `table.md`.
fn markdown(results: &SweepResults) -> String {
    let mut text = format!("# {}\n", title(results));
    for paragraph in intro(results) {
        text += &format!("\n{paragraph}\n");
    }
    text += &format!("\n{}", markdown_table(&main_table(results)));
    if let Some(published) = published_table(results) {
        text += &format!("\n## Beside the post\n\n{}", markdown_table(&published));
    }
    let comparisons = comparison_table(results);
    if !comparisons.rows.is_empty() {
        text += &format!("\n## Differences\n\n{}", markdown_table(&comparisons));
    }
    let failed = failed(results);
    if !failed.is_empty() {
        text += "\n## Failed runs\n\n";
        for line in failed {
            text += &format!("- {line}\n");
        }
    }
    text + &format!("\n## Command\n\n```console\n$ {}\n```\n", results.command)
}

fn markdown_table(table: &ReportTable) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
    let mut text = line(&table.columns);
    // Numbers line up at their last digit; the first column of every table names the row.
    let alignments = (0..table.columns.len()).map(|column| if column == 0 { "---" } else { "--:" });
    text += &line(&alignments.map(str::to_owned).collect::<Vec<_>>());
    for row in &table.rows {
        text += &line(row);
    }
    for note in &table.notes {
        text += &format!("\n{note}\n");
    }
    text
}

/// `table.csv`: every number in full, mean and sample standard deviation in columns of their own.
fn csv(results: &SweepResults) -> String {
    let mut header = vec![
        "depth".to_owned(),
        "shortcuts".to_owned(),
        "seeds".to_owned(),
        "planned_seeds".to_owned(),
        "width".to_owned(),
        "mismatch".to_owned(),
        "parameters".to_owned(),
        "multiply_accumulates_per_image".to_owned(),
    ];
    for column in columns(results.plan.score()) {
        header.extend([format!("{}_mean", column.key), format!("{}_sd", column.key)]);
    }
    let mut text = header.join(",") + "\n";
    for (position, group) in results.plan.groups.iter().enumerate() {
        let records = results.records_of(position);
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:?}"));
        let mut row = vec![
            group.depth.to_string(),
            group.shortcuts.to_string(),
            records.len().to_string(),
            results.options.seeds.to_string(),
            group.width.to_string(),
            number(group.mismatch),
            group.parameters.to_string(),
            group.multiply_accumulates.to_string(),
        ];
        for column in columns(results.plan.score()) {
            let estimate = column.estimate(&records);
            row.push(number(estimate.map(|estimate| estimate.mean)));
            row.push(number(
                estimate.and_then(|estimate| estimate.standard_deviation),
            ));
        }
        text += &(row.join(",") + "\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::plan::SweepOptions;
    use super::super::results::tests::{options, results};
    use super::*;

    #[test]
    fn csv_rows_have_every_column_and_full_numbers() {
        let text = csv(&results(options()));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 3);
        let cell = |row: usize, name: &str| {
            let column = lines[0].iter().position(|column| *column == name);
            lines[row][column.unwrap_or_else(|| panic!("no column {name}"))]
        };
        assert_eq!(cell(1, "test_excess_mean"), "81.0");
        assert_eq!(cell(1, "test_excess_sd"), format!("{:?}", 2f64.sqrt()));
        assert_eq!((cell(2, "seeds"), cell(2, "test_excess_sd")), ("1", ""));
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    }

    #[test]
    fn the_page_says_what_is_missing_and_what_failed() {
        let text = markdown(&results(options()));
        for expected in [
            "3 of 4 runs are finished",
            "## Failed runs",
            "depth 40, residual, seed 2: step 7 of epoch 2 gave a KL divergence of NaN (exit status: 30)",
            "| 28 | yes | 2 | 26,815,683 |",
            "$ cargo xtask bench-depths --depths 28,40",
            "once, at the end",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
        assert!(!text.contains("Beside the post"));
    }

    #[test]
    fn the_demo_says_what_it_cannot_show() {
        let demo = SweepOptions {
            preset: Some(SweepPreset::Demo),
            ..options()
        };
        assert!(markdown(&results(demo)).contains("not what depth buys"));
    }

    #[test]
    fn the_files_are_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut results = results(options());
        results.options.out = folder.path().to_owned();
        // The pictures of the made-up runs are missing; the page must do without.
        write_files(&results).expect("written");
        for name in [TABLE_MD, TABLE_CSV, RESULTS_JSON, REPORT_HTML] {
            let text = std::fs::read_to_string(folder.path().join(name)).expect("readable");
            assert!(text.contains("28"), "{name}");
        }
    }
}
