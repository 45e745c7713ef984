//! The words of progress: lines, the message beside the bar, and the table at the end.

use super::events::{EpochEnd, Finish, RunStart, StepProgress, StepRate, StopReason};
use run_files::metrics::{EpochRow, Terms};
use run_files::settings::Validation;
use run_files::shell::quoted_path;
use run_files::wording::{self, clock, images_per_second, short_nats as nats};

/// What is about to be trained, on what, and where it goes.
pub(super) fn run_start(start: &RunStart<'_>) -> String {
    let settings = start.settings;
    let begin = match (start.is_over, start.first_epoch) {
        (true, first) => format!("all is trained, after epoch {}", first.saturating_sub(1)),
        (false, 1) => "training".to_owned(),
        (false, first) => format!("continuing with epoch {first}"),
    };
    let preset = settings.preset.map_or_else(
        || "no preset, so the post's values where nothing else is given".to_owned(),
        |preset| format!("preset {preset}"),
    );
    format!(
        "{begin}: {preset}; depth {}, width {}{}, latent {}, {} parameters; {} training and {} {}, batch {}; \
         at most {}, seed {}, device {}; run folder {}",
        settings.depth,
        settings.width,
        if settings.shortcuts {
            ""
        } else {
            ", no shortcuts"
        },
        settings.latent_dim,
        wording::count(start.parameters as u64),
        wording::count(start.train_images as u64),
        wording::count(start.valid_images as u64),
        match settings.validation {
            Validation::HeldOut => "validation images",
            // Whoever asks for the post's protocol, or a preset that has it, gets a test score of images that were looked at.
            Validation::Test =>
                "validation images, which are the test set: it chooses the best epoch",
        },
        settings.batch_size,
        wording::counted(settings.epochs.into(), "epoch"),
        settings.seed,
        settings.device,
        start.run_dir.display(),
    )
}

/// The line before the bar: place, rate and time left of the epoch and of the run.
pub(super) fn step(step: &StepProgress, epoch_seconds: Option<f64>) -> String {
    let mut line = format!(
        "epoch {}/{}  step {}/{}",
        step.epoch, step.epochs, step.step, step.steps
    );
    if let Some(rate) = step.rate {
        let a_step = rate.seconds_per_step;
        let epoch_left = a_step * step.steps.saturating_sub(step.step) as f64;
        let an_epoch = epoch_seconds.unwrap_or(a_step * step.steps as f64);
        let run_left = epoch_left + an_epoch * f64::from(step.epochs.saturating_sub(step.epoch));
        line += &format!(
            "  {} images/s  {} left, run {}",
            images_per_second(rate.images_per_second),
            clock(epoch_left),
            clock(run_left)
        );
    }
    line
}

/// How long a run takes, and how to do less.
pub(super) fn estimate(rate: StepRate, epoch_seconds: f64, epochs: u32) -> String {
    format!(
        "at {} images/s an epoch takes {}, and {} {} unless the stopping rule ends them: `--preset demo` takes minutes, \
         and --depth, --width, --limit-train and --epochs make a run shorter",
        images_per_second(rate.images_per_second),
        clock(epoch_seconds),
        wording::counted(epochs.into(), "epoch"),
        clock(epoch_seconds * f64::from(epochs))
    )
}

/// The line under the bar: the loss so far in the epoch.
pub(super) fn terms(terms: &Terms) -> String {
    let Terms {
        loss,
        cross_entropy,
        excess,
        kl,
        l2,
    } = *terms;
    // Only a cross-entropy has a floor that something can exceed.
    let reconstruction = if excess.is_nan() && cross_entropy.is_finite() {
        format!("-log p(x | z) {}", nats(cross_entropy))
    } else {
        format!(
            "cross-entropy {} (excess {})",
            nats(cross_entropy),
            nats(excess)
        )
    };
    format!(
        "loss {} = {reconstruction} + kl {} + l2 {}",
        nats(loss),
        nats(kl),
        nats(l2)
    )
}

/// Whether it is a log-probability over grey levels, which has no floor to exceed.
fn has_no_floor(terms: Terms) -> bool {
    terms.excess.is_nan() && terms.cross_entropy.is_finite()
}

