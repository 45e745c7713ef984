//! The latent of a run: how far it is used, and what the decoder makes of it.

use crate::chart::Curve;
use crate::report::drawing::curve_colour;
use crate::report::page::Page;
use crate::report::picture::Picture;
use crate::report::spectrum::{self, spectrum};
use run_files::run_record::{INTERPOLATIONS, RunRecord, TRAVERSALS};
use run_files::shell::quoted_path;
use run_files::wording::{count, nats};

pub(super) fn latent(page: &mut Page, record: &RunRecord) {
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
            &spectrum::chart(vec![curve]),
        );
    });
}

pub(super) fn traversals(page: &mut Page, record: &RunRecord) {
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
