//! The report of one run.

mod key_figures;
mod latent;
mod terms_table;

use kuva::plot::line::LineStyle;

use self::key_figures::facts;
use self::latent::{latent, traversals};
use self::terms_table::terms_table;
use super::configuration::{environment, settings};
use super::drawing::curve_colour;
use super::page::{LegendEntry, Page};
use super::picture::Picture;
use crate::loss_curves::panels;
use run_files::run_folder::{FINAL_RECONSTRUCTIONS, FINAL_SAMPLES};
use run_files::run_record::RunRecord;
use run_files::settings::Settings;

/// What a sheet of samples shows, for those who do not see it.
pub(super) const SAMPLES: &str =
    "Ten rows of ten images that the decoder makes of draws from the prior.";
/// What a sheet of reconstructions shows.
pub(super) const RECONSTRUCTIONS: &str =
    "The first twenty test images in two rows of ten, each row above its reconstructions.";

/// The whole document.
pub(super) fn render(record: &RunRecord) -> String {
    let name = model_name(&record.settings);
    let mut page = Page::new(&format!("ResNet VAE, {name}"), "run");
    let folder = record.run_dir.display();
    page.paragraph(&format!(
        "Run {folder}, seed {}, {} of {} epochs{}. Losses are means in nats an image.",
        record.settings.seed,
        record.summary.last.epoch,
        record.settings.epochs,
        if record.summary.stopped_early {
            ", stopped early by the stopping rule"
        } else {
            ""
        }
    ));
    page.contents(&[
        ("results", "Results"),
        ("curves", "Loss curves"),
        ("samples", "Samples and reconstructions"),
        ("latent", "Latent"),
        ("traversals", "Traversals and interpolations"),
        ("configuration", "Configuration"),
        ("environment", "Environment"),
    ]);
    page.facts(&facts(record));
    page.heading("results", "Results");
    page.table("Loss terms of each split", &terms_table(record));
    page.block("whole", |page| {
        page.heading("curves", "Loss curves");
        curves(page, record);
    });
    page.block("whole", |page| {
        page.heading("samples", "Samples and reconstructions");
        sheets(page, record);
    });
    page.block("whole", |page| {
        page.heading("latent", "Latent");
        latent(page, record);
    });
    page.block("whole", |page| {
        page.heading("traversals", "Traversals and interpolations");
        traversals(page, record);
    });
    page.heading("configuration", "Configuration");
    page.pairs("Every setting of the run", &settings(record));
    page.heading("environment", "Environment");
    page.pairs("What the run ran on", &environment(record));
    page.finish()
}

/// Depth, and what else tells models apart at a glance.
pub(super) fn model_name(settings: &Settings) -> String {
    let shortcuts = if settings.shortcuts {
        ""
    } else {
        " without shortcuts"
    };
    format!(
        "depth {}{shortcuts}, width {}",
        settings.depth, settings.width
    )
}

fn curves(page: &mut Page, record: &RunRecord) {
    let colours = [curve_colour(0), curve_colour(1)];
    let [train, valid] = [0, 1].map(|index| colours[index].as_str());
    page.legend(
        &[("training", train), ("validation", valid)].map(|(label, colour)| LegendEntry {
            label: label.to_owned(),
            colour: colour.to_owned(),
            style: LineStyle::Solid,
        }),
    );
    page.block("columns", |page| {
        for (title, chart) in panels(&record.rows, [train, valid]) {
            let mut title = title.to_owned();
            // Of the chart's title, which stands alone here.
            title[..1].make_ascii_uppercase();
            page.chart(&title, &chart);
        }
    });
}

fn sheets(page: &mut Page, record: &RunRecord) {
    let read = |file: &str| Picture::read(&record.run_dir.join(file));
    page.block("columns", |page| {
        page.picture(
            "Samples from the prior",
            SAMPLES,
            read(FINAL_SAMPLES).as_ref(),
        );
        page.picture(
            "Test images above their reconstructions",
            RECONSTRUCTIONS,
            read(FINAL_RECONSTRUCTIONS).as_ref(),
        );
    });
}
