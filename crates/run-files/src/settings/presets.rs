//! The named starting points.

use serde_json::{Value, json};

use super::{Key, Preset};

impl Preset {
    /// The keys this preset decides, with their values.
    ///
    /// The intermediate dimension is never among them, so that `--width` scales it under every preset.
    pub(super) fn values(self) -> Vec<(Key, Value)> {
        match self {
            // Sized to end within 3 minutes on 2 CPU cores; the README states its expected final numbers.
            Self::Demo => vec![
                (Key::Depth, json!(28)),
                (Key::Width, json!(0.0625)),
                (Key::LatentDim, json!(32)),
                (Key::BatchSize, json!(25)),
                (Key::Epochs, json!(20)),
                (Key::Seed, json!(1)),
            ],
            Self::Depth28 => the_posts_run(28),
            Self::Depth40 => the_posts_run(40),
            Self::Depth70 => the_posts_run(70),
            Self::Depth100 => the_posts_run(100),
            Self::Fast28 => fast(28),
            Self::Fast40 => fast(40),
            Self::Fast70 => fast(70),
            Self::Fast100 => fast(100),
        }
    }
}

/// The post's size and schedule, with the correct sampler and held-out validation.
///
/// Most of these are defaults, listed so that a changed default cannot change a reproduction. Later settings that a `config.json` leaves out at
/// their default (shards, synchronised norms, likelihood, beta, KL warm-up, free bits, moving average) are not listed: older runs are read with that
/// default, so it cannot change.
fn the_posts_run(depth: u32) -> Vec<(Key, Value)> {
    vec![
        (Key::Depth, json!(depth)),
        (Key::Width, json!(1.0)),
        (Key::LatentDim, json!(256)),
        (Key::BatchSize, json!(25)),
        (Key::Epochs, json!(1000)),
        (Key::LearningRate, json!(0.001)),
        (Key::Decay, json!(0.0)),
        (Key::Activation, json!("sigmoid")),
        (Key::Dropout, json!(0.0)),
        (Key::Shortcuts, json!(true)),
        (Key::Validation, json!("held-out")),
        (Key::Sampler, json!("correct")),
        (Key::Augment, json!("none")),
        (Key::HalvingPatience, json!(25)),
        (Key::MinimumLearningRate, json!(1e-6)),
        (Key::StoppingPatience, json!(50)),
        (Key::StoppingMinimumImprovement, json!(0.1)),
        (Key::SkipGradientNorm, json!(null)),
        (Key::Precision, json!("f32")),
        (Key::MicroBatchSize, json!(null)),
        (Key::GradientCheckpointing, json!(false)),
        (Key::Schedule, json!("plateau")),
        (Key::WarmupSteps, json!(0)),
    ]
}

/// The post's protocol (its sampler, validation on the test set), for one GPU with tensor cores: a starting point that nobody has
/// measured on a GPU. Its schedule, with 60 epochs, has been tried at a sixteenth of the width, where it ends as low as a constant rate (EXPERIMENTS.md).
///
/// - Products in bfloat16. Batches of 128: a fifth of the steps, with enough pixels in each to fill a GPU.
/// - The rate is the post's times the square root of 128 / 25, as for Adam, rounded down; it rises over the first epoch
///   (390 steps), since the post's own runs diverged and came back, and falls along a cosine, which needs no epochs to notice
///   a plateau.
/// - 55 epochs of 390 steps: 215 s at the 10 ms a step that are the goal for depth 28 on an H100, and 55 s by estimate for the start, scores, pictures
///   and checkpoints. The other depths have the same schedule, so that they can be compared: they take 1.1, 2.2 and 3.4 times the
///   multiply-accumulates of depth 28 (4.83e9 an image, forward), which makes half an hour for all four.
fn fast(depth: u32) -> Vec<(Key, Value)> {
    let mut values = the_posts_run(depth);
    let changes = [
        (Key::BatchSize, json!(128)),
        (Key::Epochs, json!(55)),
        (Key::LearningRate, json!(0.002)),
        (Key::Validation, json!("test")),
        (Key::Sampler, json!("blog")),
        (Key::Precision, json!("bf16")),
        (Key::Schedule, json!("cosine")),
        (Key::WarmupSteps, json!(390)),
        (Key::SkipGradientNorm, json!(10.0)),
    ];
    for (key, value) in changes {
        values.retain(|(other, _)| *other != key);
        values.push((key, value));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Precision, Sampler, Settings, Validation};

    #[test]
    fn every_preset_holds_allowed_values_only() {
        for preset in Preset::ALL {
            for (key, value) in preset.values() {
                assert!(key.check(&value).is_ok(), "{preset}: {}", key.name());
                assert!(
                    !matches!(key, Key::Preset | Key::IntermediateDim),
                    "{preset}"
                );
            }
        }
    }

    #[test]
    fn the_fast_presets_differ_in_their_depth_alone() {
        let of = |preset: Preset| Settings::from_values(preset.values());
        for (preset, depth) in [
            (Preset::Fast40, 40),
            (Preset::Fast70, 70),
            (Preset::Fast100, 100),
        ] {
            let expected = Settings {
                depth,
                ..of(Preset::Fast28)
            };
            assert_eq!(of(preset), expected);
        }
    }

    #[test]
    fn the_fast_preset_is_the_posts_protocol_and_its_rate_is_computed() {
        let settings = Settings::from_values(Preset::Fast28.values());
        assert_eq!(settings.depth, 28);
        assert_eq!((settings.width, settings.latent_dim), (1.0, 256));
        assert_eq!(settings.sampler, Sampler::Blog);
        assert_eq!(settings.validation, Validation::Test);
        assert_eq!(settings.precision, Precision::Bf16);
        assert_eq!(50_000 / settings.batch_size as u64, settings.warmup_steps);
        let rate = 0.001 * (settings.batch_size as f64 / 25.0).sqrt();
        assert!(
            (0.8..1.0).contains(&(settings.learning_rate / rate)),
            "{rate}"
        );
        // The stopping rule cannot end the cosine early.
        assert!(settings.stopping_patience >= settings.epochs - 10);
    }

    #[test]
    fn the_posts_presets_differ_from_the_defaults_in_depth_only() {
        for (preset, depth) in [
            (Preset::Depth28, 28),
            (Preset::Depth70, 70),
            (Preset::Depth100, 100),
        ] {
            let settings = Settings::from_values(preset.values());
            assert_eq!(
                settings,
                Settings {
                    depth,
                    ..Settings::default()
                }
            );
        }
    }
}
