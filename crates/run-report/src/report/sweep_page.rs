//! The report of a sweep over depths.

use super::configuration::{environment, settings, shared_and_different};
use super::contents::{ReportGroup, SweepReport};
use super::page::Page;
use super::picture::Picture;
use super::run_page::{RECONSTRUCTIONS, SAMPLES};
use super::sweep_charts::{legend, over_depth, over_epochs, shortcuts_legend, spectra};
use run_files::run_folder::{FINAL_RECONSTRUCTIONS, FINAL_SAMPLES};

/// The whole document.
pub(super) fn render(report: &SweepReport<'_>) -> String {
    let mut page = Page::new(&report.title, "sweep");
    for text in &report.intro {
        page.paragraph(text);
    }
    let has_runs = report.groups.iter().any(|group| !group.runs.is_empty());
    let mut sections = vec![("results", "Results"), ("comparisons", "Comparisons")];
    if report.published.is_some() {
        sections.push(("published", "Published"));
    }
    if has_runs {
        sections.extend([
            ("curves", "Loss curves"),
            ("depth", "Against depth"),
            ("samples", "Samples"),
            ("reconstructions", "Reconstructions"),
            ("latent", "Latent"),
        ]);
    }
    sections.push(("configuration", "Configuration and environment"));
    page.contents(&sections);
    if !report.failed.is_empty() {
        page.alarm("Failed runs", &report.failed);
    }

    page.heading("results", "Results");
    page.table("Results of each depth", &report.table);
    page.heading("comparisons", "Comparisons");
    page.table("Differences between depths", &report.comparisons);
    if let Some(published) = &report.published {
        page.heading("published", "Published");
        page.table("The published results beside these", published);
    }
    // A group whose every run failed has nothing to draw.
    let groups: Vec<ReportGroup<'_>> = report
        .groups
        .iter()
        .filter(|group| !group.runs.is_empty())
        .cloned()
        .collect();
    if has_runs {
        page.block("whole", |page| curves(page, &groups));
        page.block("whole", |page| against_depth(page, &groups));
        sheets(&mut page, &groups);
        page.block("whole", |page| latent(page, &groups));
    }
    configuration(&mut page, report, &groups);
    page.finish()
}

