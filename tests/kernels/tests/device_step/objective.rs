//! Free bits, the average of the weights, and blocks that are computed again.

use vae_core::{Depth, Precision, Sampler, Vae};
use vae_device_step::{DeviceStep, StepForm, StepOptions, StepRates, Weights, step_bytes};

use crate::parity::check_gradients_with;
use crate::{batch, bits, config, model, options, rates, step, values, vulkan, with_shapes};

/// Between the means of the model's latent dimensions, so that some are free and some are not.
const FREE: f64 = 1.9;

fn with_free_bits(is_captured: bool) -> StepOptions {
    StepOptions {
        free_bits: Some(FREE),
        ..options(Sampler::Correct, is_captured)
    }
}

/// Each dimension's mean divergence over the batch that gradients are checked with.
fn kl_means(engine: &mut DeviceStep) -> Vec<f64> {
    let inputs = batch(&config(Depth::Depth28), 5, 1, &vulkan());
    let sums = engine.kl_sums(inputs).expect("a device that works");
    sums.into_iter().map(|sum| f64::from(sum) / 5.0).collect()
}

#[test]
fn free_bits_have_the_gradients_of_the_maximum() {
    let config = config(Depth::Depth28);
    let outcome = check_gradients_with(&config, with_free_bits(false), 0.5);
    let start = model(&config, &vulkan());
    let mut engine = DeviceStep::new(&start, with_free_bits(false)).expect("known kernels");
    let means = kl_means(&mut engine);
    let free = means.iter().filter(|mean| **mean < FREE).count();
    assert!((1..means.len()).contains(&free), "{means:?}");
    assert!((means.iter().sum::<f64>() - outcome.kl / 5.0).abs() < 1e-5);
    let expected: f64 = means.iter().map(|mean| mean.max(FREE)).sum();
    let found = outcome.kl_with_free_bits.expect("there are free bits");
    assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
}

/// Whether a step under way will be taken is not known when the next one is asked for, and decides about that one's weight.
#[test]
fn the_weight_of_the_divergence_is_that_of_the_steps_that_were_taken() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let weight = |updates: u64| 0.1 * (1.0 + updates as f64);
    let options = options(Sampler::Correct, true);
    let inputs = |number: usize| {
        let mut inputs = batch(&config, 3, number, &vulkan());
        if [0, 3, 4].contains(&number) {
            inputs.noise = inputs.noise.mul_scalar(f32::NAN);
        }
        inputs
    };
    let mut waiting = DeviceStep::new(&start, options).expect("known kernels");
    let mut updates = 0;
    for number in 0..8 {
        updates = step(&mut waiting, inputs(number), rates(weight(updates))).updates;
    }
    assert_eq!(updates, 5);
    // Up to three are under way.
    let mut ahead = DeviceStep::new(&start, options).expect("known kernels");
    let (mut under_way, mut known) = (std::collections::VecDeque::new(), 0);
    for number in 0..8 {
        let rates = StepRates {
            kl_weights: std::array::from_fn(|more| weight(known + more as u64)),
            ..rates(1.0)
        };
        under_way.push_back(ahead.step(inputs(number), rates).expect("a step"));
        if under_way.len() > 3 {
            let oldest = under_way.pop_front().expect("three or more");
            let outcome = oldest.wait().expect("an outcome");
            ahead.observe(&outcome).expect("all products");
            known = outcome.updates;
        }
    }
    for pending in under_way {
        let outcome = pending.wait().expect("an outcome");
        ahead.observe(&outcome).expect("all products");
    }
    assert!(bits(&ahead, &config) == bits(&waiting, &config));
}

#[test]
fn a_shard_counts_the_dimensions_that_it_is_told_to() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let mut whole = DeviceStep::new(&start, with_free_bits(false)).expect("known kernels");
    step(&mut whole, batch(&config, 5, 1, &vulkan()), rates(0.5));
    let mut engine = DeviceStep::new(&start, with_free_bits(true)).expect("known kernels");
    // Replayed at last, with other slopes than before.
    for number in 0..4 {
        let slopes: Vec<f32> = match number {
            3 => {
                let counts = kl_means(&mut engine).into_iter();
                counts
                    .map(|mean| f32::from(u8::from(mean > FREE)))
                    .collect()
            }
            _ => vec![0.25 * number as f32; 6],
        };
        engine.set_kl_slopes(&slopes);
        let inputs = batch(&config, 5, 1, &vulkan());
        let pass = engine.pass(inputs, 1.0, rates(0.5)).expect("a pass");
        let pending = engine.update(&pass.values, pass.terms, rates(0.5));
        let outcome = pending.expect("an update").wait().expect("an outcome");
        engine.observe(&outcome).expect("all products");
        if number < 3 {
            // The same weights for the next pass.
            engine = DeviceStep::new(&start, with_free_bits(true)).expect("known kernels");
        }
    }
    assert!(
        engine.gradients().expect("gradients") == whole.gradients().expect("gradients"),
        "one shard is the batch"
    );
}

