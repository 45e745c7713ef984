//! Bounds, objectives, schedules and statistics against values computed independently in float64 (`golden2/`).
//!
//! Tolerances: closed forms, log weights and bounds relative 1e-11; averages, schedules and free bits 1e-12.

use std::collections::HashMap;

use vae_measures::{
    KlSchedule, LatentInformation, LatentMoments, LinearGaussian, LogMeanExp, Mean, average_decay,
    bits_per_dim, free_bits, free_bits_gradient,
};

/// Values by name, in order.
struct Golden(HashMap<String, Vec<f64>>);

impl Golden {
    fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden2/bounds.safetensors"
        );
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a golden file");
        let values = |view: &safetensors::tensor::TensorView| -> Vec<f64> {
            use safetensors::Dtype;
            let data = view.data();
            match view.dtype() {
                Dtype::F64 => data
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|it| f64::from_le_bytes(*it))
                    .collect(),
                Dtype::F32 => data
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|it| f32::from_le_bytes(*it) as f64)
                    .collect(),
                Dtype::I64 => data
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|it| i64::from_le_bytes(*it) as f64)
                    .collect(),
                Dtype::U8 => data.iter().map(|it| *it as f64).collect(),
                other => panic!("{other:?} in a golden file"),
            }
        };
        Self(
            tensors
                .iter()
                .map(|(name, view)| (name.to_owned(), values(&view)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> &[f64] {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no golden values `{name}`"))
    }

    fn scalar(&self, name: &str) -> f64 {
        let [value] = self.get(name) else {
            panic!("`{name}` is one value")
        };
        *value
    }

    fn model(&self, name: &str) -> LinearGaussian {
        let get = |field: &str| self.get(&format!("{name}.{field}")).to_vec();
        let model = LinearGaussian {
            weight: get("weight"),
            bias: get("bias"),
            log_variance: get("log_variance"),
            encoder_weight: get("encoder_weight"),
            encoder_bias: get("encoder_bias"),
            encoder_log_variance: get("encoder_log_variance"),
        };
        assert_eq!(model.validate(), Ok(()));
        model
    }
}

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs();
    assert!(
        error <= tolerance * expected.abs().max(1e-300),
        "{found} is not {expected}"
    );
}

#[track_caller]
fn within(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{found} is not {expected}"
    );
}

fn log_mean_exp(values: &[f64]) -> f64 {
    let mut bound = LogMeanExp::new();
    values.iter().for_each(|value| bound.add(*value));
    bound.value()
}

