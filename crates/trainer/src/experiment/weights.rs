//! A module's tensors by name, in PyTorch's names and layouts.

use std::collections::{BTreeMap, HashSet};

use burn::prelude::*;
use burn::tensor::DType;
use resnet_blocks::{map_named_parameters, named_parameters, parameter_names};

pub use run_files::weights::{
    NamedValues, WeightsError, from_safetensors, to_pytorch_safetensors, to_safetensors,
};

/// Every parameter and running statistic of a module, as float32.
///
/// Pass `module.valid()` where the module is training: running statistics are synchronised there.
///
/// # Panics
/// If two parameters have one name, of which a file would lose one.
pub fn named_values<M: Module>(module: &M) -> NamedValues {
    let mut named = NamedValues::new();
    for parameter in named_parameters(module) {
        let shape = parameter.data.shape().to_vec();
        let values = parameter.data.convert_dtype(DType::F32);
        let values = values
            .try_to_vec::<f32>()
            .expect("converted to float32 just now");
        let name = parameter.name.clone();
        let earlier = named.insert(parameter.name, (shape, values));
        assert!(
            earlier.is_none(),
            "two parameters are named `{name}`; give one of their fields another name"
        );
    }
    named
}

/// Before the names of the weights' average in a checkpoint, where no moment of the optimizer has such a name.
pub(crate) const AVERAGE: &str = "average.";

/// Takes the values of an average out of those that a checkpoint keeps beside the weights, and gives them the weights' own names.
pub(crate) fn take_average(values: &mut NamedValues) -> NamedValues {
    let names: Vec<String> = values
        .keys()
        .filter(|name| name.starts_with(AVERAGE))
        .cloned()
        .collect();
    let taken = names.into_iter().filter_map(|name| {
        let value = values.remove(&name)?;
        Some((name[AVERAGE.len()..].to_owned(), value))
    });
    taken.collect()
}

/// Before the names of an encoder's parameters.
pub const ENCODER_PREFIX: &str = "encoder.";
/// Before the names of a decoder's parameters.
pub const DECODER_PREFIX: &str = "decoder.";

/// The values of a model's encoder or decoder alone, by names without the prefix.
pub fn of_network(whole: &NamedValues, prefix: &str) -> NamedValues {
    let of_network = whole.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_owned(), value.clone()))
    });
    of_network.collect()
}

/// Whether these are the values of a model's encoder or decoder, by names without the prefix; with an empty one, of all of it.
///
/// # Errors
/// If names or shapes differ from the module's.
pub fn check_values<M: Module>(
    module: &M,
    prefix: &str,
    values: &NamedValues,
) -> Result<(), WeightsError> {
    let parameters: BTreeMap<String, Vec<usize>> = parameter_names(module)
        .into_iter()
        .filter_map(|parameter| {
            let name = parameter.name.strip_prefix(prefix)?;
            Some((name.to_owned(), parameter.shape))
        })
        .collect();
    for (name, expected) in &parameters {
        match values.get(name) {
            None => return Err(WeightsError::Missing { name: name.clone() }),
            Some((found, _)) if found != expected => {
                return Err(WeightsError::Shape {
                    name: name.clone(),
                    expected: expected.clone(),
                    found: found.clone(),
                });
            }
            Some(_) => {}
        }
    }
    match values.keys().find(|name| !parameters.contains_key(*name)) {
        Some(name) => Err(WeightsError::Unexpected { name: name.clone() }),
        None => Ok(()),
    }
}

/// Puts the values into the module's parameters and running statistics, all of them and no others.
///
/// # Errors
/// If names or shapes differ from the module's, or two of its parameters have one name.
pub fn load_values<M: Module>(module: M, values: &NamedValues) -> Result<M, WeightsError> {
    let mut problem = None;
    let mut used = HashSet::new();
    let module = map_named_parameters(module, |name, expected| {
        let Some((found, values)) = values.get(name) else {
            problem.get_or_insert(WeightsError::Missing {
                name: name.to_owned(),
            });
            return None;
        };
        if found != expected {
            problem.get_or_insert(WeightsError::Shape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: found.clone(),
            });
            return None;
        }
        if !used.insert(name.to_owned()) {
            problem.get_or_insert(WeightsError::Repeated {
                name: name.to_owned(),
            });
        }
        Some(TensorData::new(values.clone(), found.clone()))
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    match values.keys().find(|name| !used.contains(*name)) {
        Some(name) => Err(WeightsError::Unexpected { name: name.clone() }),
        None => Ok(module),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::Param;
    use vae_core::{Decoder, Depth, VaeConfig};

    fn decoder(latent_dim: usize) -> Decoder {
        VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(latent_dim)
            .init_decoder(&Device::flex())
    }

    #[test]
    fn weights_survive_the_file_bit_for_bit() {
        let values = named_values(&decoder(3));
        let bytes = to_safetensors(&values).expect("written");
        let read = from_safetensors(&bytes).expect("read");
        assert_eq!(read, values);
        let other = load_values(decoder(3), &read).expect("fits");
        assert_eq!(named_values(&other), values);
        assert_eq!(
            to_safetensors(&named_values(&other)).expect("written"),
            bytes
        );
    }

    #[test]
    fn files_of_another_model_are_refused_by_name() {
        let mut values = named_values(&decoder(3));
        let error = load_values(decoder(4), &values).expect_err("another latent size");
        assert!(error.to_string().contains("dense.weight"), "{error}");
        values.insert("extra".into(), (vec![1], vec![0.0]));
        let error = load_values(decoder(3), &values).expect_err("one tensor too many");
        assert!(error.to_string().contains("`extra`"), "{error}");
        values.remove("extra");
        values.remove("output.bias");
        let error = load_values(decoder(3), &values).expect_err("one tensor too few");
        assert!(error.to_string().contains("`output.bias`"), "{error}");
        from_safetensors(b"not a file").expect_err("no header");
    }

    /// Both fields are `weight` to PyTorch.
    #[derive(Module, Debug)]
    struct Twins {
        gamma: Param<Tensor<1>>,
        weight: Param<Tensor<1>>,
    }

    impl Twins {
        fn new() -> Self {
            let values = |value| Param::from_tensor(Tensor::full([2], value, &Device::flex()));
            Self {
                gamma: values(1.0),
                weight: values(2.0),
            }
        }
    }

    #[test]
    #[should_panic(expected = "two parameters are named `weight`")]
    fn names_that_collide_are_not_written() {
        named_values(&Twins::new());
    }

    #[test]
    fn names_that_collide_are_not_read() {
        let values = NamedValues::from([("weight".to_owned(), (vec![2], vec![3.0, 4.0]))]);
        let error = load_values(Twins::new(), &values).expect_err("two parameters, one tensor");
        assert!(
            matches!(&error, WeightsError::Repeated { name } if name == "weight"),
            "{error}"
        );
    }
}
