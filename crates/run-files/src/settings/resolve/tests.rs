//! Precedence, provenance and errors of the resolution.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use crate::settings::{Activation, DeviceChoice, Precision, Resume};

fn no_environment(_: &str) -> Option<String> {
    None
}

fn file(folder: &tempfile::TempDir, values: Value) -> PathBuf {
    let path = folder.path().join("settings.json");
    std::fs::write(&path, values.to_string()).unwrap();
    path
}

/// All 16 combinations of the four sources above the defaults, for six keys at once.
#[test]
fn flags_win_over_environment_over_file_over_preset_over_defaults() {
    // Key, then its text or value as a flag, in the environment, in the file, in preset `demo`, by default.
    type Case = (
        Key,
        &'static str,
        (&'static str, Value),
        Value,
        Value,
        Value,
    );
    let cases: [Case; 6] = [
        (
            Key::Depth,
            "70",
            ("1", json!(40)),
            json!(100),
            json!(28),
            json!(100),
        ),
        (
            Key::LatentDim,
            "64",
            ("128", json!(128)),
            json!(16),
            json!(32),
            json!(256),
        ),
        (
            Key::BatchSize,
            "50",
            ("100", json!(100)),
            json!(10),
            json!(25),
            json!(25),
        ),
        (
            Key::Epochs,
            "3",
            ("4", json!(4)),
            json!(5),
            json!(20),
            json!(1000),
        ),
        (
            Key::LearningRate,
            "0.5",
            ("0.25", json!(0.25)),
            json!(0.125),
            json!(0.001),
            json!(0.001),
        ),
        (
            Key::Activation,
            "relu",
            ("tanh", json!("tanh")),
            json!("relu"),
            json!("sigmoid"),
            json!("sigmoid"),
        ),
    ];
    let in_preset = |key| !matches!(key, Key::LearningRate | Key::Activation);

    for combination in 0..16_u32 {
        let [by_flag, by_environment, by_file, by_preset] =
            [0, 1, 2, 3].map(|bit| combination >> bit & 1 == 1);
        let folder = tempfile::tempdir().unwrap();
        let mut flags = TrainFlags::default();
        let mut variables = HashMap::new();
        let mut entries = serde_json::Map::new();
        for (key, flag, (variable, _), in_file, ..) in &cases {
            if by_flag {
                let text = Some((*flag).to_owned());
                match key {
                    Key::Depth => flags.depth = text,
                    Key::LatentDim => flags.latent_dim = text,
                    Key::BatchSize => flags.batch_size = text,
                    Key::Epochs => flags.epochs = text,
                    Key::LearningRate => flags.learning_rate = text,
                    Key::Activation => flags.activation = text,
                    _ => unreachable!(),
                }
            }
            if by_environment {
                variables.insert(key.environment().unwrap(), (*variable).to_owned());
            }
            if by_file {
                entries.insert(key.name().to_owned(), in_file.clone());
            }
        }
        if by_file {
            flags.config = Some(file(&folder, entries.into()));
        }
        if by_preset {
            flags.preset = Some("demo".to_owned());
        }

        let resolved = resolve(&flags, &|name| variables.get(name).cloned()).unwrap();
        let values = resolved.settings.to_map();
        for (key, flag, (_, variable), in_file, preset, default) in &cases {
            let (expected, kind) = if by_flag {
                (key.parse(flag).unwrap(), "flag")
            } else if by_environment {
                (variable.clone(), "environment")
            } else if by_file {
                (in_file.clone(), "file")
            } else if by_preset && in_preset(*key) {
                (preset.clone(), "preset")
            } else {
                (default.clone(), "default")
            };
            assert_eq!(
                values[key.name()],
                expected,
                "{} in combination {combination:04b}",
                key.name()
            );
            assert_eq!(
                resolved.provenance.source(*key).kind(),
                kind,
                "{}",
                key.name()
            );
        }
    }
}

#[test]
fn every_variable_sets_its_key() {
    let variables = [
        ("BATCH_SIZE", "7"),
        ("LATENT_DIM", "8"),
        ("INTERMEDIATE_DIM", "48"),
        ("EPOCHS", "9"),
        ("ACTIVATION", "relu"),
        ("DROPOUT", "0.5"),
        ("DECAY", "0.25"),
        ("LEARNING_RATE", "0.125"),
        ("RESNET_DEPTH", "0"),
        ("OUTDIR", "out"),
        ("PRECISION", "bf16"),
    ];
    let lookup = |name: &str| {
        variables
            .iter()
            .find(|entry| entry.0 == name)
            .map(|entry| entry.1.to_owned())
    };
    let expected = Settings {
        batch_size: 7,
        latent_dim: 8,
        intermediate_dim: 48,
        epochs: 9,
        activation: Activation::Relu,
        dropout: 0.5,
        decay: 0.25,
        learning_rate: 0.125,
        depth: 28,
        run_dir: Some("out".into()),
        precision: Precision::Bf16,
        ..Settings::default()
    };
    assert_eq!(
        resolve(&TrainFlags::default(), &lookup).unwrap().settings,
        expected
    );
    let named = Key::ALL
        .iter()
        .filter(|key| key.environment().is_some())
        .count();
    assert_eq!(named, variables.len());
}

#[test]
fn empty_variables_count_as_unset() {
    let resolved = resolve(&TrainFlags::default(), &|_| Some(String::new())).unwrap();
    assert_eq!(resolved.settings, Settings::default());
}

#[test]
fn errors_name_the_source_the_range_and_the_nearest_name() {
    let flags = TrainFlags {
        dropout: Some("1".into()),
        ..TrainFlags::default()
    };
    let message = resolve(&flags, &no_environment).unwrap_err().to_string();
    assert_eq!(
        message,
        "dropout cannot be `1` (flag --dropout): expected a number from 0 and below 1"
    );

    let flags = TrainFlags {
        preset: Some("depth-28".into()),
        ..TrainFlags::default()
    };
    let message = resolve(&flags, &no_environment).unwrap_err().to_string();
    assert!(message.ends_with("; did you mean `depth28`?"), "{message}");

    let lookup = |name: &str| (name == "RESNET_DEPTH").then(|| "28".to_owned());
    let message = resolve(&TrainFlags::default(), &lookup)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("environment variable RESNET_DEPTH"),
        "{message}"
    );
    assert!(
        message.contains("0, 1, 2 or 3 (depth 28, 40, 70 or 100)"),
        "{message}"
    );

    let folder = tempfile::tempdir().unwrap();
    let flags = TrainFlags {
        config: Some(file(&folder, json!({"intermediate_dim": 1000}))),
        ..TrainFlags::default()
    };
    let message = resolve(&flags, &no_environment).unwrap_err().to_string();
    assert!(
        message.contains("settings.json, line 1") && message.contains("a multiple of 16"),
        "{message}"
    );
}