#[test]
fn the_average_goes_after_the_weights_and_is_scored_resumed_and_replayed() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let decay = 0.5;
    let run = |is_captured: bool, resumed_at: Option<usize>, is_refused: bool| {
        let options = StepOptions {
            average_decay: Some(decay),
            ..options(Sampler::Correct, is_captured)
        };
        let read = |engine: &DeviceStep| -> [Vae; 2] {
            let any = || model(&config, &vulkan());
            let average = engine.average(any()).expect("a device that works");
            [
                engine.model(any()).expect("a device that works"),
                average.expect("an average"),
            ]
        };
        let mut engine = DeviceStep::new(&start, options).expect("known kernels");
        if is_refused {
            engine.refuse_captures();
        }
        let mut expected = values(&start);
        let mut scores = Vec::new();
        for number in 0..6 {
            if resumed_at == Some(number) {
                let moments = engine.moments().expect("a device that works");
                let [weights, average] = read(&engine);
                engine = DeviceStep::new(&weights, options).expect("known kernels");
                engine.restore_average(&average);
                assert!(engine.restore(number as u64, &moments));
            }
            step(
                &mut engine,
                batch(&config, 4, number, &vulkan()),
                rates(1.0),
            );
            let [weights, average] = read(&engine);
            // What a checkpoint is made of, which no model is made for.
            let saved = engine.weights().expect("a device that works");
            assert!(saved == with_shapes(&weights), "the weights of a save");
            let saved = engine.averaged_weights().expect("a device that works");
            assert!(
                saved == Some(with_shapes(&average)),
                "the average of a save"
            );
            let rate = 1.0 - f64::min(decay, (1.0 + number as f64) / (10.0 + number as f64));
            let found = values(&average);
            for (name, weights) in values(&weights) {
                let pairs = expected.get_mut(&name).expect("the same names").iter_mut();
                for ((old, new), found) in pairs.zip(weights).zip(&found[&name]) {
                    let moved = f64::from(*old) + rate * (f64::from(new) - f64::from(*old));
                    assert!(
                        (f64::from(*found) - moved).abs() <= 1e-6 * moved.abs().max(0.1),
                        "{name}: {found} and {moved}"
                    );
                    *old = *found;
                }
            }
            // The average as weights of their own have the same scores.
            let inputs = || batch(&config, 4, 30 + number, &vulkan());
            let score = |engine: &mut DeviceStep, weights| {
                let pending = engine.evaluate(inputs().images, inputs().noise, weights, 4);
                let terms = pending.expect("a device that works").wait();
                terms.expect("a device that works")
            };
            let averaged = score(&mut engine, Weights::Averaged);
            let trained = score(&mut engine, Weights::Trained);
            assert_ne!(averaged, trained);
            let mut other = DeviceStep::new(&average, options).expect("known kernels");
            assert_eq!(score(&mut other, Weights::Trained), averaged);
            scores.push((averaged, trained));
        }
        assert_eq!(engine.capture_failure().is_some(), is_refused);
        assert_eq!(engine.is_captured(), is_captured && !is_refused);
        let [_, average] = read(&engine);
        (scores, values(&average), bits(&engine, &config))
    };
    let launched = run(false, None, false);
    assert!(launched == run(true, None, false), "replayed");
    assert!(launched == run(true, Some(3), false), "resumed");
    // The second step is captured, in vain, and taken once more from what the first one left.
    assert!(launched == run(true, None, true), "begun again");
}

#[test]
fn a_step_that_is_skipped_leaves_the_average() {
    let config = config(Depth::Depth28);
    let start = model(&config, &vulkan());
    let options = StepOptions {
        average_decay: Some(0.9),
        ..options(Sampler::Correct, true)
    };
    let mut engine = DeviceStep::new(&start, options).expect("known kernels");
    step(&mut engine, batch(&config, 3, 0, &vulkan()), rates(1.0));
    let average = |engine: &DeviceStep| {
        let any = model(&config, &vulkan());
        let average = engine.average(any).expect("a device that works");
        values(&average.expect("an average"))
    };
    let before = average(&engine);
    let mut inputs = batch(&config, 3, 1, &vulkan());
    inputs.noise = inputs.noise.mul_scalar(f32::NAN);
    assert!(!step(&mut engine, inputs, rates(1.0)).is_taken);
    assert!(before == average(&engine));
    step(&mut engine, batch(&config, 3, 1, &vulkan()), rates(1.0));
    assert!(before != average(&engine));
}

#[test]
fn blocks_that_are_computed_again_have_the_same_bits_in_less_memory() {
    let config = config(Depth::Depth40);
    let start = model(&config, &vulkan());
    let run = |is_recomputed| {
        let options = StepOptions {
            is_recomputed,
            ..options(Sampler::Correct, true)
        };
        let mut engine = DeviceStep::new(&start, options).expect("known kernels");
        let outcomes: Vec<_> = (0..4)
            .map(|number| {
                step(
                    &mut engine,
                    batch(&config, 8, number, &vulkan()),
                    rates(1.0),
                )
            })
            .collect();
        ((outcomes, bits(&engine, &config)), engine.bytes())
    };
    let (kept, again) = (run(false), run(true));
    assert!(kept.0 == again.0);
    let predicted = |is_recomputed| {
        let form = StepForm {
            precision: Precision::F32,
            has_average: false,
            is_recomputed,
            sums: 0,
        };
        step_bytes(&config, 8, form).total() as f64
    };
    let (fewer, predicted) = (kept.1 - again.1, predicted(false) - predicted(true));
    assert!(fewer > 1_000_000, "{fewer} bytes fewer");
    let share = fewer as f64 / predicted;
    assert!(
        (0.9..1.1).contains(&share),
        "{fewer} bytes fewer, {predicted} predicted"
    );
}
