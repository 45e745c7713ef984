//! The golden file, by name. Whoever includes this says where it is: `crate::golden_path`.

use std::collections::HashMap;

use burn::prelude::*;
use burn::tensor::DType;

/// Tensors of a golden file by name: shape and values.
pub(crate) struct Golden(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Golden {
    pub(crate) fn read() -> Self {
        Self::of("likelihoods")
    }

    /// The file of that name.
    pub(crate) fn of(file: &str) -> Self {
        let path = crate::golden_path(file);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
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
        let entry = |(name, view): (&str, _)| {
            let view: safetensors::tensor::TensorView = view;
            (name.to_owned(), (view.shape().to_vec(), values(&view)))
        };
        Self(tensors.iter().map(entry).collect())
    }

    pub(crate) fn get(&self, name: &str) -> &(Vec<usize>, Vec<f64>) {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor `{name}`"))
    }

    pub(crate) fn values(&self, name: &str) -> &[f64] {
        &self.get(name).1
    }

    pub(crate) fn tensor(&self, name: &str, device: &Device, dtype: DType) -> Tensor<4> {
        let (shape, values) = self.get(name);
        let data = TensorData::new(values.clone(), shape.clone()).convert_dtype(dtype);
        Tensor::from_data(data, (device, dtype))
    }

    /// Grey levels as values from 0 to 1.
    pub(crate) fn images(&self, name: &str, device: &Device, dtype: DType) -> Tensor<4> {
        let (shape, levels) = self.get(name);
        let values: Vec<f64> = levels.iter().map(|level| level / 255.0).collect();
        let data = TensorData::new(values, shape.clone()).convert_dtype(dtype);
        Tensor::from_data(data, (device, dtype))
    }
}

/// In float64.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor
        .into_data()
        .convert_dtype(DType::F64)
        .try_to_vec()
        .expect("float64")
}
