//! Every block and both autoencoders on this device, against the golden files: outputs, gradients, running statistics.

mod golden;
#[cfg(feature = "cube")]
mod likelihoods;
#[cfg(feature = "cube")]
mod own_step;
mod positions;
mod tolerances;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::prelude::*;
use resnet_blocks::{
    BasicBlockConfig, Block, BottleneckConfig, Sampling, Shortcuts, map_named_parameters,
    named_parameters,
};
use vae_core::{Depth, Precision, Sampler, Vae, VaeConfig, VaeOutput};

use super::row::{Comparison, ParityRow, Row};
use golden::{AUTOENCODERS, BLOCKS, Comparisons, Golden, gradients_by_id};
use positions::positions;
use tolerances::{Arithmetic, Tolerances, of_autoencoders, of_blocks};

/// Compares case by case, each of which goes to `on_row`, and before it that it begins; a panic of the backend is that case's failure.
pub(super) fn check(
    device: &Device,
    precision: Precision,
    is_cuda: bool,
    on_row: &mut dyn FnMut(Row),
) {
    let mut on_case = |name: &str, compare: &mut dyn FnMut() -> Vec<Comparison>| {
        // Each is made once, and has kernels that none before had.
        on_row(Row::stage(name.to_owned(), true));
        on_row(Row::Parity(case(name, compare)));
    };
    let arithmetic = match precision {
        Precision::Bf16 => Arithmetic::Bfloat16,
        Precision::F32 if is_cuda => Arithmetic::Tf32,
        Precision::F32 => Arithmetic::Float32,
    };
    for (name, bytes) in BLOCKS {
        let golden = Golden::read(bytes);
        let tolerances = of_blocks(arithmetic);
        on_case(name, &mut || {
            compare_block(name, &golden, device, precision, tolerances)
        });
    }
    let depths = [(Depth::Depth28, 28), (Depth::Depth40, 40)];
    for ((name, bytes), (depth, layers)) in AUTOENCODERS.into_iter().zip(depths) {
        let golden = Golden::read(bytes);
        let tolerances = of_autoencoders(arithmetic, layers);
        on_case(name, &mut || {
            compare_autoencoder(depth, &golden, device, precision, tolerances)
        });
        #[cfg(feature = "cube")]
        if own_step::is_known(device) {
            let name = format!("{name}, the device's own step");
            on_case(&name, &mut || {
                let vae = load(autoencoder(depth, precision).init(device), &golden);
                own_step::compare(vae, &golden, device, tolerances)
            });
        }
    }
    // They are float32 in every precision.
    #[cfg(feature = "cube")]
    if precision == Precision::F32 && own_step::is_known(device) {
        let golden = Golden::read(likelihoods::FILE);
        for family in likelihoods::FAMILIES {
            on_case(&format!("likelihood {}", family.1), &mut || {
                likelihoods::compare(&golden, family, device)
            });
        }
    }
}

fn case(name: &str, compare: impl FnOnce() -> Vec<Comparison>) -> ParityRow {
    let comparisons = catch_unwind(AssertUnwindSafe(compare));
    let reason = comparisons.as_ref().err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        let line = text.and_then(|text| text.lines().next());
        line.unwrap_or("it failed without a reason").to_owned()
    });
    let comparisons = comparisons.unwrap_or_default();
    ParityRow {
        case: name.to_owned(),
        comparisons: comparisons.len(),
        worst: comparisons
            .into_iter()
            .max_by(|a, b| a.share().total_cmp(&b.share())),
        reason,
    }
}

/// The block that a file was made with.
fn block(file: &str, precision: Precision, device: &Device) -> Block {
    let shortcuts = if file.contains("plain") {
        Shortcuts::Plain
    } else {
        Shortcuts::Residual
    };
    let sampling = if file.contains("upsample") || file.contains("transposed") {
        Sampling::Transposed
    } else {
        Sampling::Strided
    };
    let stride = if file.contains("sample") { 2 } else { 1 };
    if file.starts_with("basic") {
        let channels_in = if file.contains("identity") { 8 } else { 6 };
        let config = BasicBlockConfig::new(channels_in, 8)
            .with_stride(stride)
            .with_sampling(sampling)
            .with_shortcuts(shortcuts)
            .with_precision(precision);
        Block::Basic(config.init(device))
    } else {
        let channels_in = match file {
            "bottleneck_identity" | "bottleneck_plain_identity" => 16,
            "bottleneck_projection" => 6,
            _ => 12,
        };
        let config = BottleneckConfig::new(channels_in, 4)
            .with_stride(stride)
            .with_sampling(sampling)
            .with_shortcuts(shortcuts)
            .with_precision(precision);
        Block::Bottleneck(config.init(device))
    }
}

/// The module with the parameters of a file.
fn load<M: Module>(module: M, golden: &Golden) -> M {
    let mut loaded = 0;
    let module = map_named_parameters(module, |name, _| {
        loaded += 1;
        Some(golden.data(&format!("param.{name}")))
    });
    assert_eq!(
        loaded,
        golden.count("param."),
        "every stored parameter has a place"
    );
    module
}

