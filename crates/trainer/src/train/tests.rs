//! Runs that are stopped everywhere and continued, and steps that are not finite.

use std::path::Path;

use super::batches::PresentEpoch;
use super::*;
use crate::experiment::model::{Model, model_config};
use crate::experiment::weights::named_values;
use crate::process::progress::ProgressMode;
use crate::step::fault::{Fault, FaultSite};
use run_files::fault_cases::{cases, passed};
use run_files::settings::{Augment, CheckpointInterval, Preset};

pub(super) const FIRST_EPOCH: PresentEpoch<'static> = PresentEpoch {
    number: 1,
    shown: None,
};

/// Three epochs of six steps, of a second together.
pub(super) fn tiny() -> Settings {
    Settings {
        preset: Some(Preset::Demo),
        depth: 28,
        width: 0.02,
        latent_dim: 4,
        intermediate_dim: 16,
        batch_size: 10,
        epochs: 3,
        limit_train: Some(60),
        limit_test: Some(10),
        ..Settings::default()
    }
}

pub(super) fn silent() -> Progress {
    Progress::with_writers(
        ProgressMode::Plain,
        Box::new(std::io::sink()),
        Box::new(std::io::sink()),
    )
}

fn run_with(
    settings: &Settings,
    run_dir: &Path,
    stop: &StopRequest,
    faults: &[Fault],
) -> Result<(), TrainError> {
    let options = TrainOptions {
        run_dir,
        resume: true,
        allow_config_change: false,
        from_best: false,
        stop,
        ranks: None,
    };
    let mut progress = silent();
    let mut training = Training::prepare(settings, options, &Device::flex(), &mut progress)?;
    training.faults = FaultInjector::new(faults.to_vec());
    training.run(&mut progress)
}

pub(super) fn run(settings: &Settings, run_dir: &Path) {
    run_with(settings, run_dir, &StopRequest::new(), &[]).expect("trained");
}

pub(super) fn assert_equal_runs(first: &Path, second: &Path, case: &str) {
    for name in [
        "metrics.jsonl",
        "metrics.csv",
        "model.safetensors",
        "summary.json",
    ] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).expect("readable");
        assert!(read(first) == read(second), "{case}: {name} differs");
    }
}

/// Stops at one look, continues, and compares with a run that was not stopped. None where the run ended before.
pub(super) fn stopped_and_continued(settings: &Settings, whole: &Path, look: usize) -> Option<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let stop = StopRequest::after_polls(look);
    match run_with(settings, folder.path(), &stop, &[]) {
        Ok(()) => return None,
        Err(TrainError::Stopped { .. }) => {}
        Err(other) => panic!("look {look}: {other}"),
    }
    run(settings, folder.path());
    assert_equal_runs(whole, folder.path(), &format!("stopped at look {look}"));
    Some(())
}

#[test]
fn faults_resume_points_give_the_same_run() {
    // Halving after one epoch and stopping after two without improvement: both edges lie within the run.
    let edges = Settings {
        learning_rate: 0.05,
        halving_patience: 1,
        stopping_patience: 2,
        epochs: 5,
        checkpoint_every: Some(CheckpointInterval::Steps(4)),
        ..tiny()
    };
    let drawn = Settings {
        dropout: 0.2,
        augment: Augment::FlipCrop,
        seed: 9,
        ..tiny()
    };
    let mut count = 0;
    // A run looks before each of the 6 steps of an epoch and before each of the 2 batches of its validation: the first
    // step, the second, the middle, the last, the validation, the border of the epoch; then later epochs.
    for (settings, looks) in [
        (tiny(), [5, 6, 0, 1]),
        (edges, [14, 16, 15, 17]),
        (drawn, [3, 8, 7, 13]),
    ] {
        let whole = tempfile::tempdir().expect("a folder");
        run(&settings, whole.path());
        let looks = match cases(2, 4, usize::MAX) {
            usize::MAX => (0..100).collect(),
            some => looks[..some].to_vec(),
        };
        for look in looks {
            if stopped_and_continued(&settings, whole.path(), look).is_none() {
                break;
            }
            count += 1;
        }
    }
    assert!(count >= cases(6, 12, 60), "{count} cases");
    passed("resume points", count);
}

#[test]
fn checkpoints_within_an_epoch_do_not_change_a_run() {
    let (plain, often) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    run(&tiny(), plain.path());
    let settings = Settings {
        checkpoint_every: Some(CheckpointInterval::Steps(1)),
        ..tiny()
    };
    run(&settings, often.path());
    assert_equal_runs(plain.path(), often.path(), "a checkpoint a step");
}