#[test]
fn the_intermediate_dimension_follows_the_width_unless_it_is_given() {
    let scaled = TrainFlags {
        preset: Some("depth28".into()),
        width: Some("0.125".into()),
        ..TrainFlags::default()
    };
    let resolved = resolve(&scaled, &no_environment).unwrap();
    assert_eq!(resolved.settings.intermediate_dim, 128);
    assert_eq!(
        resolved.provenance.source(Key::IntermediateDim),
        &Source::Derived("width")
    );

    let given = TrainFlags {
        intermediate_dim: Some("48".into()),
        ..scaled
    };
    let resolved = resolve(&given, &no_environment).unwrap();
    assert_eq!(resolved.settings.intermediate_dim, 48);
    assert_eq!(
        resolved.provenance.source(Key::IntermediateDim),
        &Source::Flag("--intermediate-dim")
    );
}

#[test]
fn a_preset_can_come_from_a_file_and_null_takes_it_away() {
    let folder = tempfile::tempdir().unwrap();
    let config = Some(file(
        &folder,
        json!({"preset": "demo", "latent_dim": 7, "limit_train": null}),
    ));
    let flags = TrainFlags {
        config,
        ..TrainFlags::default()
    };
    let resolved = resolve(&flags, &no_environment).unwrap();
    assert_eq!(
        (resolved.settings.width, resolved.settings.latent_dim),
        (0.0625, 7)
    );
    assert_eq!(
        resolved.provenance.source(Key::Width),
        &Source::Preset(Preset::Demo)
    );
    assert_eq!(resolved.provenance.source(Key::LimitTrain).kind(), "file");
    assert!(resolved.settings.embedded_data().is_some());

    let flags = TrainFlags {
        preset: Some("depth40".into()),
        ..flags
    };
    let resolved = resolve(&flags, &no_environment).unwrap();
    assert_eq!(
        (
            resolved.settings.depth,
            resolved.settings.width,
            resolved.settings.latent_dim
        ),
        (40, 1.0, 7)
    );

    let config = Some(file(&folder, json!({"preset": null})));
    let resolved = resolve(
        &TrainFlags {
            config,
            ..TrainFlags::default()
        },
        &no_environment,
    )
    .unwrap();
    assert_eq!(resolved.settings, Settings::default());
}

#[test]
fn a_resumed_run_takes_its_own_config_json() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = Settings {
        latent_dim: 5,
        seed: 9,
        device: DeviceChoice::Ndarray.into(),
        run_dir: Some("elsewhere".into()),
        ..Settings::default()
    };
    recorded.write(&folder.path().join("config.json")).unwrap();
    let run_dir = folder.path().to_str().unwrap().to_owned();

    let flags = TrainFlags {
        run_dir: Some(run_dir.clone()),
        resume: Some(Resume::Existing),
        ..TrainFlags::default()
    };
    let resolved = resolve(&flags, &no_environment).unwrap().settings;
    assert_eq!(
        resolved,
        Settings {
            run_dir: Some(folder.path().to_owned()),
            ..recorded.clone()
        }
    );

    let by_environment = TrainFlags {
        run_dir: None,
        ..flags.clone()
    };
    let lookup = |name: &str| (name == "OUTDIR").then(|| run_dir.clone());
    assert_eq!(
        resolve(&by_environment, &lookup).unwrap().settings,
        resolved
    );

    let fresh = TrainFlags {
        resume: None,
        ..flags
    };
    assert_eq!(
        resolve(&fresh, &no_environment)
            .unwrap()
            .settings
            .latent_dim,
        256
    );
}

#[test]
fn a_config_json_given_as_file_gives_the_same_settings_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let flags = TrainFlags {
        preset: Some("demo".into()),
        width: Some("0.3".into()),
        no_shortcuts: true,
        device: Some("cuda".into()),
        ..TrainFlags::default()
    };
    let first = resolve(&flags, &no_environment).unwrap().settings;
    first.write(&path).unwrap();
    let again = TrainFlags {
        config: Some(path.clone()),
        ..TrainFlags::default()
    };
    assert_eq!(resolve(&again, &no_environment).unwrap().settings, first);
    assert_eq!(Settings::read(&path).unwrap(), first);
    assert!(!first.shortcuts);
}
