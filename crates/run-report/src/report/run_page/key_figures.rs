//! The figures at the head of a run's report.

use crate::report::page::Fact;
use run_files::run_record::RunRecord;
use run_files::wording::{
    bits_per_dim, count, duration, memory, nats, rounded_count, three_digits,
};

pub(super) fn facts(record: &RunRecord) -> Vec<Fact> {
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
            bits_per_dim(bits),
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
