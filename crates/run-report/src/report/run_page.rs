//! The report of one run.

use kuva::plot::line::LineStyle;

use super::configuration::{environment, settings};
use super::contents::ReportTable;
use super::drawing::curve_colour;
use super::page::{Fact, LegendEntry, Page};
use super::picture::Picture;
use super::spectrum::spectrum;
use crate::chart::Curve;
use crate::loss_curves::panels;
use run_files::metrics::Terms;
use run_files::run_folder::{FINAL_RECONSTRUCTIONS, FINAL_SAMPLES};
use run_files::run_record::{INTERPOLATIONS, RunRecord, TRAVERSALS};
use run_files::settings::{Settings, Validation};
use run_files::shell::quoted_path;
use run_files::wording::{count, duration, memory, nats, rounded_count, three_digits};

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

fn facts(record: &RunRecord) -> Vec<Fact> {
    let summary = &record.summary;
    let fact = |name, value, detail| Fact {
        name,
        value,
        detail,
    };
    let in_nats = |value| format!("{} nats", nats(value));
    let likelihood = record.settings.likelihood;
    let bits = summary.test_bits_per_dim.map(|bits| {
        fact(
            "Test bits per dimension",
            format!("{bits:.4}"),
            format!("negative ELBO, under {likelihood}"),
        )
    });
    let reconstruction = if likelihood.is_over_levels() {
        let log_probability = fact(
            "Test log-probability",
            in_nats(-summary.test.cross_entropy),
            "of an image given its latent".to_owned(),
        );
        bits.into_iter().chain([log_probability]).collect()
    } else {
        vec![
            fact(
                "Test excess",
                in_nats(summary.test.excess),
                "cross-entropy above the floor, an image".to_owned(),
            ),
            fact(
                "Test cross-entropy",
                in_nats(summary.test.cross_entropy),
                format!("floor {} nats", nats(summary.floor.test)),
            ),
        ]
    };
    let times = record.timing.map(|timing| {
        [
            fact(
                "Training time",
                duration(timing.train_seconds),
                format!(
                    "{} s an epoch, evaluation excluded",
                    three_digits(timing.seconds_per_epoch)
                ),
            ),
            fact(
                "Speed",
                format!("{} images/s", three_digits(timing.images_per_second)),
                format!("on {}", record.settings.device),
            ),
        ]
    });
    let mut facts: Vec<Fact> = reconstruction;
    facts.extend([
        fact(
            "Test KL divergence",
            in_nats(summary.test.kl),
            "an image".to_owned(),
        ),
        fact(
            "Best validation loss",
            in_nats(summary.best.valid.loss),
            format!("epoch {} of {}", summary.best.epoch, summary.last.epoch),
        ),
        fact(
            "Active dimensions",
            format!(
                "{} of {}",
                summary.latent.active(),
                summary.latent.mean_variance.len()
            ),
            "of the latent: variance of the mean above 0.01".to_owned(),
        ),
    ]);
    facts.extend(times.into_iter().flatten());
    facts.extend([
        fact(
            "Parameters",
            rounded_count(summary.parameters.total),
            format!(
                "{}: encoder {}, decoder {}",
                count(summary.parameters.total),
                count(summary.parameters.encoder),
                count(summary.parameters.decoder)
            ),
        ),
        fact(
            "Multiply-accumulates",
            rounded_count(summary.multiply_accumulates_per_image.total),
            format!(
                "{} an image, forward",
                count(summary.multiply_accumulates_per_image.total)
            ),
        ),
    ]);
    if let Some(bytes) = record.timing.and_then(|timing| timing.peak_memory_bytes) {
        facts.push(fact(
            "Peak memory",
            memory(bytes),
            "of the process".to_owned(),
        ));
    }
    facts
}

