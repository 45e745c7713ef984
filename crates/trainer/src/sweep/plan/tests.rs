//! What a sweep plans, and what it refuses.

use super::*;
use run_files::settings::{Sampler, Validation};

fn options() -> SweepOptions {
    SweepOptions {
        depths: vec![28, 40],
        seeds: 2,
        ..SweepOptions::default()
    }
}

fn plan(options: &SweepOptions) -> Plan {
    Plan::new(options).expect("a plan")
}

#[test]
fn runs_come_seed_by_seed_and_each_form_of_each_depth_once() {
    let plan = plan(&SweepOptions {
        plain: true,
        ..options()
    });
    let labels: Vec<String> = plan.groups.iter().map(PlannedGroup::label).collect();
    assert_eq!(
        labels,
        [
            "depth 28, residual",
            "depth 28, plain",
            "depth 40, residual",
            "depth 40, plain"
        ]
    );
    let order: Vec<(u64, usize)> = plan.runs.iter().map(|run| (run.seed, run.group)).collect();
    assert_eq!(
        order,
        [
            (1, 0),
            (1, 1),
            (1, 2),
            (1, 3),
            (2, 0),
            (2, 1),
            (2, 2),
            (2, 3)
        ]
    );
    assert_eq!(plan.runs[7].folder_name(), "depth40-plain-seed-2");
    assert!(!plan.runs[7].settings.shortcuts);
    assert_eq!(plan.runs_of(3).count(), 2);
}

#[test]
fn without_flags_a_run_is_the_posts_with_the_correct_protocol() {
    let plan = plan(&options());
    let expected = Settings {
        preset: Some(Preset::Depth40),
        depth: 40,
        seed: 2,
        ..Settings::default()
    };
    assert_eq!(plan.runs[3].settings, expected);
    assert_eq!(
        (
            plan.groups[0].parameters,
            plan.groups[0].multiply_accumulates
        ),
        (26_815_683, 4_831_641_600)
    );
    assert_eq!(plan.groups[0].mismatch, None);
}

#[test]
fn the_posts_protocol_takes_its_sampler_and_its_validation() {
    let plan = plan(&SweepOptions {
        protocol: Protocol::Blog,
        ..options()
    });
    for run in &plan.runs {
        assert_eq!(run.settings.sampler, Sampler::Blog);
        assert_eq!(run.settings.validation, Validation::Test);
    }
}

#[test]
fn matched_depths_are_narrower_and_say_by_how_much_they_miss() {
    let plan = plan(&SweepOptions {
        depths: vec![28, 100],
        plain: true,
        matching: Matching::Parameters,
        width: Some("0.25".to_owned()),
        ..options()
    });
    let [first, plain, deep, _] = &plan.groups[..] else {
        panic!("{:?}", plan.groups);
    };
    assert_eq!((first.width, first.mismatch), (0.25, Some(0.0)));
    assert!(plain.width > 0.25, "no projection has a parameter there");
    assert!(deep.width < 0.25);
    for group in &plan.groups {
        let share = group.parameters as f64 / first.parameters as f64 - 1.0;
        let mismatch = group.mismatch.expect("something is matched");
        assert!((share - mismatch).abs() < 1e-12);
        // The two heads grow by 2 * 16 * 16 * 256 parameters with each 16 features, 6 % of this model.
        assert!(share.abs() < 0.03, "{share}");
    }
    assert_eq!(plan.runs[2].settings.width, deep.width);
}

#[test]
fn the_demo_trains_on_the_sample_and_takes_flags() {
    let plan = plan(&SweepOptions {
        preset: Some(SweepPreset::Demo),
        epochs: Some("2".to_owned()),
        ..options()
    });
    for run in &plan.runs {
        assert!(run.settings.embedded_data().is_some());
        assert_eq!(run.settings.epochs, 2);
        assert_eq!(run.settings.width.to_string(), DEMO.width);
    }
}

#[test]
fn the_fast_sweep_has_the_fast_presets_settings() {
    let plan = plan(&SweepOptions {
        preset: Some(SweepPreset::Fast),
        protocol: Protocol::Blog,
        ..options()
    });
    for run in &plan.runs {
        let preset: Preset = format!("fast{}", run.settings.depth)
            .parse()
            .expect("a preset");
        let flags = TrainFlags {
            preset: Some(preset.to_string()),
            ..TrainFlags::default()
        };
        let expected = resolve(&flags, &|_| None).expect("settings").settings;
        let seed = run.seed;
        assert_eq!(run.settings, Settings { seed, ..expected });
    }
}

#[test]
fn impossible_sweeps_are_refused() {
    let refused = |options: SweepOptions, text: &str| {
        let message = Plan::new(&options).expect_err("refused").to_string();
        assert!(message.contains(text), "{message}");
    };
    refused(
        SweepOptions {
            depths: vec![28, 29],
            ..options()
        },
        "28, 40, 70",
    );
    refused(
        SweepOptions {
            depths: vec![28, 28],
            ..options()
        },
        "--depths",
    );
    refused(
        SweepOptions {
            seeds: 0,
            ..options()
        },
        "--seeds",
    );
    refused(
        SweepOptions {
            width: Some("-1".to_owned()),
            ..options()
        },
        "width",
    );
}
