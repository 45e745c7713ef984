//! What stands below the main table.

use crate::sweep::results::SweepResults;

pub(super) fn main_notes(results: &SweepResults) -> Vec<String> {
    let floor = &results.data.floor;
    let settings = &results.plan.runs[0].settings;
    let latent_dim = settings.latent_dim;
    let mut notes = vec![
        "Mean ± sample standard deviation over the seeds; a single value where one seed is finished. Losses, cross-entropy \
         and KL in nats an image."
            .to_owned(),
        "Training and validation loss are those of the best epoch, which has the lowest validation loss and whose weights \
         are scored on the test set. The training loss is the mean over the epoch while the weights moved."
            .to_owned(),
        if let Some(reason) = settings.why_no_bound() {
            format!(
                "The likelihood is {}, a distribution over the 256 grey levels: test cross-entropy is -log p(image given latent). {reason}",
                settings.likelihood
            )
        } else if settings.likelihood.is_over_levels() {
            format!(
                "The likelihood is {}, a distribution over the 256 grey levels: test cross-entropy is -log p(image given latent), the \
                 negative ELBO adds the KL divergence to it, and bits/dim are that over 3072 ln 2, without penalties.",
                results.plan.likelihood()
            )
        } else {
            format!(
            "The excess is the test cross-entropy minus its floor, the entropy of the pixels themselves: {:.2} nats an image \
             on these {} test images (training images of seed 1: {:.2}), computed from the data \
             in float64.",
            floor.test, results.data.images.test, floor.train
        )
        },
        format!(
            "A latent dimension, of {latent_dim}, is active where the variance of the posterior mean over the test images is \
             above 0.01."
        ),
        "Training time counts training alone: the epochs at the measured rate, without evaluation, pictures and \
         checkpoints. Peak memory is that of the run's own process."
            .to_owned(),
    ];
    if results.options.plain {
        notes.push(
            "Without shortcuts there are no projections either, so such a model of the same width has fewer parameters."
                .to_owned(),
        );
    }
    if let Some(quantity) = results.options.matching.quantity() {
        notes.push(format!(
            "Widths are chosen so that the {quantity} are nearest to those of the first row; channels are whole numbers, so \
             the mismatch stays. The widths differ, and with them every other size of the model but the latent."
        ));
    }
    notes
}