fn curves(page: &mut Page, groups: &[ReportGroup<'_>]) {
    page.heading("curves", "Loss curves");
    let seeds = if groups.iter().any(|group| group.runs.len() > 1) {
        " Each curve is the mean over the seeds, up to the last epoch that all of them have."
    } else {
        ""
    };
    page.paragraph(&format!(
        "Nats an image. Training is the mean over an epoch, while the weights moved; validation is after it. The two \
         charts of a pair have the same axes.{seeds}"
    ));
    page.legend(&legend(groups));
    page.block("twos", |page| {
        let titles = ["Training loss", "Validation loss"];
        let charts = over_epochs(groups, &[|row| row.train.loss, |row| row.valid.loss]);
        for (title, chart) in titles.iter().zip(&charts) {
            page.chart(title, chart);
        }
        let (titles, charts) = if !have_floors(groups) && !have_bits(groups) {
            (
                [
                    "Training -log p(image given latent)",
                    "Validation -log p(image given latent)",
                ],
                over_epochs(
                    groups,
                    &[|row| row.train.cross_entropy, |row| row.valid.cross_entropy],
                ),
            )
        } else if have_bits(groups) {
            (
                [
                    "Training bits per dimension",
                    "Validation bits per dimension",
                ],
                over_epochs(
                    groups,
                    &[
                        |row| row.optional.train_bits_per_dim.unwrap_or(f64::NAN),
                        |row| row.optional.valid_bits_per_dim.unwrap_or(f64::NAN),
                    ],
                ),
            )
        } else {
            (
                ["Training excess", "Validation excess"],
                over_epochs(groups, &[|row| row.train.excess, |row| row.valid.excess]),
            )
        };
        for (title, chart) in titles.iter().zip(&charts) {
            page.chart(title, chart);
        }
    });
}

/// Whether the runs have bits per dimension; all of a sweep have, or none.
fn have_bits(groups: &[ReportGroup<'_>]) -> bool {
    let mut runs = groups.iter().flat_map(|group| &group.runs);
    runs.any(|run| run.summary.test_bits_per_dim.is_some())
}

/// Whether the runs' cross-entropy has a floor to exceed.
fn have_floors(groups: &[ReportGroup<'_>]) -> bool {
    let mut runs = groups.iter().flat_map(|group| &group.runs);
    runs.all(|run| !run.settings.likelihood.is_over_levels())
}

/// Why there are no bits per dimension, where somebody may look for them.
fn why_no_bound(groups: &[ReportGroup<'_>]) -> Option<&'static str> {
    let mut runs = groups.iter().flat_map(|group| &group.runs);
    runs.find_map(|run| run.settings.why_no_bound())
}

fn against_depth(page: &mut Page, groups: &[ReportGroup<'_>]) {
    page.heading("depth", "Against depth");
    let single = groups.iter().filter(|group| group.runs.len() == 1).count();
    let bars = if single == groups.len() {
        "There is one seed a point, so there are no error bars, and differences cannot be told from chance."
    } else if single > 0 {
        "Means over the seeds; error bars are one sample standard deviation. A point with a single seed has no bar."
    } else {
        "Means over the seeds; error bars are one sample standard deviation."
    };
    let legend = shortcuts_legend(groups);
    let apart = if legend.len() > 1 {
        " At each depth the two kinds are drawn a little apart, so that both can be seen."
    } else {
        ""
    };
    let measure = if let Some(reason) = why_no_bound(groups) {
        reason
    } else if have_bits(groups) {
        "Bits per dimension are the negative ELBO over 3072 ln 2."
    } else {
        "Excess is the cross-entropy above its floor, the pixels' own entropy."
    };
    page.paragraph(&format!("{measure} {bars}{apart}"));
    page.legend(&legend);
    page.block("columns", |page| {
        let nats = "nats per image";
        if have_bits(groups) {
            let bits = "bits per dimension";
            page.chart(
                "Test bits per dimension",
                &over_depth(groups, bits, false, |run| run.summary.test_bits_per_dim),
            );
            page.chart(
                "Training bits per dimension, best epoch",
                &over_depth(groups, bits, false, |run| {
                    run.summary.best.optional.train_bits_per_dim
                }),
            );
        } else if !have_floors(groups) {
            page.chart(
                "Test -log p(image given latent)",
                &over_depth(groups, nats, false, |run| {
                    Some(run.summary.test.cross_entropy)
                }),
            );
            page.chart(
                "Test KL divergence",
                &over_depth(groups, nats, false, |run| Some(run.summary.test.kl)),
            );
        } else {
            page.chart(
                "Test excess",
                &over_depth(groups, nats, false, |run| Some(run.summary.test.excess)),
            );
            page.chart(
                "Training excess, best epoch",
                &over_depth(groups, nats, false, |run| {
                    Some(run.summary.best.train.excess)
                }),
            );
        }
        page.chart(
            "Training time of an epoch",
            &over_depth(groups, "seconds", true, |run| {
                Some(run.timing?.seconds_per_epoch)
            }),
        );
    });
}

fn latent(page: &mut Page, groups: &[ReportGroup<'_>]) {
    page.heading("latent", "Latent");
    page.paragraph(
        "KL divergence of each dimension over the test images, sorted; means over the seeds, rank by rank. What is below \
         a millionth of a nat is drawn there.",
    );
    page.legend(&legend(groups));
    page.block("columns", |page| {
        page.chart("KL spectrum of the latent", &spectra(groups));
    });
}

fn sheets(page: &mut Page, groups: &[ReportGroup<'_>]) {
    let kinds = [
        (
            "samples",
            "Samples",
            "Draws from the prior, decoded; the same noise for every model.",
            FINAL_SAMPLES,
            SAMPLES,
        ),
        (
            "reconstructions",
            "Reconstructions",
            "The first twenty test images, each row above its reconstructions from the posterior's mean.",
            FINAL_RECONSTRUCTIONS,
            RECONSTRUCTIONS,
        ),
    ];
    for (id, title, text, file, description) in kinds {
        page.block("whole", |page| {
            page.heading(id, title);
            page.paragraph(&format!(
                "{text} Weights of the best epoch, first seed of each group."
            ));
            // With shortcuts in the first row and without in the second, so that depths stand side by side.
            for shortcuts in [true, false] {
                sheets_of(page, groups, shortcuts, file, description);
            }
        });
    }
}

fn sheets_of(
    page: &mut Page,
    groups: &[ReportGroup<'_>],
    shortcuts: bool,
    file: &str,
    description: &str,
) {
    let of_this_kind = || groups.iter().filter(|group| group.shortcuts == shortcuts);
    if of_this_kind().count() == 0 {
        return;
    }
    page.block("sheets", |page| {
        for group in of_this_kind() {
            let picture = Picture::read(&group.runs[0].run_dir.join(file));
            let seed = group.runs[0].settings.seed;
            page.picture(
                &format!("{}, seed {seed}", group.label),
                &format!("{}: {description}", group.label),
                picture.as_ref(),
            );
        }
    });
}

fn configuration(page: &mut Page, report: &SweepReport<'_>, groups: &[ReportGroup<'_>]) {
    page.heading("configuration", "Configuration and environment");
    page.paragraph("The command of the sweep:");
    page.command(&report.command);
    let runs: Vec<_> = groups
        .iter()
        .flat_map(|group| group.runs.iter().map(move |run| (group, *run)))
        .collect();
    if runs.is_empty() {
        return;
    }
    let names: Vec<String> = runs
        .iter()
        .map(|(group, run)| format!("{}, seed {}", group.label, run.settings.seed))
        .collect();
    let all: Vec<_> = runs.iter().map(|(_, run)| settings(run)).collect();
    let (shared, different) = shared_and_different(&all, &names);
    page.subheading("Settings of every run");
    page.pairs("Settings that all runs share", &shared);
    if different.columns.len() > 1 {
        page.subheading("Settings that differ");
        page.table("Settings that differ between runs", &different);
    }
    let all: Vec<_> = runs.iter().map(|(_, run)| environment(run)).collect();
    let (shared, different) = shared_and_different(&all, &names);
    page.subheading("Environment of every run");
    page.pairs("What all runs ran on", &shared);
    if different.columns.len() > 1 {
        page.subheading("Environment that differs");
        page.table("What differs between runs", &different);
    }
}
