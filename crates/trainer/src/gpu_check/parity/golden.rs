//! The golden files of the blocks and of the autoencoders, inside the program: values computed independently in float64.

use std::collections::HashMap;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::prelude::*;
use burn::tensor::{DType, Gradients};
use safetensors::Dtype;

use super::tolerances::Tolerances;
use crate::gpu_check::row::Comparison;

macro_rules! golden_files {
    ($crate_name:literal, $($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"), "/../", $crate_name, "/tests/golden/", $name, ".safetensors"
        )).as_slice())),+]
    };
}

/// Name and content of the golden file of every block.
pub(super) const BLOCKS: [(&str, &[u8]); 11] = golden_files!(
    "resnet-blocks",
    "basic_downsample",
    "basic_identity",
    "basic_plain_downsample",
    "basic_upsample",
    "bottleneck_downsample",
    "bottleneck_identity",
    "bottleneck_plain_identity",
    "bottleneck_plain_upsample",
    "bottleneck_projection",
    "bottleneck_transposed_stride1",
    "bottleneck_upsample",
);

/// Name and content of the golden file of both autoencoders.
pub(super) const AUTOENCODERS: [(&str, &[u8]); 2] =
    golden_files!("vae-core", "vae_depth28", "vae_depth40");

/// Tensors of a golden file by name: shape and values.
pub(super) struct Golden(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Golden {
    /// Reads a file's content.
    ///
    /// # Panics
    /// If it is none of the golden files.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let tensors = safetensors::SafeTensors::deserialize(bytes)
            .expect("the files inside the program are whole");
        let tensors = tensors.iter().map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::U8 => data.iter().copied().map(f32::from).collect(),
                Dtype::F64 => in_float32::<8>(data, f64::from_le_bytes),
                Dtype::I64 => in_float32::<8>(data, |bytes| i64::from_le_bytes(bytes) as f64),
                _ => in_float32::<4>(data, |bytes| f32::from_le_bytes(bytes).into()),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        });
        Self(tensors.collect())
    }

    /// How many tensors have a name that begins so.
    pub(super) fn count(&self, prefix: &str) -> usize {
        let names = self.0.keys();
        names.filter(|name| name.starts_with(prefix)).count()
    }

    /// The shape of a tensor; empty where there is none of that name.
    #[cfg(feature = "cube")]
    pub(super) fn shape(&self, name: &str) -> &[usize] {
        self.0.get(name).map_or(&[], |(shape, _)| shape)
    }

    /// The values of a tensor in float64, where there is one of that name.
    pub(super) fn values(&self, name: &str) -> Option<Vec<f64>> {
        let (_, values) = self.0.get(name)?;
        Some(values.iter().copied().map(f64::from).collect())
    }

    /// A tensor in float32.
    ///
    /// # Panics
    /// If the file has none of that name.
    pub(super) fn data(&self, name: &str) -> TensorData {
        let (shape, values) = self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor `{name}`"));
        TensorData::new(values.clone(), shape.clone())
    }

    /// The same, on a device.
    ///
    /// # Panics
    /// If the file has none of that name, or it has another rank.
    pub(super) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.data(name), device)
    }
}

/// Numbers of so many bytes each.
fn in_float32<const BYTES: usize>(data: &[u8], number: fn([u8; BYTES]) -> f64) -> Vec<f32> {
    let (numbers, _) = data.as_chunks::<BYTES>();
    numbers.iter().map(|bytes| number(*bytes) as f32).collect()
}

impl Golden {
    /// The files move running variances by the mean square about a batch's mean, and norms by `n / (n - 1)` times that, as
    /// PyTorch does: the share of the batch's `count` values a channel is divided by that factor again.
    pub(super) fn with_biased_variance(
        &self,
        name: &str,
        found: TensorData,
        count: usize,
    ) -> TensorData {
        let before = self.values(&format!("param.{name}"));
        let Some(before) = before.filter(|_| name.ends_with("running_var")) else {
            return found;
        };
        let shape = found.shape().to_vec();
        // That of the momentum which the files were made with.
        const KEPT: f64 = 0.99;
        let factor = resnet_blocks::variance_factor(count).recip();
        let values = float64(found).into_iter().zip(before);
        let values = values.map(|(found, before)| KEPT * before + (found - KEPT * before) * factor);
        TensorData::new(values.collect::<Vec<f64>>(), shape)
    }
}

/// What was compared with a golden file so far.
pub(super) struct Comparisons<'a> {
    golden: &'a Golden,
    pub(super) all: Vec<Comparison>,
}

impl<'a> Comparisons<'a> {
    pub(super) fn new(golden: &'a Golden) -> Self {
        Self {
            golden,
            all: Vec::new(),
        }
    }