#[test]
fn the_linear_gaussian_model_has_its_known_likelihood_and_bounds() {
    let golden = Golden::read();
    for name in ["linear", "exact"] {
        let model = golden.model(name);
        let get = |field: &str| golden.get(&format!("{name}.{field}"));
        let noise = get("noise");
        for (index, x) in get("x").chunks(5).enumerate() {
            close(model.log_likelihood(x), get("log_p")[index], 1e-11);
            close(model.elbo(x), get("elbo")[index], 1e-11);
            close(model.kl(x), get("kl")[index], 1e-11);
            let gap = model.log_likelihood(x) - model.elbo(x);
            // In `exact` there is none but for rounding.
            within(gap, get("gap")[index], 1e-11 * model.elbo(x).abs());
            let expected = get("expected_log_likelihood")[index];
            close(model.elbo(x) + model.kl(x), expected, 1e-11);
            let deviation = model.encoder_log_variance.iter().map(|of| (0.5 * of).exp());
            let deviation: Vec<f64> = deviation.collect();
            let mean = model.posterior_mean(x);
            let mut likelihoods = Mean::new();
            for draw in 0..100 {
                let noise = &noise[(index * 100 + draw) * 3..][..3];
                let z = (0..3).map(|axis| mean[axis] + deviation[axis] * noise[axis]);
                let z: Vec<f64> = z.collect();
                let found = model.conditional_log_likelihood(x, &z);
                close(found, get("log_likelihood")[index * 100 + draw], 1e-11);
                likelihoods.add(found);
                if draw == 0 {
                    close(found - model.kl(x), get("elbo_first_draw")[index], 1e-11);
                }
            }
            let found = likelihoods.mean() - model.kl(x);
            close(found, get("elbo_all_draws")[index], 1e-11);
            let weights: Vec<f64> = (0..100)
                .map(|draw| model.log_weight(x, &noise[(index * 100 + draw) * 3..][..3]))
                .collect();
            for (found, expected) in weights.iter().zip(&get("log_weight")[index * 100..]) {
                close(*found, *expected, 1e-11);
            }
            close(weights[0], get("iw_1")[index], 1e-11);
            close(log_mean_exp(&weights[..10]), get("iw_10")[index], 1e-11);
            close(log_mean_exp(&weights), get("iw_100")[index], 1e-11);
            let mut singles = Mean::new();
            weights.iter().for_each(|weight| singles.add(*weight));
            close(singles.mean(), get("iw_1_groups")[index], 1e-11);
            let mut tens = Mean::new();
            weights
                .chunks(10)
                .for_each(|ten| tens.add(log_mean_exp(ten)));
            close(tens.mean(), get("iw_10_groups")[index], 1e-11);
            // Jensen's inequality: for the same draws, always.
            assert!(singles.mean() <= tens.mean() + 1e-12);
            assert!(tens.mean() <= log_mean_exp(&weights) + 1e-12);
            if name == "exact" {
                // q is the posterior, so that every weight is the likelihood.
                for weight in weights {
                    close(weight, model.log_likelihood(x), 1e-11);
                }
            } else {
                assert!(model.elbo(x) < model.log_likelihood(x));
            }
        }
    }
}

/// Bounds of more draws are tighter: the stored means over 200,000 draws lie between the closed forms, the first on the ELBO.
#[test]
fn expected_bounds_lie_between_the_elbo_and_the_likelihood() {
    let golden = Golden::read();
    let model = golden.model("linear");
    for (index, x) in golden.get("linear.x").chunks(5).enumerate() {
        let expected = |draws: usize| {
            let get = |what: &str| golden.get(&format!("linear.iw_{draws}_{what}"))[index];
            (get("expected"), get("standard_error"))
        };
        let (single, error) = expected(1);
        within(model.elbo(x), single, 5.0 * error);
        let bounds = [1, 10, 100].map(|draws| expected(draws).0);
        assert!(bounds[0] < bounds[1] && bounds[1] < bounds[2], "{bounds:?}");
        let (tightest, error) = expected(100);
        assert!(tightest < model.log_likelihood(x) + 5.0 * error);
    }
}

#[test]
fn free_bits_are_of_the_whole_batchs_mean() {
    let golden = Golden::read();
    let kl = golden.get("free_bits.kl");
    let means: Vec<f64> = (0..5)
        .map(|group| (0..4).map(|row| kl[row * 5 + group]).sum::<f64>() / 4.0)
        .collect();
    for (index, free) in golden.get("free_bits.lambda").iter().enumerate() {
        close(
            free_bits(&means, *free),
            golden.get("free_bits.objective")[index],
            1e-12,
        );
        // The mean over data of what each has above the level is another number, unless nothing is below it.
        let of_each: f64 = kl.iter().map(|kl| kl.max(*free)).sum::<f64>() / 4.0;
        close(
            of_each,
            golden.get("free_bits.per_datum_objective")[index],
            1e-12,
        );
        assert!(free_bits(&means, *free) <= of_each + 1e-12);
        let gradient = free_bits_gradient(&means, *free);
        for row in 0..4 {
            for (group, slope) in gradient.iter().enumerate() {
                let expected = golden.get("free_bits.grad.kl")[(index * 4 + row) * 5 + group];
                within(slope / 4.0, expected, 1e-12);
            }
        }
    }
}

