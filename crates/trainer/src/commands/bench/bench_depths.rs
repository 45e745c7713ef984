use std::path::PathBuf;

use crate::commands::error::TrainerError;
use crate::commands::number_argument::integer;
use crate::commands::path_argument::{path, result_path};
use crate::process::stop_request::StopRequest;
use crate::sweep::{Matching, Protocol, SweepOptions, SweepPreset, SweepProgress, sweep};
use run_files::run_folder::RunFolderError;
use run_files::settings::DeviceChoice;
use run_files::shell::quoted;

#[derive(clap::Args)]
pub(in crate::commands) struct BenchDepthsFlags {
    /// Layers of the models: some of 28, 40, 70, 100
    #[arg(
        long,
        value_name = "N,N,...",
        value_delimiter = ',',
        default_value = "28,40,70,100"
    )]
    depths: Vec<u32>,
    /// How many seeds: 1 to N [default: 3; the demo's is 2]
    #[arg(long, value_name = "N", value_parser = integer::<u32>(1..=1000))]
    seeds: Option<u32>,
    /// Multiplier of the stage widths and the intermediate dimension [default: 1, the post's]
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    width: Option<String>,
    /// Dimensions of the latent [default: 256]
    #[arg(long, value_name = "Z", allow_negative_numbers = true)]
    latent_dim: Option<String>,
    /// Distribution of the pixels, as for train: with one over grey levels the tables have bits/dim [default: bernoulli]
    #[arg(long, value_name = "NAME")]
    likelihood: Option<String>,
    /// Images per step [default: 25]
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    batch_size: Option<String>,
    /// Epochs at most [default: 1000]
    #[arg(long, value_name = "E", allow_negative_numbers = true)]
    epochs: Option<String>,
    /// Training images used, counted after the split [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit_train: Option<String>,
    /// Test images used, and validation images at most [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit_test: Option<String>,
    #[arg(long, help = format!("{} [default: flex]", DeviceChoice::FORMS), value_name = "X")]
    device: Option<String>,
    /// Folder of the data set [default: data; the embedded sample for the demo]
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    /// Folder of the sweep; a sweep that was stopped resumes there
    #[arg(long, value_name = "DIR", default_value = "runs/bench-depths", value_parser = result_path())]
    out: PathBuf,
    /// Train each depth without shortcuts too
    #[arg(long)]
    plain: bool,
    /// How runs are validated, stopped and scored
    /// [default: held-out; blog under preset fast]
    #[arg(long, value_enum, value_name = "NAME")]
    protocol: Option<Protocol>,
    /// What is held equal between the depths, by their widths
    #[arg(long = "match", value_enum, value_name = "QUANTITY", default_value_t)]
    matching: Matching,
    /// Where the settings start; other flags override it
    #[arg(long, value_enum, value_name = "NAME")]
    preset: Option<SweepPreset>,
    /// Write one JSON object per event to stdout, and nothing else
    #[arg(long)]
    json: bool,
}

pub(in crate::commands) fn run(flags: &BenchDepthsFlags) -> Result<(), TrainerError> {
    let options = SweepOptions {
        depths: flags.depths.clone(),
        seeds: flags.seeds.unwrap_or(match flags.preset {
            Some(SweepPreset::Demo) => 2,
            // As many as the post has.
            Some(SweepPreset::Fast) => 1,
            None => 3,
        }),
        plain: flags.plain,
        protocol: flags.protocol.unwrap_or(match flags.preset {
            Some(SweepPreset::Fast) => Protocol::Blog,
            _ => Protocol::default(),
        }),
        matching: flags.matching,
        preset: flags.preset,
        width: flags.width.clone(),
        latent_dim: flags.latent_dim.clone(),
        likelihood: flags.likelihood.clone(),
        batch_size: flags.batch_size.clone(),
        epochs: flags.epochs.clone(),
        limit_train: flags.limit_train.clone(),
        limit_test: flags.limit_test.clone(),
        device: flags.device.clone(),
        data_dir: flags.data_dir.clone(),
        out: flags.out.clone(),
    };
    let request = StopRequest::on_signals().map_err(|source| RunFolderError::File {
        path: flags.out.clone(),
        source,
    })?;
    let stop = || request.requested().map(|signal| signal.exit_code());
    sweep(&options, &command(), &SweepProgress::new(flags.json), &stop)?;
    Ok(())
}

/// The command as a user types it, whatever program runs it in the end.
fn command() -> String {
    let arguments = std::env::args_os().skip(1);
    let quoted = arguments.map(|argument| quoted(&argument.to_string_lossy()));
    let words: Vec<String> = ["cargo".to_owned(), "xtask".to_owned()]
        .into_iter()
        .chain(quoted)
        .collect();
    words.join(" ")
}
