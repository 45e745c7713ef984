//! The loss terms of each split.

use crate::report::contents::ReportTable;
use run_files::metrics::Terms;
use run_files::run_record::RunRecord;
use run_files::settings::Validation;
use run_files::wording::{bits_per_dim, count, nats};

pub(super) fn terms_table(record: &RunRecord) -> ReportTable {
    let summary = &record.summary;
    let (images, floor) = (&summary.images, &summary.floor);
    let columns = [&summary.best.train, &summary.best.valid, &summary.test];
    let row = |name: &str, quantity: fn(&Terms) -> f64| {
        let values = columns.iter().map(|terms| nats(quantity(terms)));
        std::iter::once(name.to_owned()).chain(values).collect()
    };
    let optional = &summary.best.optional;
    let is_over_levels = record.settings.likelihood.is_over_levels();
    let has_bound = record.settings.bounds_the_likelihood();
    let mut rows: Vec<Vec<String>> = vec![row("loss", |terms| terms.loss)];
    if let Some(loss) = optional.valid_loss_without_average {
        let none = String::new;
        rows.push(vec![
            "loss of the weights themselves".to_owned(),
            none(),
            nats(loss),
            none(),
        ]);
    }
    if let Some(objective) = optional.train_objective {
        let none = String::new;
        rows.push(vec![
            "what was minimised".to_owned(),
            nats(objective),
            none(),
            none(),
        ]);
    }
    if has_bound {
        rows.push(row("negative ELBO", Terms::cross_entropy_plus_kl));
        let bits = [
            optional.train_bits_per_dim,
            optional.valid_bits_per_dim,
            summary.test_bits_per_dim,
        ];
        let bits = bits.map(|bits| bits.map_or_else(String::new, bits_per_dim));
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
        notes: std::iter::once(format!(
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
        ))
        .chain(record.settings.ema.map(|decay| format!(
            "Validation and test are scored with the weights' moving average (decay {decay})."
        )))
        .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::record;

    #[test]
    fn a_run_with_an_average_has_both_scores_and_says_so() {
        let mut run = record(28, true, 1);
        let plain = terms_table(&run);
        run.settings.ema = Some(0.999);
        run.summary.best.optional.valid_loss_without_average = Some(1911.25);
        let averaged = terms_table(&run);
        assert_eq!(averaged.rows.len(), plain.rows.len() + 1);
        let expected = ["loss of the weights themselves", "", "1911.25", ""];
        assert_eq!(averaged.rows[1], expected);
        assert!(averaged.notes[1].contains("moving average (decay 0.999)"));
        assert_eq!(plain.notes.len(), 1);
    }
}