#[test]
fn bits_per_dimension_are_nats_over_3072_logarithms_of_two() {
    let golden = Golden::read();
    for (nats, bits) in golden
        .get("bits_per_dim.nats")
        .iter()
        .zip(golden.get("bits_per_dim.bits"))
    {
        close(bits_per_dim(*nats, 3072), *bits, 1e-12);
    }
}

#[test]
fn schedules_have_the_papers_weights() {
    let golden = Golden::read();
    let steps = golden.get("schedule.steps");
    let check = |schedules: Vec<KlSchedule>, expected: &[f64]| {
        assert_eq!(schedules.len() * steps.len(), expected.len());
        for (schedule, expected) in schedules.into_iter().zip(expected.chunks(steps.len())) {
            for (step, expected) in steps.iter().zip(expected) {
                within(schedule.weight(*step as u64), *expected, 1e-12);
            }
        }
    };
    let linear = |row: &[f64]| KlSchedule::Linear {
        steps: row[0] as u64,
        floor: row[1],
    };
    check(
        golden
            .get("schedule.linear.parameters")
            .chunks(2)
            .map(linear)
            .collect(),
        golden.get("schedule.linear.weight"),
    );
    let cyclical = |row: &[f64]| KlSchedule::Cyclical {
        total: row[0] as u64,
        cycles: row[1] as u64,
        ratio: row[2],
    };
    check(
        golden
            .get("schedule.cyclical.parameters")
            .chunks(3)
            .map(cyclical)
            .collect(),
        golden.get("schedule.cyclical.weight"),
    );
}

#[test]
fn the_average_of_weights_follows_its_path() {
    let golden = Golden::read();
    let path: Vec<&[f64]> = golden.get("ema.weights").chunks(6).collect();
    for (name, is_warm) in [("constant", false), ("warm", true), ("warm_reached", true)] {
        let decay = golden.scalar(&format!("ema.{name}.decay"));
        let used = golden.get(&format!("ema.{name}.decay_used"));
        let mut average = path[0].to_vec();
        for (update, weights) in path[1..].iter().enumerate() {
            let decay = if is_warm {
                average_decay(decay, update as u64)
            } else {
                decay
            };
            within(decay, used[update], 1e-12);
            for (of, weight) in average.iter_mut().zip(*weights) {
                *of += (1.0 - decay) * (weight - *of);
            }
            let expected = &golden.get(&format!("ema.{name}.average"))[update * 6..][..6];
            for (found, expected) in average.iter().zip(expected) {
                within(*found, *expected, 1e-12);
            }
        }
    }
}

#[test]
fn active_units_are_found_far_from_zero_too() {
    let golden = Golden::read();
    let mut moments = LatentMoments::new(12);
    golden
        .get("active.means")
        .chunks(12)
        .for_each(|row| moments.add(row));
    for (found, expected) in moments
        .variances()
        .iter()
        .zip(golden.get("active.variance"))
    {
        within(*found, *expected, 1e-11);
    }
    let active = golden
        .get("active.active")
        .iter()
        .filter(|flag| **flag == 1.0)
        .count();
    assert_eq!((moments.active_units(), active), (6, 6));
}

#[test]
fn mutual_information_is_that_of_the_stored_draws() {
    let golden = Golden::read();
    let get = |field: &str| golden.get(&format!("surgery.{field}"));
    let found = LatentInformation::estimate(get("mean"), get("log_variance"), get("noise"), 2);
    close(found.average_kl, get("average_kl")[0], 1e-11);
    close(
        found.mutual_information,
        get("mutual_information_estimate")[0],
        1e-11,
    );
    close(found.marginal_kl, get("marginal_kl_estimate")[0], 1e-11);
    assert_eq!(found.ceiling, 8f64.ln());
    // 160 draws against the integral: such estimates spread by 0.06, and 0.4 is more than six times that.
    assert!((found.mutual_information - get("mutual_information")[0]).abs() < 0.4);
    assert!(!found.is_at_ceiling());
}
