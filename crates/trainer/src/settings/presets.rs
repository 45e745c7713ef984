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
        }
    }
}

/// The post's size and schedule, with the correct sampler and held-out validation.
///
/// Spelt out although most are defaults, so that a changed default cannot change a reproduction.
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
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

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