fn terms_table(record: &RunRecord) -> ReportTable {
    let summary = &record.summary;
    let (images, floor) = (&summary.images, &summary.floor);
    let columns = [&summary.best.train, &summary.best.valid, &summary.test];
    let row = |name: &str, quantity: fn(&Terms) -> f64| {
        let values = columns.iter().map(|terms| nats(quantity(terms)));
        std::iter::once(name.to_owned()).chain(values).collect()
    };
    let further = &summary.best.further;
    let is_over_levels = record.settings.likelihood.is_over_levels();
    let has_bound = record.settings.bounds_the_likelihood();
    let mut rows: Vec<Vec<String>> = vec![row("loss", |terms| terms.loss)];
    if let Some(objective) = further.train_objective {
        let none = String::new;
        rows.push(vec![
            "what was minimised".to_owned(),
            nats(objective),
            none(),
            none(),
        ]);
    }
    if has_bound {
        rows.push(row("negative ELBO", |terms| terms.cross_entropy + terms.kl));
        let bits = [
            further.train_bits_per_dim,
            further.valid_bits_per_dim,
            summary.test_bits_per_dim,
        ];
        let bits = bits.map(|bits| bits.map_or_else(String::new, |bits| format!("{bits:.4}")));
        rows.push(
            std::iter::once("bits per dimension".to_owned())
                .chain(bits)
                .collect(),
        );
    }
    if is_over_levels {
        rows.push(row("-log p(image given latent)", |terms| {
            terms.cross_entropy
        }));
    } else {
        rows.push(row("cross-entropy", |terms| terms.cross_entropy));
        rows.push(row("excess over the floor", |terms| terms.excess));
    }
    rows.push(row("KL divergence", |terms| terms.kl));
    rows.push(row("L2 penalties", |terms| terms.l2));
    if !is_over_levels {
        rows.push(vec![
            "floor".to_owned(),
            nats(floor.train),
            nats(floor.valid),
            nats(floor.test),
        ]);
    }
    rows.push(vec![
        "images".to_owned(),
        count(images.train),
        count(images.valid),
        count(images.test),
    ]);
    let measure = if let Some(reason) = record.settings.why_no_bound() {
        reason
    } else if is_over_levels {
        "Bits per dimension are the negative ELBO over 3072 ln 2; penalties are no part of it."
    } else {
        "The floor is the pixels' own entropy: no prediction of grey levels scores less."
    };
    ReportTable {
        columns: ["", "training", "validation", "test"]
            .map(str::to_owned)
            .into(),
        rows,
        notes: vec![format!(
            "Nats an image. {measure} Training and validation are those of epoch {}, the one with the best validation loss; training \
             is the mean over the epoch, while the weights moved. {}; latents are drawn with the {} sampler, one an image.",
            summary.best.epoch,
            match record.settings.validation {
                Validation::HeldOut =>
                    "Test is scored once, with that epoch's weights. Validation is on held-out training images",
                Validation::Test =>
                    "Validation is on the test images: they chose that epoch and decided about learning rate and stopping, so that the \
                     test column is the score of images that the run was fitted to, and differs from validation by its draws alone",
            },
            record.settings.sampler,
        )],
    }
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

fn latent(page: &mut Page, record: &RunRecord) {
    let latent = &record.summary.latent;
    page.paragraph(&format!(
        "{} of {} dimensions are active: over the test images, the variance of the posterior's mean is above 0.01 there. \
         The dimensions' KL divergences sum to {} nats an image.",
        latent.active(),
        latent.mean_variance.len(),
        nats(latent.kl_per_dimension.iter().sum())
    ));
    if let Some(warning) = latent.collapse_warning(record.summary.images.test, &record.settings) {
        page.alarm("The latent is not used", &[warning]);
    }
    if let Some(found) = &record.latents {
        let caution = if found.is_at_ceiling() {
            " The estimate is at this ceiling: read it as at least so much, and the aggregated posterior's divergence as at most so \
             much."
        } else {
            ""
        };
        page.paragraph(&format!(
            "Of {} test images, the mean divergence{} of {} nats is in two parts: {} nats of mutual information, which is what a \
             latent tells about the image that it is of, and {} nats from the aggregated posterior, the mixture of all \
             posteriors, to the prior. No estimate of mutual information from {} images exceeds their logarithm, {} nats.{caution}",
            count(found.images),
            if found.is_of_posts_draws {
                " of what the post's sampler draws, not of what its loss scores,"
            } else {
                ""
            },
            nats(found.average_kl),
            nats(found.mutual_information),
            nats(found.aggregated_posterior_kl),
            count(found.images),
            nats(found.ceiling),
        ));
    }
    page.block("columns", |page| {
        let curve = Curve::new(spectrum(&[&latent.kl_per_dimension]), &curve_colour(0));
        page.chart(
            "KL divergence of each dimension, sorted",
            &super::spectrum::chart(vec![curve]),
        );
    });
}

fn traversals(page: &mut Page, record: &RunRecord) {
    let Some(found) = &record.latents else {
        page.paragraph("They are drawn, and mutual information is measured, by");
        page.command(&format!(
            "cargo xtask report --run-dir {}",
            quoted_path(&record.run_dir)
        ));
        return;
    };
    let read = |file: &str| Picture::read(&record.run_dir.join(file));
    let listed = |items: Vec<String>| items.join(", ");
    let dimensions = listed(found.traversed.iter().map(usize::to_string).collect());
    let pairs = found.interpolated.iter();
    let pairs = listed(pairs.map(|[a, b]| format!("{a} to {b}")).collect());
    page.block("columns", |page| {
        page.picture(
            "Traversals of the most used dimensions",
            &format!(
                "Test image 0, with one dimension of its latent a row from 3 standard deviations of the prior below 0 to as many \
                 above; from the top, dimensions {dimensions}."
            ),
            read(TRAVERSALS).as_ref(),
        );
        if !pairs.is_empty() {
            page.picture(
                "Interpolations between test images",
                &format!(
                    "Along the straight line between two images' latents, one pair a row; from the top, test images {pairs}."
                ),
                read(INTERPOLATIONS).as_ref(),
            );
        }
    });
}
