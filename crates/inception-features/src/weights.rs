//! Reading the network's weights: a file of PyTorch's, or safetensors with the same names.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use crate::torch_file::{self, Tensors};

/// The weights that every published FID of pytorch-fid was computed with, and where they are.
pub const PUBLISHED_WEIGHTS: &str = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth";

/// First digits of the published file's SHA-256, which its name carries.
const PUBLISHED_DIGITS: &str = "6726825d";

/// The published file has 91 MiB.
const LARGEST: u64 = 1 << 30;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The system refuses.
    #[error(
        "the Inception weights in {} cannot be read: {source}; get them from {PUBLISHED_WEIGHTS} and name the file",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        r#source: io::Error,
    },
    /// Neither a file of PyTorch's nor of safetensors.
    #[error(
        "{} is no file of weights ({reason}): it should be pytorch-fid's file, or safetensors with the same names; get it from \
         {PUBLISHED_WEIGHTS}",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Weights of another network.
    #[error(
        "the weights have no `{name}` of shape {expected:?} in float32 ({found}): they are not those of the FID's Inception; get \
         them from {PUBLISHED_WEIGHTS}"
    )]
    Unfitting {
        /// The tensor.
        name: String,
        /// The shape that it must have.
        expected: Vec<usize>,
        /// What is there.
        found: String,
    },
}

/// Named tensors, and the hash of the file that they came from.
#[derive(Clone, Debug)]
pub struct Weights {
    sha256: String,
    tensors: Tensors,
}

impl Weights {
    /// Reads a file: safetensors, or a dictionary of tensors that `torch.save` wrote, in either of its formats.
    ///
    /// Nothing in the file is executed.
    /// Tensors of other types than float32 are left out.
    ///
    /// # Errors
    /// If the file cannot be read or is neither.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let unreadable = |source| WeightsError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let malformed = |reason: String| WeightsError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err(malformed("more than a gibibyte".to_owned()));
        }
        let mut sha256 = String::new();
        for byte in Sha256::digest(&bytes) {
            // Writing into a string does not fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        // A safetensors file begins with the length of a header, and the header with a brace.
        let tensors = if bytes.get(8) == Some(&b'{') {
            from_safetensors(&bytes)
        } else {
            torch_file::read(&bytes)
        };
        Ok(Self {
            sha256,
            tensors: tensors.map_err(malformed)?,
        })
    }

    /// The file's SHA-256, as 64 digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether the file is the one that published FIDs were computed with.
    pub fn are_published(&self) -> bool {
        self.sha256.starts_with(PUBLISHED_DIGITS)
    }

    /// The values of a tensor, which must have this shape.
    ///
    /// # Errors
    /// If there is none of that name, or it has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32], WeightsError> {
        let unfitting = |found: String| WeightsError::Unfitting {
            name: name.to_owned(),
            expected: shape.to_owned(),
            found,
        };
        match self.tensors.get(name) {
            Some((found, values)) if found == shape => Ok(values),
            Some((found, _)) => Err(unfitting(format!("the file's has shape {found:?}"))),
            None => Err(unfitting(format!(
                "the file has {} tensors, none of that name",
                self.tensors.len()
            ))),
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (fours, _) = bytes.as_chunks::<4>();
    fours.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

fn from_safetensors(bytes: &[u8]) -> Result<Tensors, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensors = file.iter().filter_map(|(name, tensor)| {
        let is_float = tensor.dtype() == safetensors::Dtype::F32;
        is_float.then(|| {
            let values = floats(tensor.data());
            (name.to_owned(), (tensor.shape().to_owned(), values))
        })
    });
    Ok(tensors.collect())
}
