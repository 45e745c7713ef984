//! Evaluation of a batch between the steps.

use burn::prelude::*;
use burn::tensor::DType;
use vae_core::{Depth, Sampler, VaeConfig};
use vae_device_step::{BatchTerms, DeviceStep, Weights};

use crate::{batch, bits, close, config, model, options, rates, reference, step, vulkan};

/// The terms of some images where full batches have `batch_size`.
fn evaluated(
    engine: &mut DeviceStep,
    config: &VaeConfig,
    (len, batch_size): (usize, usize),
    number: usize,
) -> BatchTerms {
    let inputs = batch(config, len, number, &vulkan());
    let pending = engine.evaluate(inputs.images, inputs.noise, Weights::Trained, batch_size);
    let terms = pending.expect("a device that works").wait();
    terms.expect("a device that works")
}

/// By Burn's operations in float64, with the running statistics that the model has.
fn by_burn(config: &VaeConfig, sampler: Sampler, len: usize, number: usize) -> [f64; 2] {
    let (model, inputs) = (
        model(config, &reference()),
        batch(config, len, number, &reference()),
    );
    let terms = resnet_blocks::with_plain_blocks(|| {
        let output = model.forward(inputs.images.tensor(), inputs.noise, sampler, None);
        output.terms
    });
    [terms.cross_entropy, terms.kl].map(|tensor: Tensor<1>| {
        let data = tensor.into_data().convert_dtype(DType::F64);
        let values = data.try_to_vec::<f64>().expect("converted just now");
        values.iter().sum()
    })
}

#[test]
fn a_batch_is_scored_as_by_burns_operations_launched_and_replayed() {
    for (depth, sampler) in [
        (Depth::Depth28, Sampler::Correct),
        (Depth::Depth40, Sampler::Blog),
    ] {
        let config = config(depth);
        let start = model(&config, &vulkan());
        let mut engine = DeviceStep::new(&start, options(sampler, true)).expect("known kernels");
        let mut launched = DeviceStep::new(&start, options(sampler, false)).expect("known kernels");
        // The first one is launched, the second one captured, the third one replayed; the same again for a larger one. A smaller one, the end of a split,
        // goes with the full batch's buffers, whose other images do not count, also where it is the first of all.
        let mut bytes = Vec::new();
        for (number, (len, batch_size)) in [
            (5, 5),
            (5, 5),
            (5, 5),
            (2, 5),
            (7, 7),
            (7, 7),
            (7, 7),
            (2, 5),
            (6, 7),
            (5, 5),
        ]
        .into_iter()
        .enumerate()
        {
            let of = (len, batch_size);
            let found = evaluated(&mut engine, &config, of, number);
            assert_eq!(found, evaluated(&mut launched, &config, of, number));
            if len < batch_size {
                let mut fresh =
                    DeviceStep::new(&start, options(sampler, true)).expect("known kernels");
                assert_eq!(found, evaluated(&mut fresh, &config, of, number));
                if batch_size == 5 {
                    assert_eq!(fresh.bytes(), bytes[0], "as for a full batch");
                }
            }
            let [cross_entropy, kl] = by_burn(&config, sampler, len, number);
            assert!(
                close(found.cross_entropy, cross_entropy, 1e-4) && close(found.kl, kl, 1e-4),
                "{found:?}, {cross_entropy} and {kl} by Burn's"
            );
            bytes.push(engine.bytes());
        }
        // Maps of two sizes, and no more for the others.
        let (of_five, of_seven) = (&bytes[..4], &bytes[4..]);
        assert!(
            of_five.iter().all(|bytes| *bytes == of_five[0]),
            "{bytes:?}"
        );
        assert!(
            of_seven.iter().all(|bytes| *bytes == of_seven[0]),
            "{bytes:?}"
        );
        assert!(of_seven[0] > of_five[0], "{bytes:?}");
        assert!(engine.is_captured(), "{:?}", engine.capture_failure());
    }
}

#[test]
fn evaluation_leaves_training_as_it_was_and_needs_no_maps_of_its_own() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let options = options(Sampler::Correct, true);
    let mut engine = DeviceStep::new(&start, options).expect("known kernels");
    let mut other = DeviceStep::new(&start, options).expect("known kernels");
    for number in 0..5 {
        let inputs = || batch(&config, 4, number, &vulkan());
        let found = step(&mut engine, inputs(), rates(1.0));
        assert_eq!(found, step(&mut other, inputs(), rates(1.0)), "{number}");
        let first = evaluated(&mut engine, &config, (4, 4), 30 + number);
        let second = evaluated(&mut engine, &config, (4, 4), 30 + number);
        assert_eq!(first, second);
    }
    assert!(bits(&engine, &config) == bits(&other, &config));
    // But for the statistics that are no batch's.
    let (with, without) = (engine.bytes(), other.bytes());
    assert!(with - without < without / 50, "{with} and {without} bytes");
}