#[test]
fn faults_non_finite_steps_are_skipped_and_counted() {
    let mut count = 0;
    for value in [f32::NAN, f32::INFINITY] {
        for site in [FaultSite::Input, FaultSite::Loss, FaultSite::Gradient] {
            for step in (0..cases(2, 2, 10) as u64).map(|case| 7 * case % 17) {
                let folder = tempfile::tempdir().expect("a folder");
                let fault = Fault { step, site, value };
                run_with(&tiny(), folder.path(), &StopRequest::new(), &[fault]).expect("trained");
                let rows = run_files::metrics::read_rows(&folder.path().join("metrics.jsonl"))
                    .expect("readable");
                let skipped: Vec<u32> = rows.iter().map(|row| row.skipped_steps).collect();
                let mut expected = vec![0; 3];
                expected[step as usize / 6] = 1;
                assert_eq!(skipped, expected, "{fault:?}");
                for row in &rows {
                    assert!(
                        row.numbers().iter().all(|number| number.is_finite()),
                        "{fault:?}"
                    );
                }
                let bytes =
                    std::fs::read(folder.path().join("model.safetensors")).expect("readable");
                let weights =
                    crate::experiment::weights::from_safetensors(&bytes).expect("weights");
                let mut values = weights.values().flat_map(|(_, values)| values);
                assert!(values.all(|value| value.is_finite()), "{fault:?}");
                count += 1;
            }
        }
    }
    passed("non-finite steps", count);
}

type Everything = (
    crate::experiment::weights::NamedValues,
    crate::experiment::weights::NamedValues,
    u64,
);

/// With the names of what differs, where `assert_eq` would print every weight.
fn assert_same(found: &Everything, expected: &Everything) {
    for (found, expected) in [(&found.0, &expected.0), (&found.1, &expected.1)] {
        let differing: Vec<&String> = expected
            .iter()
            .filter(|(name, value)| found.get(*name) != Some(value))
            .map(|(name, _)| name)
            .collect();
        assert!(differing.is_empty(), "{differing:?}");
        assert_eq!(found.len(), expected.len());
    }
    assert_eq!(found.2, expected.2);
}

#[test]
fn a_skipped_step_changes_no_byte_of_weights_moments_and_statistics() {
    skipped_steps_change_nothing(&tiny());
}

pub(super) fn skipped_steps_change_nothing(settings: &Settings) {
    let folder = tempfile::tempdir().expect("a folder");
    let stop = StopRequest::new();
    let options = TrainOptions {
        run_dir: folder.path(),
        resume: true,
        allow_config_change: false,
        from_best: false,
        stop: &stop,
        ranks: None,
    };
    let mut progress = silent();
    let mut training =
        Training::prepare(settings, options, &Device::flex(), &mut progress).expect("prepared");
    let sites = [FaultSite::Input, FaultSite::Loss, FaultSite::Gradient];
    let faults = sites.into_iter().zip(1..).map(|(site, step)| Fault {
        step,
        site,
        value: f32::NAN,
    });
    training.faults = FaultInjector::new(faults.collect());
    let (mut active, _) = training.start(&mut progress).expect("started");
    let batch = training.splits.train.batch(&[0, 1, 2, 3, 4]);
    let images = || batch.to_tensor(&training.device);
    training
        .step(&mut active, &FIRST_EPOCH, images().into())
        .expect("a step");
    assert_eq!(active.state.updates, 1);
    let everything = |active: &ActiveRun| {
        (
            named_values(&active.engine.model().valid()),
            active.engine.optimizer(),
            active.engine.adam().steps(),
        )
    };
    let before = everything(&active);
    for _ in 0..3 {
        training
            .step(&mut active, &FIRST_EPOCH, images().into())
            .expect("a step");
        assert_eq!(active.state.updates, 1);
        assert_same(&everything(&active), &before);
    }
    training
        .step(&mut active, &FIRST_EPOCH, images().into())
        .expect("a step");
    assert!(everything(&active) != before);
    assert_eq!((active.state.step, active.state.updates), (5, 2));
}