fn compare_block(
    file: &str,
    golden: &Golden,
    device: &Device,
    precision: Precision,
    tolerances: Tolerances,
) -> Vec<Comparison> {
    let autodiff = device.clone().autodiff();
    let block = load(block(file, precision, &autodiff), golden);
    let mut comparisons = Comparisons::new(golden);

    let evaluated = block.valid().forward(golden.tensor("input", device));
    comparisons.relative("output.eval", evaluated.into_data(), tolerances.forward);
    let input = golden.tensor::<4>("input", &autodiff).require_grad();
    let output = block.forward(input.clone());
    // Every norm of a block is over maps of the output's size.
    let [batch, _, height, width] = output.dims();
    let count = batch * height * width;
    comparisons.relative(
        "output.train",
        output.clone().inner().into_data(),
        tolerances.forward,
    );

    let weight = golden.tensor::<4>("grad.output", &autodiff);
    let gradients = (output * weight).sum().backward();
    let allowed = tolerances.whole_gradient.unwrap_or(f64::INFINITY);
    match input.grad(&gradients) {
        Some(gradient) => comparisons.relative("grad.input", gradient.into_data(), allowed),
        None => comparisons.add("grad.input", None, allowed),
    }
    let mut by_id = gradients_by_id(&block, &gradients);
    let mut found = Vec::new();
    for parameter in named_parameters(&block.valid()) {
        if parameter.name.contains("running") {
            let name = format!("after.{}", parameter.name);
            let found = golden.with_biased_variance(&parameter.name, parameter.data, count);
            comparisons.relative(&name, found, tolerances.forward);
        } else {
            let name = format!("param.{}", parameter.name);
            found.push((name, by_id.remove(&parameter.id)));
        }
    }
    comparisons.gradients(found, tolerances);
    comparisons.all
}

/// The autoencoder that a file was made with.
fn autoencoder(depth: Depth, precision: Precision) -> VaeConfig {
    VaeConfig::preset(depth)
        .with_stage_widths([4, 6, 8, 10])
        .with_intermediate_dim(64)
        .with_latent_dim(12)
        .with_precision(precision)
}

fn compare_autoencoder(
    depth: Depth,
    golden: &Golden,
    device: &Device,
    precision: Precision,
    tolerances: Tolerances,
) -> Vec<Comparison> {
    let autodiff = device.clone().autodiff();
    let vae = load(autoencoder(depth, precision).init(&autodiff), golden);
    let mut comparisons = Comparisons::new(golden);
    let pass = |vae: &Vae, device: &Device, sampler: Sampler| {
        let (images, noise) = (
            golden.tensor("images", device),
            golden.tensor("noise", device),
        );
        vae.forward(images, noise, sampler, None)
    };

    let plain = vae.valid();
    for (prefix, sampler) in [("eval", Sampler::Correct), ("blog_eval", Sampler::Blog)] {
        let output = pass(&plain, device, sampler);
        compare_output(&mut comparisons, golden, prefix, &output, tolerances);
    }
    let output = pass(&vae, &autodiff, Sampler::Correct);
    compare_output(&mut comparisons, golden, "train", &output, tolerances);

    let [batch] = output.terms.kl.dims();
    let gradients = output.terms.loss().mean().backward();
    let mut by_id = gradients_by_id(&vae, &gradients);
    let mut found = Vec::new();
    for parameter in named_parameters(&vae.valid()) {
        found.push((parameter.name.clone(), by_id.remove(&parameter.id)));
        let after = format!("after.{}", parameter.name);
        if golden.values(&after).is_some() {
            let count = batch * positions(&parameter.name);
            let found = golden.with_biased_variance(&parameter.name, parameter.data, count);
            comparisons.relative(&after, found, tolerances.forward);
        }
    }
    comparisons.gradients(found, tolerances);
    comparisons.all
}

/// Posterior, latents, logits and loss terms, as far as the file has them.
fn compare_output(
    comparisons: &mut Comparisons,
    golden: &Golden,
    prefix: &str,
    output: &VaeOutput,
    tolerances: Tolerances,
) {
    let terms = &output.terms;
    let found = [
        ("mean", output.posterior.mean.clone().into_data()),
        (
            "log_variance",
            output.posterior.log_variance.clone().into_data(),
        ),
        ("logits", output.logits.clone().into_data()),
        ("kl", terms.kl.clone().into_data()),
        ("l2", terms.l2.clone().narrow(0, 0, 1).into_data()),
        ("z", output.latent.clone().into_data()),
        ("nll", terms.cross_entropy.clone().into_data()),
        ("loss", terms.loss().mean().into_data()),
    ];
    for (name, data) in found {
        let name = format!("{prefix}.{name}");
        if golden.values(&name).is_some() {
            comparisons.relative(&name, data, tolerances.forward);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_judged_by_its_worst_tensor_and_a_panic_is_its_failure() {
        let comparison = |tensor: &str, error, allowed| Comparison {
            tensor: tensor.to_owned(),
            error,
            allowed,
        };
        let row = case("block", || {
            vec![
                comparison("a", Some(0.5), 1.0),
                comparison("b", Some(1e-3), 1e-4),
                comparison("c", Some(0.1), 1.0),
            ]
        });
        assert_eq!(
            row.worst.as_ref().map(|worst| worst.tensor.as_str()),
            Some("b")
        );
        assert!(row.failure().is_some_and(|reason| reason.contains("b")));
        let row = case("block", || panic!("no kernel"));
        assert_eq!(row.failure().as_deref(), Some("no kernel"));
        assert!(case("block", Vec::new).failure().is_some());
    }

    #[test]
    fn arithmetic_of_another_precision_is_found() {
        let (name, bytes) = BLOCKS[1];
        let golden = Golden::read(bytes);
        let device = Device::flex();
        let tolerances = of_blocks(Arithmetic::Float32);
        let right = compare_block(name, &golden, &device, Precision::F32, tolerances);
        assert!(right.iter().all(Comparison::is_within));
        let other = compare_block(name, &golden, &device, Precision::Bf16, tolerances);
        assert!(!other.iter().all(Comparison::is_within));
    }
}
