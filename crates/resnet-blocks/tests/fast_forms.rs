//! The fast forms of the bottleneck against its plain form: output, running statistics and every gradient. On flex that is
//! one operation, on ndarray an upsampling block without its zeros.
//!
//! Tolerances: relative L2 a tensor, 1e-5 in float64 and 1e-4 in float32. The gradient of a bias before a norm is zero.
#![cfg(feature = "flex")]

#[path = "checks/forms.rs"]
mod checks;

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{Sampling, Shortcuts};

use checks::{
    Case, check_nan, check_on, check_pointwise, model_cases, strided_cases, training_pass,
    transposed_cases,
};

fn reference() -> Device {
    Device::flex()
}

/// What may differ, as a relative L2 distance a tensor.
const TOLERANCES: &[(DType, f64)] = &[(DType::F64, 1e-5), (DType::F32, 1e-4)];

fn has_one_operation(device: &Device) -> bool {
    *device == Device::flex()
}

#[test]
fn strided_blocks_match_the_plain_form() {
    for case in strided_cases() {
        check_on(Device::flex(), case);
    }
}

#[test]
#[allow(deprecated)] // The reference backend until Burn removes it.
fn transposed_blocks_match_the_plain_form() {
    for case in transposed_cases() {
        for device in [Device::flex(), Device::ndarray()] {
            check_on(device, case);
        }
    }
}

#[test]
fn blocks_of_the_model_match_the_plain_form() {
    for case in model_cases() {
        check_on(Device::flex(), case);
    }
}

#[test]
fn a_nan_reaches_output_and_gradients() {
    check_nan(Device::flex());
}

#[test]
fn pointwise_layers_match_the_plain_form() {
    check_pointwise(Device::flex());
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for sampling in [Sampling::Strided, Sampling::Transposed] {
        let case = Case {
            batch: 11,
            channels_in: 8,
            width: 3,
            size: [6, 5],
            stride: 2,
            sampling,
            shortcuts: Shortcuts::Residual,
        };
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool of threads");
            pool.install(|| training_pass(&case, Device::flex(), DType::F32, false))
        };
        let expected = run(1);
        for threads in [2, 3, 7] {
            assert_eq!(expected, run(threads), "{sampling:?}, {threads} threads");
        }
    }
}
