//! Likelihoods by the kernels of a step against values computed independently in float64.

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::join;
use vae_device_step::image_likelihood;

use crate::golden_file::Golden;
use crate::tolerances::{FAMILIES, check_gradient, check_nll, tolerances};
use crate::vulkan;

/// Those of some channels of pixels by channels, as `[batch, channels, positions]`.
fn of_channels(
    pixels: &[f32],
    [batch, channels, positions]: [usize; 3],
    wanted: std::ops::Range<usize>,
) -> Vec<f64> {
    let mut all = Vec::new();
    for image in 0..batch {
        for channel in wanted.clone() {
            let of_channel = (0..positions).map(|position| {
                f64::from(pixels[(image * positions + position) * channels + channel])
            });
            all.extend(of_channel);
        }
    }
    all
}

/// Values and gradients also of parameters that are far off: logits of thousands, means on their level, scales below the smallest.
#[test]
fn every_likelihood_has_the_golden_values_and_gradients() {
    let golden = Golden::read();
    let (device, dtype) = (vulkan(), DType::F32);
    let cases = ["ordinary", "extreme"];
    for (prefix, likelihood, leaves) in FAMILIES {
        for case in cases.map(|case| format!("{prefix}.{case}")) {
            let images = golden.images(&format!("{case}.pixels"), &device, dtype);
            let [batch, _, height, width] = images.dims();
            // Scales of colours are parameters of the model, and not of its map.
            let (of_colours, of_map): (Vec<&str>, Vec<&str>) = leaves
                .iter()
                .partition(|leaf| golden.get(&format!("{case}.{leaf}")).0.len() == 1);
            let log_scales = of_colours.first().map(|leaf| {
                let (shape, values) = golden.get(&format!("{case}.{leaf}"));
                let data = TensorData::new(values.clone(), shape.clone()).convert_dtype(dtype);
                Tensor::<1>::from_data(data, (&device, dtype))
            });
            let map = of_map
                .iter()
                .map(|leaf| golden.tensor(&format!("{case}.{leaf}"), &device, dtype));
            let map = join(map.collect(), 1);
            let sizes = [batch, map.dims()[1], height * width];
            let found = image_likelihood(likelihood, map, log_scales, images);
            let found = found.unwrap_or_else(|| panic!("{likelihood} has no kernels"));
            let found = found.expect("a device that works");

            let tolerances = tolerances(dtype, likelihood);
            let nll: Vec<f64> = found.nll.iter().map(|nll| f64::from(*nll)).collect();
            check_nll(&golden, &case, &case, &nll, &tolerances);
            // Of the mean over the images; the file's is of their sum.
            let sums = |values: Vec<f64>| -> Vec<f64> {
                values
                    .into_iter()
                    .map(|value| value * batch as f64)
                    .collect()
            };
            let mut first = 0;
            for leaf in of_map {
                let channels = golden.get(&format!("{case}.{leaf}")).0[1];
                let by_leaf = of_channels(&found.by_map, sizes, first..first + channels);
                let name = format!("{case}: gradient by {leaf}");
                check_gradient(&golden, (&case, leaf), &name, &sums(by_leaf), &tolerances);
                first += channels;
            }
            assert_eq!(first, sizes[1], "{case}: channels");
            assert_eq!(found.by_log_scale.is_some(), !of_colours.is_empty());
            if let (Some(leaf), Some(by_scale)) = (of_colours.first(), found.by_log_scale) {
                let by_scale = by_scale.into_iter().map(f64::from).collect();
                let name = format!("{case}: gradient by {leaf}");
                check_gradient(&golden, (&case, leaf), &name, &sums(by_scale), &tolerances);
            }
        }
    }
}
