//! The posterior's divergence from the standard normal, its gradients, and what the post's sampler makes of it.

use burn::prelude::*;
use burn::tensor::DType;
use vae_core::{DiagonalGaussian, Sampler};

use crate::devices;
use crate::golden_file::{Golden, values};

/// Relative and absolute, of each coordinate.
fn tolerance(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F64 => (1e-10, 1e-15),
        _ => (1e-5, 1e-6),
    }
}

fn close(found: &[f64], expected: &[f64], (relative, absolute): (f64, f64), what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= relative * expected.abs() + absolute,
            "{what}: {found} is not {expected}"
        );
    }
}

fn tensor(golden: &Golden, name: &str, (device, dtype): (&Device, DType)) -> Tensor<2> {
    let (shape, values) = golden.get(name);
    let data = TensorData::new(values.clone(), shape.clone()).convert_dtype(dtype);
    Tensor::from_data(data, (device, dtype))
}

#[test]
fn the_divergence_from_the_standard_normal_and_its_gradients_are_exact() {
    let golden = Golden::of("bounds");
    for name in ["mean_p", "log_variance_p"] {
        let all_zero = |value: &f64| *value == 0.0;
        assert!(
            golden
                .values(&format!("kl.standard.{name}"))
                .iter()
                .all(all_zero)
        );
    }
    for device in devices() {
        for dtype in [DType::F64, DType::F32] {
            let place = device.clone().autodiff();
            let leaf = |name| tensor(&golden, name, (&place, dtype)).require_grad();
            let posterior = DiagonalGaussian {
                mean: leaf("kl.standard.mean_q"),
                log_variance: leaf("kl.standard.log_variance_q"),
            };
            let what = |what: &str| format!("{what}, {dtype:?} on {device:?}");
            let each = posterior.kl_per_dimension();
            let gradients = each.clone().sum().backward();
            let each = values(each);
            let expected = golden.values("kl.standard.kl");
            close(&each, expected, tolerance(dtype), &what("divergence"));
            assert!(each.iter().all(|value| *value >= -1e-6), "{each:?}");
            for (leaf, name) in [
                (&posterior.mean, "mean_q"),
                (&posterior.log_variance, "log_variance_q"),
            ] {
                let found = values(leaf.grad(&gradients).expect("a gradient"));
                let expected = golden.values(&format!("kl.standard.grad.{name}"));
                close(&found, expected, tolerance(dtype), &what(name));
            }
            let sums: Vec<f64> = expected.chunks(6).map(|row| row.iter().sum()).collect();
            let found = values(posterior.kl_to_standard_normal());
            close(&found, &sums, tolerance(dtype), &what("sum"));
        }
    }
}

/// The post's sampler takes the log variance for the logarithm of the standard deviation: what it reports is not the divergence of what it draws.
#[test]
fn the_post_s_sampler_reports_another_divergence_than_it_has() {
    let golden = Golden::of("bounds");
    for device in devices() {
        for dtype in [DType::F64, DType::F32] {
            let load = |name| tensor(&golden, name, (&device, dtype));
            let posterior = DiagonalGaussian {
                mean: load("blog_sampler.mean"),
                log_variance: load("blog_sampler.log_variance"),
            };
            let reported = golden.values("blog_sampler.kl_reported");
            let found = values(posterior.kl_per_dimension());
            close(&found, reported, tolerance(dtype), "reported");
            let drawn = posterior.drawn_by(Sampler::Blog);
            let found = values(drawn.kl_per_dimension());
            let expected = golden.values("blog_sampler.kl_true");
            close(&found, expected, tolerance(dtype), "of what is drawn");
        }
    }
}
