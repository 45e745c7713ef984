//! Draws from posteriors whose encoder ran once, for bounds with many of them.

use burn::tensor::DType;
use vae_core::{Depth, Sampler};
use vae_device_step::{DeviceStep, Weights};

use crate::{batch, bits, close, config, model, options, reference, vulkan};

/// A draw's terms are an evaluation's with the same noise, to the bit, and posteriors those of Burn's operations in float64.
#[test]
fn a_draw_is_an_evaluation_without_its_encoder() {
    for (depth, sampler) in [
        (Depth::Depth28, Sampler::Correct),
        (Depth::Depth40, Sampler::Blog),
    ] {
        let config = config(depth);
        let start = model(&config, &vulkan());
        let mut engine = DeviceStep::new(&start, options(sampler, true)).expect("known kernels");
        let mut launched = DeviceStep::new(&start, options(sampler, false)).expect("known kernels");
        let before = bits(&engine, &config);
        // The last ones are the end of a split.
        for (number, len) in [4, 4, 4, 3].into_iter().enumerate() {
            let images = || batch(&config, len, number, &vulkan()).images;
            let posteriors = engine.encode(images(), 4).expect("a device that works");
            assert_eq!(posteriors, launched.encode(images(), 4).expect("launched"));
            let inputs = batch(&config, len, number, &reference());
            let output = resnet_blocks::with_plain_blocks(|| {
                let reference = model(&config, &reference());
                reference.forward(inputs.images.tensor(), inputs.noise, sampler, None)
            });
            let expected = [output.posterior.mean, output.posterior.log_variance];
            for (found, expected) in [posteriors.mean, posteriors.log_variance]
                .iter()
                .zip(expected)
            {
                let expected = expected.into_data().convert_dtype(DType::F64);
                let expected = expected.try_to_vec::<f64>().expect("converted just now");
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    let found = f64::from(*found);
                    assert!(close(found, expected, 1e-4), "{found} and {expected}");
                }
            }
            for draw in 0..4 {
                let noise = || batch(&config, len, 50 + 7 * draw + number, &vulkan()).noise;
                let drawn = |engine: &mut DeviceStep| {
                    let pending = engine.draw(images(), noise(), 4).expect("encoded");
                    pending.wait().expect("a device that works")
                };
                let found = drawn(&mut engine);
                assert_eq!(found, drawn(&mut launched), "draw {draw}");
                assert_eq!(found.len(), len);
                let pending = launched.evaluate(images(), noise(), Weights::Trained, 4);
                let evaluated = pending.expect("asked").wait().expect("a device that works");
                let sum: f64 = found.iter().map(|nll| f64::from(*nll)).sum();
                assert_eq!(sum, evaluated.cross_entropy, "draw {draw}");
            }
        }
        assert!(engine.is_captured(), "{:?}", engine.capture_failure());
        assert!(bits(&engine, &config) == before, "draws change nothing");
        let few = batch(&config, 2, 0, &vulkan());
        assert!(engine.draw(few.images, few.noise, 2).is_err());
    }
}
