//! Runs whose batches are divided, over micro-batches and devices; and other ways to compute the same steps.

use std::path::Path;

use burn::tensor::DType;

use super::tests::{
    FIRST_EPOCH, assert_equal_runs, run, silent, skipped_steps_change_nothing,
    stopped_and_continued, tiny,
};
use super::*;
use crate::ranks::RanksError;
use crate::ranks::threads::on_ranks;
use crate::step::fault::{Fault, FaultSite};
use run_files::run_folder::read_settings;
use run_files::settings::Precision;

#[test]
fn a_skipped_step_of_several_micro_batches_changes_no_byte_either() {
    skipped_steps_change_nothing(&Settings {
        micro_batch_size: Some(2),
        ..tiny()
    });
}

#[test]
fn a_micro_batch_of_the_whole_batch_is_the_same_run() {
    let (plain, whole) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    run(&tiny(), plain.path());
    let settings = Settings {
        micro_batch_size: Some(10),
        ..tiny()
    };
    run(&settings, whole.path());
    assert_equal_runs(plain.path(), whole.path(), "one micro-batch");
}

fn rows(run_dir: &Path) -> Vec<run_files::metrics::EpochRow> {
    run_files::metrics::read_rows(&run_dir.join("metrics.jsonl")).expect("readable")
}

#[test]
fn two_devices_two_micro_batches_and_two_shards_are_the_same_run() {
    let runs = [
        Settings {
            device: "flex,flex".parse().expect("two"),
            ..tiny()
        },
        Settings {
            micro_batch_size: Some(5),
            ..tiny()
        },
        Settings {
            shards: 2,
            ..tiny()
        },
        tiny(),
    ];
    let folders = runs.map(|settings| {
        let folder = tempfile::tempdir().expect("a folder");
        run(&settings, folder.path());
        folder
    });
    let [devices, micro_batches, shards, undivided] = &folders;
    assert_eq!(rows(devices.path()).len(), 3);
    assert_equal_runs(devices.path(), micro_batches.path(), "micro-batches");
    assert_equal_runs(devices.path(), shards.path(), "shards");
    assert_ne!(
        rows(devices.path())[0].train,
        rows(undivided.path())[0].train
    );
}

/// Trains on so many ranks; one of them may be asked to stop at one of its looks, or be given faults.
fn run_on_ranks(
    settings: &Settings,
    run_dir: &Path,
    count: usize,
    stopped: Option<(usize, usize)>,
    faults: &[(usize, Fault)],
) -> Vec<Result<(), TrainError>> {
    on_ranks(count, |ranks| {
        let stop = match stopped {
            Some((rank, look)) if rank == ranks.rank() => StopRequest::after_polls(look),
            _ => StopRequest::new(),
        };
        let options = TrainOptions {
            resume: true,
            ranks: Some(ranks),
            ..TrainOptions::new(run_dir, &stop)
        };
        let settings = divided(settings, ranks)?;
        let mut progress = silent();
        let mut training = Training::prepare(&settings, options, &Device::flex(), &mut progress)?;
        let own = faults.iter().filter(|(rank, _)| *rank == ranks.rank());
        training.faults = FaultInjector::new(own.map(|(_, fault)| *fault).collect());
        training.run(&mut progress)
    })
}

fn in_four_shards() -> Settings {
    Settings {
        shards: 4,
        batch_size: 9,
        dropout: 0.1,
        free_bits: Some(0.01),
        ema: Some(0.9),
        ..tiny()
    }
}

#[test]
fn one_two_and_four_ranks_are_the_same_run() {
    let settings = in_four_shards();
    let whole = tempfile::tempdir().expect("a folder");
    run(&settings, whole.path());
    for count in [2, 4] {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = run_on_ranks(&settings, folder.path(), count, None, &[]);
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert_equal_runs(whole.path(), folder.path(), "ranks");
    }
}