    /// Compares a tensor with the golden one of its name, as a relative L2 distance.
    pub(super) fn relative(&mut self, name: &str, found: TensorData, allowed: f64) {
        let found = float64(found);
        let expected = self.golden.values(name);
        let error = expected.and_then(|expected| relative_distance(&expected, &found));
        self.add(name, error, allowed);
    }

    /// Compares a tensor with zero, by its largest value.
    pub(super) fn with_zero(&mut self, name: &str, found: TensorData, allowed: f64) {
        let values = float64(found);
        // `max` alone would pass over values that are not numbers.
        let largest = values.iter().try_fold(0.0f64, |largest, value| {
            value.is_finite().then(|| largest.max(value.abs()))
        });
        self.add(name, largest, allowed);
    }

    /// Compares gradients, by the names of their parameters, as far as the file has them: one by one where the tolerances ask for that,
    /// and all as one vector. None is a gradient that is missing.
    pub(super) fn gradients(
        &mut self,
        found: impl IntoIterator<Item = (String, Option<TensorData>)>,
        tolerances: Tolerances,
    ) {
        let (mut whole_expected, mut whole_found) = (Vec::new(), Vec::new());
        for (parameter, gradient) in found {
            let name = format!("grad.{parameter}");
            let Some(expected) = self.golden.values(&name) else {
                continue;
            };
            let Some(gradient) = gradient else {
                self.add(&name, None, tolerances.zero_gradient);
                continue;
            };
            if norm(&expected) < 1e-6 {
                self.with_zero(&name, gradient, tolerances.zero_gradient);
                continue;
            }
            let found = float64(gradient);
            if let Some(allowed) = tolerances.single_gradient {
                self.add(&name, relative_distance(&expected, &found), allowed);
            }
            whole_expected.extend(expected);
            whole_found.extend(found);
        }
        if let Some(allowed) = tolerances.whole_gradient {
            let error = relative_distance(&whole_expected, &whole_found);
            self.add("the gradient as one vector", error, allowed);
        }
    }

    /// Notes a comparison made elsewhere; `error` is none where it is not finite.
    pub(super) fn add(&mut self, name: &str, error: Option<f64>, allowed: f64) {
        self.all.push(Comparison {
            tensor: name.to_owned(),
            error: error.filter(|error| error.is_finite()),
            allowed,
        });
    }
}

/// The values of a tensor in float64.
pub(super) fn float64(data: TensorData) -> Vec<f64> {
    data.convert_dtype(DType::F64)
        .try_to_vec()
        .expect("converted to float64 just now")
}

/// The Euclidean norm.
pub(super) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The L2 distance as a share of the expected norm; none where the lengths differ.
pub(super) fn relative_distance(expected: &[f64], found: &[f64]) -> Option<f64> {
    if expected.len() != found.len() {
        return None;
    }
    let differences: Vec<f64> = expected.iter().zip(found).map(|(a, b)| a - b).collect();
    Some(norm(&differences) / norm(expected))
}

/// The gradients of a module's parameters by their identifiers, dense ones in PyTorch's layout as in the files.
pub(super) fn gradients_by_id<M: Module>(
    module: &M,
    gradients: &Gradients,
) -> HashMap<ParamId, TensorData> {
    let mut reader = Reader {
        gradients,
        found: HashMap::new(),
    };
    module.visit(&mut reader);
    reader.found
}

struct Reader<'a> {
    gradients: &'a Gradients,
    found: HashMap<ParamId, TensorData>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let gradient = if D == 2 {
                gradient.swap_dims(0, 1)
            } else {
                gradient
            };
            self.found.insert(param.id, gradient.into_data());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_inside_and_have_parameters() {
        for (name, bytes) in BLOCKS.into_iter().chain(AUTOENCODERS) {
            let golden = Golden::read(bytes);
            assert!(golden.count("param.") > 0, "{name}");
            assert!(golden.count("grad.") > 0, "{name}");
        }
    }

    #[test]
    fn a_wrong_length_or_a_value_that_is_no_number_is_no_match() {
        assert_eq!(relative_distance(&[3.0, 4.0], &[3.0, 4.0 + 0.5]), Some(0.1));
        assert_eq!(relative_distance(&[3.0, 4.0], &[3.0]), None);
        let golden = Golden::read(BLOCKS[0].1);
        let mut comparisons = Comparisons::new(&golden);
        let data = |values: [f32; 2]| TensorData::new(values.to_vec(), [2]);
        comparisons.with_zero("a", data([f32::NAN, 0.0]), 1.0);
        comparisons.with_zero("b", data([-0.5, 0.25]), 1.0);
        comparisons.relative("no such tensor", data([0.0, 0.0]), 1.0);
        let errors = comparisons.all.iter().map(|comparison| comparison.error);
        assert_eq!(errors.collect::<Vec<_>>(), [None, Some(0.5), None]);
        assert!(!comparisons.all[0].is_within() && comparisons.all[1].is_within());
    }
}