#[test]
fn ten_steps_in_a_row_that_are_not_finite_stop_with_a_report_and_can_be_continued() {
    let folder = tempfile::tempdir().expect("a folder");
    let faults: Vec<Fault> = (8..18)
        .map(|step| Fault {
            step,
            site: FaultSite::Gradient,
            value: f32::NAN,
        })
        .collect();
    let error =
        run_with(&tiny(), folder.path(), &StopRequest::new(), &faults).expect_err("ten in a row");
    assert_eq!(error.exit_code(), 30);
    let message = error.to_string();
    for text in [
        "divergence.json",
        "--allow-config-change --learning-rate 0.0001",
        "step 17",
    ] {
        assert!(message.contains(text), "{message}");
    }
    let report = std::fs::read(folder.path().join("divergence.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["step"], 17);
    assert_eq!(report["epoch"], 3);
    assert_eq!(report["term"], "gradient");
    assert_eq!(report["parameter"], "decoder.dense.weight");
    assert_eq!(report["skipped_in_a_row"], 10);
    let losses = report["last_losses"].as_array().expect("losses");
    assert_eq!(losses.len(), 18);
    assert!(losses[17]["loss"].as_f64().is_some_and(f64::is_finite));

    // Nine are not too many, and the checkpoint from before the faults still works.
    run_with(&tiny(), folder.path(), &StopRequest::new(), &faults[..9]).expect("continued");
}

pub(super) fn best_epoch(folder: &Path) -> u64 {
    let bytes = std::fs::read(folder.join("summary.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    summary["best"]["epoch"].as_u64().expect("an epoch")
}

#[test]
fn going_back_to_the_best_epoch_forgets_what_came_after() {
    let run_dir = tempfile::tempdir().expect("a folder");
    // Validation is best after the first epoch, as a rate of 0.05 leads nowhere.
    let rough = Settings {
        learning_rate: 0.05,
        ..tiny()
    };
    run(&rough, run_dir.path());
    let best = best_epoch;
    assert!(
        best(run_dir.path()) < 3,
        "the case needs a best epoch before the last"
    );
    let whole = std::fs::read(run_dir.path().join("metrics.jsonl")).expect("readable");
    let stop = StopRequest::new();
    let options = TrainOptions {
        run_dir: run_dir.path(),
        resume: true,
        allow_config_change: false,
        from_best: true,
        stop: &stop,
        ranks: None,
    };
    let mut progress = silent();
    let training =
        Training::prepare(&rough, options, &Device::flex(), &mut progress).expect("prepared");
    let (active, is_new) = training.start(&mut progress).expect("started");
    assert!(!is_new);
    assert_eq!(u64::from(active.state.epoch), best(run_dir.path()));
    let positions = training
        .folder
        .checkpoints(training.parameters)
        .positions()
        .expect("listed");
    assert_eq!(positions.last(), Some(&active.state.position()));
    // The same settings lead to the same end again.
    training.run(&mut progress).expect("trained");
    assert!(std::fs::read(run_dir.path().join("metrics.jsonl")).expect("readable") == whole);
}

#[test]
fn a_loss_that_is_not_finite_names_a_parameter_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let faults: Vec<Fault> = (0..10)
        .map(|step| Fault {
            step,
            site: FaultSite::Input,
            value: f32::NAN,
        })
        .collect();
    run_with(&tiny(), folder.path(), &StopRequest::new(), &faults).expect_err("ten in a row");
    let report = std::fs::read(folder.path().join("divergence.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["term"], "cross-entropy");
    assert!(report["parameter"].is_string(), "{report}");
    assert!(report["last_losses"][9]["loss"].is_null());
}

#[test]
fn a_learning_rate_of_1e20_never_leaves_a_value_that_is_not_finite() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        learning_rate: 1e20,
        ..tiny()
    };
    // It diverges or it does not; either way what is on the disk is finite.
    let ended = run_with(&settings, folder.path(), &StopRequest::new(), &[]);
    if let Err(error) = &ended {
        assert_eq!(error.exit_code(), 30, "{error}");
    }
    let parameters = Model::new(&model_config(&settings).expect("a model"), &Device::flex());
    let parameters = parameters.num_params();
    let checkpoints = run_files::checkpoint::CheckpointFolder::of_run(folder.path(), parameters);
    for (position, checkpoint) in checkpoints.check_all().expect("listed") {
        let checkpoint = checkpoint.expect("intact");
        for (name, (_, values)) in checkpoint.model.iter().chain(&checkpoint.optimizer) {
            assert!(
                values.iter().all(|value| value.is_finite()),
                "{position}: {name}"
            );
        }
    }
}

#[test]
fn large_gradients_are_skipped_only_where_that_is_asked_for() {
    let spike = Fault {
        step: 30,
        site: FaultSite::Gradient,
        value: 1e6,
    };
    let longer = Settings {
        epochs: 6,
        ..tiny()
    };
    for (factor, expected) in [(None, 0), (Some(100.0), 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            skip_gradient_norm: factor,
            ..longer.clone()
        };
        run_with(&settings, folder.path(), &StopRequest::new(), &[spike]).expect("trained");
        let rows =
            run_files::metrics::read_rows(&folder.path().join("metrics.jsonl")).expect("readable");
        assert_eq!(rows[5].skipped_steps, expected);
    }
}
