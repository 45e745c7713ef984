//! Tensors by name in safetensors files.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Values of named tensors: shape and float32 values.
pub type NamedValues = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A file that is no set of the tensors looked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Not a safetensors file.
    #[error("it is no safetensors file ({0})")]
    Format(safetensors::SafeTensorError),
    /// The file has another element type than float32.
    #[error("tensor `{name}` is {found:?}, not F32")]
    ElementType {
        /// The tensor's name.
        name: String,
        /// What the file says.
        found: Dtype,
    },
    /// The file lacks a tensor of the model.
    #[error("tensor `{name}` is missing")]
    Missing {
        /// The tensor's name.
        name: String,
    },
    /// The file has a tensor the model has not.
    #[error("tensor `{name}` has no place in this model")]
    Unexpected {
        /// The tensor's name.
        name: String,
    },
    /// A value of a trained model is no number.
    #[error("tensor `{name}` holds values that are not finite")]
    NotFinite {
        /// The tensor's name.
        name: String,
    },
    /// Two parameters of the model have one name.
    #[error(
        "two parameters of the model are named `{name}`; give one of their fields another name"
    )]
    Repeated {
        /// The name.
        name: String,
    },
    /// The sizes differ.
    #[error("tensor `{name}` has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The model's.
        expected: Vec<usize>,
        /// The file's.
        found: Vec<usize>,
    },
}

impl From<safetensors::SafeTensorError> for WeightsError {
    fn from(error: safetensors::SafeTensorError) -> Self {
        Self::Format(error)
    }
}

/// A safetensors file; equal values give equal bytes.
///
/// # Errors
/// If a name repeats or a file would be too large for the format.
pub fn to_safetensors(values: &NamedValues) -> Result<Vec<u8>, WeightsError> {
    serialized(values, None)
}

/// As [`to_safetensors`], with the note that tensors are in PyTorch's layout, without which some readers in Python refuse a file.
///
/// # Errors
/// As [`to_safetensors`].
pub fn to_pytorch_safetensors(values: &NamedValues) -> Result<Vec<u8>, WeightsError> {
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialized(values, Some(note))
}

fn serialized(
    values: &NamedValues,
    // The crate keeps it in a hash map, whose order differs from run to run: one entry at most.
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, WeightsError> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = values
        .iter()
        .map(|(name, (shape, values))| {
            (
                name,
                shape,
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            )
        })
        .collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, shape, bytes) in &bytes {
        views.push((
            name.as_str(),
            TensorView::new(Dtype::F32, shape.to_vec(), bytes)?,
        ));
    }
    Ok(safetensors::serialize(views, metadata)?)
}

/// Reads a safetensors file of float32 tensors.
///
/// # Errors
/// If the bytes are no such file.
pub fn from_safetensors(bytes: &[u8]) -> Result<NamedValues, WeightsError> {
    let tensors = SafeTensors::deserialize(bytes)?;
    tensors
        .iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(WeightsError::ElementType {
                    name: name.to_owned(),
                    found: view.dtype(),
                });
            }
            let (chunks, _) = view.data().as_chunks::<4>();
            let values = chunks
                .iter()
                .map(|four| f32::from_le_bytes(*four))
                .collect();
            Ok((name.to_owned(), (view.shape().to_vec(), values)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_file_bit_for_bit() {
        let values: NamedValues = [
            (
                "encoder.bias".to_owned(),
                (vec![3], vec![0.1, -0.0, f32::MIN_POSITIVE]),
            ),
            (
                "decoder.weight".to_owned(),
                (vec![2, 1], vec![f32::MAX, 1e-45]),
            ),
        ]
        .into();
        let bytes = to_safetensors(&values).unwrap();
        let read = from_safetensors(&bytes).unwrap();
        let bits = |values: &NamedValues| -> Vec<u32> {
            values
                .values()
                .flat_map(|(_, values)| values.iter().map(|value| value.to_bits()))
                .collect()
        };
        assert_eq!(bits(&read), bits(&values));
        assert_eq!(read, values);
        assert_eq!(to_safetensors(&read).unwrap(), bytes);
        from_safetensors(b"not a file").expect_err("no header");
    }
}