#[test]
fn shards_that_share_their_norms_are_the_same_run_on_any_number_of_ranks() {
    let settings = Settings {
        sync_norm: true,
        // The last batch of an epoch has fewer shards than there are ranks.
        batch_size: 9,
        shards: 4,
        dropout: 0.1,
        ..tiny()
    };
    let [whole, apart] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    run(&settings, whole.path());
    let not_shared = Settings {
        sync_norm: false,
        ..settings.clone()
    };
    run(&not_shared, apart.path());
    assert_ne!(rows(whole.path())[0].train, rows(apart.path())[0].train);
    for count in [2, 4] {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = run_on_ranks(&settings, folder.path(), count, None, &[]);
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert_equal_runs(whole.path(), folder.path(), "ranks");
    }
    for refused in [
        Settings {
            micro_batch_size: Some(2),
            ..settings.clone()
        },
        Settings {
            free_bits: Some(0.1),
            ..settings.clone()
        },
        Settings {
            device: "ndarray".parse().expect("a device"),
            ..settings.clone()
        },
    ] {
        let found = divided(&refused, &Ranks::alone());
        assert!(matches!(found, Err(RanksError::NoSharedNorms { .. })));
    }
}

#[test]
fn a_run_that_one_rank_is_asked_to_stop_goes_on_with_any_number_of_ranks() {
    let settings = in_four_shards();
    let whole = tempfile::tempdir().expect("a folder");
    run(&settings, whole.path());
    // Within an epoch, and within a validation.
    for (look, counts) in [(3, [4, 1]), (9, [2, 4]), (4, [1, 2])] {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, second] = counts;
        let stopped = Some((first - 1, look));
        for ended in run_on_ranks(&settings, folder.path(), first, stopped, &[]) {
            let error = ended.expect_err("stopped");
            assert!(matches!(error, TrainError::Stopped { .. }), "{error}");
        }
        let ended = run_on_ranks(&settings, folder.path(), second, None, &[]);
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert_equal_runs(
            whole.path(),
            folder.path(),
            &format!("look {look}, {counts:?}"),
        );
    }
}

/// The check of the weights after each epoch compares what the ranks hold.
#[test]
fn a_step_that_is_not_finite_on_one_rank_is_skipped_by_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let fault = Fault {
        step: 2,
        site: FaultSite::Input,
        value: f32::NAN,
    };
    let ended = run_on_ranks(&in_four_shards(), folder.path(), 2, None, &[(1, fault)]);
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let skipped = rows(folder.path())
        .iter()
        .map(|row| row.skipped_steps)
        .sum::<u32>();
    assert_eq!(skipped, 1);
}

#[test]
fn ranks_that_would_train_something_else_are_refused_by_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = on_ranks(2, |ranks| {
        let settings = Settings {
            learning_rate: if ranks.is_first() { 0.001 } else { 0.002 },
            ..in_four_shards()
        };
        let stop = StopRequest::new();
        let options = TrainOptions {
            ranks: Some(ranks),
            ..TrainOptions::new(folder.path(), &stop)
        };
        train(&settings, options, &Device::flex(), &mut silent())
    });
    for ended in ended {
        let error = ended.expect_err("they differ");
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        let expected = "rank 1 of 2 has another `learning_rate` than rank 0: 0.002, not 0.001;";
        assert!(text.starts_with(expected), "{text}");
    }
    assert!(!folder.path().join("config.json").exists());
}

#[test]
fn shards_that_cannot_be_divided_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (shards, devices, batch_size, texts) in [
        (
            2,
            "flex,flex,flex",
            12,
            [
                "2 shards cannot be divided",
                "give as many ranks and devices as divide 2",
            ],
        ),
        (
            8,
            "flex",
            10,
            ["10 images has no 8 shards", "`--batch-size` 16"],
        ),
    ] {
        let settings = Settings {
            shards,
            device: devices.parse().expect("devices"),
            batch_size,
            ..tiny()
        };
        let stop = StopRequest::new();
        let options = TrainOptions::new(folder.path(), &stop);
        let error = train(&settings, options, &Device::flex(), &mut silent());
        let text = error.expect_err("refused").to_string();
        assert!(texts.iter().all(|wanted| text.contains(wanted)), "{text}");
    }
}

#[test]
fn a_run_on_two_devices_is_continued_to_the_bit() {
    let settings = Settings {
        device: "flex,flex".parse().expect("two"),
        micro_batch_size: Some(3),
        dropout: 0.1,
        ..tiny()
    };
    let whole = tempfile::tempdir().expect("a folder");
    run(&settings, whole.path());
    stopped_and_continued(&settings, whole.path(), 4).expect("stopped within the run");
}

