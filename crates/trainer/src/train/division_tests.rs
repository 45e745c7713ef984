//! Runs whose batches are divided, over micro-batches and devices; and other ways to compute the same steps.

use burn::tensor::DType;

use super::tests::{
    FIRST_EPOCH, assert_equal_runs, best_epoch, run, silent, skipped_steps_change_nothing,
    stopped_and_continued, tiny,
};
use super::*;
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
fn two_devices_train_as_two_micro_batches_do() {
    let (devices, micro_batches) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let on_two = Settings {
        device: "flex,flex".parse().expect("two"),
        ..tiny()
    };
    run(&on_two, devices.path());
    let in_two = Settings {
        micro_batch_size: Some(5),
        ..tiny()
    };
    run(&in_two, micro_batches.path());
    // The same gradients, so the same weights and the same training loss in every epoch, to the bit.
    let (devices, micro_batches) = (devices.path(), micro_batches.path());
    for (first, second) in rows(devices).iter().zip(rows(micro_batches)) {
        assert_eq!(first.train, second.train, "epoch {}", first.epoch);
    }
    assert_eq!(rows(devices).len(), 3);
    let weights = |folder: &Path| {
        let bytes = std::fs::read(folder.join("model.safetensors")).expect("readable");
        crate::experiment::weights::from_safetensors(&bytes).expect("weights")
    };
    let (first, second) = (weights(devices), weights(micro_batches));
    if best_epoch(devices) == best_epoch(micro_batches) {
        for (name, values) in &first {
            // Two micro-batches update the running statistics twice a step, the main device of two once.
            let is_statistic = name.contains("running");
            assert!(is_statistic || values == &second[name], "{name}");
        }
    }
    assert!(first != second, "running statistics differ");
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
            .step(&mut active, &FIRST_EPOCH, batch.to_tensor(&training.device))
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
