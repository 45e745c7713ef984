//! What a model is made of and what it costs.

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::TrainerError;
use crate::commands::output::{print, print_json};
use crate::device::step_memory::{CIFAR_BYTES, StepMemory, StepSize, form_and_place, predict};
use crate::experiment::model::model_config;
use run_files::run_record::PerNetwork;
use run_files::settings::{Devices, TrainFlags, resolve};
use run_files::wording::mebibytes;

#[derive(clap::Args)]
pub(super) struct SummaryFlags {
    /// 28, 40, 70 or 100
    #[arg(long, value_name = "N")]
    depth: Option<String>,
    /// Multiplier of the stage widths and the intermediate dimension
    #[arg(long, value_name = "W")]
    width: Option<String>,
    /// Dimensions of the latent
    #[arg(long, value_name = "Z")]
    latent_dim: Option<String>,
    /// Features of the two dense layers
    #[arg(long, value_name = "N")]
    intermediate_dim: Option<String>,
    /// Images per step, for the memory of a step
    #[arg(long, value_name = "B")]
    batch_size: Option<String>,
    /// Images at a time within a step
    #[arg(long, value_name = "N")]
    micro_batch_size: Option<String>,
    /// f32 or bf16
    #[arg(long, value_name = "NAME")]
    precision: Option<String>,
    /// Distribution of the pixels, as for train
    #[arg(long, value_name = "NAME")]
    likelihood: Option<String>,
    /// Decay of a moving average of the weights, as for train
    #[arg(long, value_name = "D")]
    ema: Option<String>,
    /// Compute each block again in the backward pass
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Where the step would run: flex, cuda:0 or vulkan:0; nothing is computed there
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Without shortcuts
    #[arg(long)]
    no_shortcuts: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &SummaryFlags) -> Result<(), TrainerError> {
    let flags_of_training = TrainFlags {
        depth: flags.depth.clone(),
        width: flags.width.clone(),
        latent_dim: flags.latent_dim.clone(),
        intermediate_dim: flags.intermediate_dim.clone(),
        batch_size: flags.batch_size.clone(),
        micro_batch_size: flags.micro_batch_size.clone(),
        precision: flags.precision.clone(),
        likelihood: flags.likelihood.clone(),
        ema: flags.ema.clone(),
        gradient_checkpointing: flags.gradient_checkpointing,
        device: flags.device.clone(),
        no_shortcuts: flags.no_shortcuts,
        ..TrainFlags::default()
    };
    let settings = resolve(&flags_of_training, &|name| std::env::var(name).ok())?.settings;
    let config = model_config(&settings)?;
    let cost = config.cost();
    let [encoder, decoder] = config.num_params_by_side();
    let total = encoder + decoder;
    let memory = predict(
        &config,
        form_and_place(&settings),
        StepSize::of(
            &settings,
            settings.batch_size.div_ceil(settings.device.count()),
        ),
    );
    if flags.json {
        let sizes = config.sizes().into_iter();
        return print_json(&ModelSummary {
            depth: settings.depth,
            layers: config.layers(),
            parameters: PerNetwork {
                encoder,
                decoder,
                total,
            },
            multiply_accumulates_per_image: PerNetwork {
                encoder: cost.encoder_multiply_accumulates,
                decoder: cost.decoder_multiply_accumulates,
                total: cost.multiply_accumulates(),
            },
            activations_per_image: cost.activations,
            batch_size: settings.batch_size,
            device: settings.device.to_string(),
            step_memory: memory,
            step_memory_bytes: memory.total(),
            sizes: sizes.map(|(name, size)| (name.to_owned(), size)).collect(),
        });
    }
    let mut text = format!("depth {}", settings.depth);
    for (name, size) in config.sizes() {
        let name = name.trim_end_matches("_dim").replace('_', " ");
        let size = size.to_string().replace(',', ", ");
        text += &format!(", {name} {size}");
    }
    text.push('\n');
    text += &format!("layers                  {:>15}\n", config.layers());
    text +=
        &format!("parameters              {total:>15}  (encoder {encoder}, decoder {decoder})\n");
    text += &format!(
        "multiply-accumulates    {:>15}  an image, forward\n",
        cost.multiply_accumulates()
    );
    text += &memory_lines(&memory, settings.batch_size, &settings.device);
    print(&text)
}

/// What is printed for programs.
#[derive(Serialize)]
struct ModelSummary {
    depth: u32,
    layers: usize,
    parameters: PerNetwork,
    multiply_accumulates_per_image: PerNetwork,
    activations_per_image: u64,
    batch_size: usize,
    device: String,
    step_memory: StepMemory,
    step_memory_bytes: u64,
    /// Those that tell models of the family apart.
    #[serde(flatten)]
    sizes: Map<String, Value>,
}

fn memory_lines(memory: &StepMemory, batch_size: usize, devices: &Devices) -> String {
    let mut text = String::new();
    let mut line = |name: &str, bytes: u64, what: &str| {
        text += &format!("{name:<24}{:>11.1} MiB  {what}\n", mebibytes(bytes));
    };
    let is_gpu = devices.are_gpus();
    let each = match devices.count() {
        1 => "",
        _ if is_gpu => ", each, the others without the images",
        _ => ", each",
    };
    let title = format!("predicted peak of a step with batch {batch_size} on {devices}{each}");
    line("memory", memory.total(), &title);
    line(
        "  parameters",
        memory.parameters,
        "weights and their copies, gradients, both moments",
    );
    line(
        "  activations",
        memory.activations,
        "kept for the backward pass",
    );
    line(
        "  in flight",
        memory.in_flight,
        "gradients of the largest block",
    );
    line(
        if is_gpu { "  context" } else { "  program" },
        memory.program,
        if is_gpu {
            "assumed: no GPU has been measured"
        } else {
            "measured"
        },
    );
    line("  allocator", memory.allocator, "held beyond the tensors");
    if is_gpu {
        let place = match devices.count() {
            1 => "all of CIFAR-10, on the device",
            _ => "all of CIFAR-10, on the first device",
        };
        line("  images", memory.images, place);
        line(
            "  pictures",
            memory.pictures,
            "and the best epoch's weights, beside the maps of training",
        );
    } else {
        line("the data set", CIFAR_BYTES, "besides, for all of CIFAR-10");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `summary` says of a step's memory.
    fn lines(device: &str) -> String {
        let flags = TrainFlags {
            device: Some(device.to_owned()),
            ..TrainFlags::default()
        };
        let settings = resolve(&flags, &|_| None).expect("settings").settings;
        let config = model_config(&settings).expect("a model");
        let size = StepSize::of(&settings, settings.batch_size);
        let memory = predict(&config, form_and_place(&settings), size);
        memory_lines(&memory, settings.batch_size, &settings.device)
    }

    #[test]
    fn the_images_are_counted_where_they_lie() {
        for (device, counted, besides, title) in [
            ("flex", "", "for all of CIFAR-10\n", "on flex\n"),
            ("cuda:0", "on the device\n", "", "on cuda:0\n"),
            (
                "cuda:0,cuda:1",
                "on the first device\n",
                "",
                "on cuda:0,cuda:1, each, the others without the images\n",
            ),
            ("vulkan:0", "on the device\n", "", "on vulkan:0\n"),
        ] {
            let text = lines(device);
            assert_eq!(text.contains("  images "), !counted.is_empty(), "{text}");
            assert_eq!(text.contains("the data set"), !besides.is_empty(), "{text}");
            for part in [counted, besides, title] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