/// The line of an epoch.
pub(super) fn epoch(end: &EpochEnd) -> String {
    let EpochRow {
        epoch,
        train,
        valid,
        last_learning_rate: learning_rate,
        skipped_steps,
        optional,
        ..
    } = end.row;
    let width = end.epochs.to_string().len();
    let mut line = format!("epoch {epoch:>width$}/{}", end.epochs);
    for (split, terms) in [("train", train), ("valid", valid)] {
        let bits = if split == "train" {
            optional.train_bits_per_dim
        } else {
            optional.valid_bits_per_dim
        };
        let measure = match bits {
            Some(bits) => format!("{} bits/dim", wording::bits_per_dim(bits)),
            None if has_no_floor(terms) => format!("-log p(x | z) {}", nats(terms.cross_entropy)),
            None => format!("excess {}", nats(terms.excess)),
        };
        line += &format!(
            "  {split} loss {} ({measure}, kl {}, l2 {})",
            nats(terms.loss),
            nats(terms.kl),
            nats(terms.l2)
        );
    }
    if let Some(loss) = optional.valid_loss_without_average {
        line += &format!("  without the average {}", nats(loss));
    }
    line += &format!(
        "  {} images/s  {}",
        images_per_second(end.images_per_second),
        clock(end.seconds)
    );
    let [rate, next_rate] = [learning_rate, end.next_learning_rate].map(wording::rate);
    // A decay changes it by less than that at every step.
    if rate != next_rate {
        line += &format!("  learning rate {rate} -> {next_rate}");
    }
    if skipped_steps > 0 {
        line += &format!(
            "  {} skipped",
            wording::counted(skipped_steps.into(), "step")
        );
    }
    if end.is_best {
        line += "  best";
    }
    line
}

/// The lines after a run: a table of the last and the best epoch, why it ended, and where to look.
pub(super) fn finish(finish: &Finish<'_>) -> Vec<String> {
    let Finish { best, last, .. } = finish;
    let mut columns = vec![
        ("train, last".to_owned(), last.epoch, last.train),
        ("valid, last".to_owned(), last.epoch, last.valid),
    ];
    if best.epoch != last.epoch {
        columns.push(("train, best".to_owned(), best.epoch, best.train));
        columns.push(("valid, best".to_owned(), best.epoch, best.valid));
    }
    columns.push(("test, best".to_owned(), best.epoch, finish.test));
    let row = |name: &str, cell: &dyn Fn(&(String, u32, Terms)) -> String| {
        columns.iter().fold(format!("{name:<14}"), |line, column| {
            line + &format!("{:>14}", cell(column))
        })
    };
    let bits = |terms: &Terms| {
        vae_measures::bits_per_dim(terms.cross_entropy_plus_kl(), cifar_loader::IMAGE_BYTES)
    };
    let log_probability = || row("-log p(x | z)", &|(.., terms)| nats(terms.cross_entropy));
    let reconstruction = if last.optional.valid_bits_per_dim.is_some() {
        vec![
            row("bits/dim", &|(.., terms)| {
                wording::bits_per_dim(bits(terms))
            }),
            log_probability(),
        ]
    } else if has_no_floor(finish.test) {
        vec![log_probability()]
    } else {
        vec![
            row("cross-entropy", &|(.., terms)| nats(terms.cross_entropy)),
            row("excess", &|(.., terms)| nats(terms.excess)),
        ]
    };
    let mut lines = vec![
        String::new(),
        row("nats an image", &|(title, ..)| title.clone()),
        row("", &|(_, epoch, _)| format!("epoch {epoch}")),
        row("loss", &|(.., terms)| nats(terms.loss)),
    ];
    lines.extend(reconstruction);
    lines.extend([
        row("kl", &|(.., terms)| nats(terms.kl)),
        row("l2", &|(.., terms)| nats(terms.l2)),
        String::new(),
    ]);
    let reason = match finish.reason {
        StopReason::EpochLimit => "all epochs are done",
        StopReason::EarlyStopping => "the validation loss stopped improving",
    };
    lines.push(format!(
        "ended after epoch {}, {}: {reason}",
        last.epoch,
        clock(finish.seconds)
    ));
    lines.push(format!("run folder  {}", finish.run_dir.display()));
    for picture in finish.pictures {
        lines.push(format!("picture     {}", picture.display()));
    }
    let run_dir = quoted_path(finish.run_dir);
    lines.push(format!(
        "next        cargo xtask report --run-dir {run_dir}"
    ));
    lines.push(format!(
        "            cargo xtask sample --run-dir {run_dir} --out samples.png"
    ));
    lines
}

/// A line without control characters, which a path or a message could carry into a terminal.
pub(super) fn printable(line: &str) -> String {
    line.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_codes_do_not_pass() {
        assert_eq!(printable("a\x1b[31mb\nc"), "a?[31mb?c");
    }
}
