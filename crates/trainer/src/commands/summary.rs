use burn::module::Module;
use serde_json::json;

use crate::device::open_device;
use crate::error::TrainerError;
use crate::model::model_config;
use crate::settings::{TrainFlags, resolve};

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
    /// Images a step, for the memory of a step
    #[arg(long, value_name = "B")]
    batch_size: Option<String>,
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
        no_shortcuts: flags.no_shortcuts,
        ..TrainFlags::default()
    };
    let settings = resolve(&flags_of_training, &|name| std::env::var(name).ok())?.settings;
    let config = model_config(&settings)?;
    let cost = config.cost();
    // Parameters are counted from their shapes; no value is drawn.
    let model = config.init(&open_device(settings.device)?);
    let [encoder, decoder, total] = [
        model.encoder.num_params(),
        model.decoder.num_params(),
        model.num_params(),
    ];
    let activation_bytes = 4 * cost.activations * settings.batch_size as u64;
    if flags.json {
        let summary = json!({
            "depth": settings.depth,
            "layers": config.layers(),
            "stage_widths": config.stage_widths,
            "intermediate_dim": config.intermediate_dim,
            "latent_dim": config.latent_dim,
            "parameters": { "encoder": encoder, "decoder": decoder, "total": total },
            "multiply_accumulates_per_image": {
                "encoder": cost.encoder_multiply_accumulates,
                "decoder": cost.decoder_multiply_accumulates,
                "total": cost.multiply_accumulates(),
            },
            "activations_per_image": cost.activations,
            "batch_size": settings.batch_size,
            "activation_bytes": activation_bytes,
        });
        println!("{summary:#}");
    } else {
        println!(
            "depth {}, stage widths {:?}, intermediate {}, latent {}",
            settings.depth, config.stage_widths, config.intermediate_dim, config.latent_dim
        );
        println!("layers                  {:>15}", config.layers());
        println!("parameters              {total:>15}  (encoder {encoder}, decoder {decoder})");
        println!(
            "multiply-accumulates    {:>15}  an image, forward",
            cost.multiply_accumulates()
        );
        println!(
            "activation memory       {:>11.1} MiB  for a batch of {}",
            activation_bytes as f64 / (1u64 << 20) as f64,
            settings.batch_size
        );
    }
    Ok(())
}