#[test]
fn a_run_on_several_devices_records_shards_that_fewer_devices_go_on_with() {
    let on = |devices: &str, shards| Settings {
        device: devices.parse().expect("devices"),
        shards,
        batch_size: 8,
        ..tiny()
    };
    let four = "flex,flex,flex,flex";
    for (begun, shards, continued) in [("flex,flex", 2, "flex"), (four, 4, "flex,flex")] {
        let [whole, folder] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        // Nobody names a number of shards; the run records it.
        let train_until = |path: &Path, stop: &StopRequest| {
            let options = TrainOptions::new(path, stop);
            train(&on(begun, 1), options, &Device::flex(), &mut silent())
        };
        train_until(whole.path(), &StopRequest::new()).expect("trained");
        let ended = train_until(folder.path(), &StopRequest::after_polls(4));
        assert!(
            matches!(ended, Err(TrainError::Stopped { .. })),
            "{ended:?}"
        );
        let recorded = read_settings(folder.path()).expect("a configuration");
        assert_eq!(recorded.shards, shards);
        run(&on(continued, recorded.shards), folder.path());
        assert_equal_runs(whole.path(), folder.path(), continued);
    }
}

#[test]
fn a_skipped_step_on_two_devices_changes_no_byte_either() {
    skipped_steps_change_nothing(&Settings {
        device: "flex,flex".parse().expect("two"),
        ..tiny()
    });
}

#[test]
fn a_run_with_gradient_checkpointing_is_the_same_run() {
    let (plain, checkpointing) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    run(&tiny(), plain.path());
    let settings = Settings {
        gradient_checkpointing: true,
        ..tiny()
    };
    run(&settings, checkpointing.path());
    assert_equal_runs(plain.path(), checkpointing.path(), "checkpointing");
}

#[test]
fn a_run_in_micro_batches_is_continued_to_the_bit() {
    let settings = Settings {
        micro_batch_size: Some(4),
        dropout: 0.1,
        ..tiny()
    };
    let whole = tempfile::tempdir().expect("a folder");
    run(&settings, whole.path());
    stopped_and_continued(&settings, whole.path(), 4).expect("stopped within the run");
}

#[test]
fn parameters_statistics_and_moments_stay_float32_with_products_in_bfloat16() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        precision: Precision::Bf16,
        ..tiny()
    };
    let stop = StopRequest::new();
    let options = TrainOptions::new(folder.path(), &stop);
    let mut progress = silent();
    let training =
        Training::prepare(&settings, options, &Device::flex(), &mut progress).expect("prepared");
    let (mut active, _) = training.start(&mut progress).expect("started");
    let batch = training.splits.train.batch(&[0, 1, 2, 3, 4]);
    for _ in 0..2 {
        training
            .step(
                &mut active,
                &FIRST_EPOCH,
                batch.to_tensor(&training.device).into(),
            )
            .expect("a step");
    }
    assert_eq!(active.state.updates, 2);
    let is_float32 = |dtype: &DType| *dtype == DType::F32;
    let moments = active.engine.adam().element_types();
    assert!(!moments.is_empty() && moments.iter().all(is_float32));
    for parameter in resnet_blocks::named_parameters(&active.engine.model().valid()) {
        let dtype = parameter.data.dtype();
        assert!(is_float32(&dtype), "{}: {dtype:?}", parameter.name);
        // Float32 holds what an update of 0.001 leaves; in bfloat16 every value would be a multiple of 2^16 ulps.
        if parameter.name == "decoder.dense.weight" {
            let values = parameter.data.try_to_vec::<f32>().expect("float32");
            assert!(values.iter().any(|value| value.to_bits() & 0xFFFF != 0));
        }
    }
}

#[test]
fn a_run_cannot_change_its_precision() {
    let folder = tempfile::tempdir().expect("a folder");
    let short = Settings {
        epochs: 1,
        ..tiny()
    };
    run(&short, folder.path());
    let stop = StopRequest::new();
    let changed = Settings {
        precision: Precision::Bf16,
        ..short
    };
    let options = TrainOptions {
        resume: true,
        allow_config_change: true,
        ..TrainOptions::new(folder.path(), &stop)
    };
    let refused = Training::prepare(&changed, options, &Device::flex(), &mut silent()).err();
    let message = refused.expect("refused").to_string();
    assert!(message.contains("precision: f32 -> bf16"), "{message}");
}
