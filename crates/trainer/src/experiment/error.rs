//! What can go wrong with a model, its data, and what is made of both.

use std::path::PathBuf;

use super::prior::PriorError;
use run_files::checkpoint::CheckpointError;
use run_files::run_folder::RunFolderError;
use run_files::settings::SettingsError;
use run_files::shell::quoted_path;
use run_files::weights::WeightsError;
use run_report::image_sheet::ImageSheetError;

/// What can go wrong with a model, its data, and what is made of both.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// The model's sizes do not fit together.
    #[error("no model has these sizes: {0}")]
    Model(vae_core::ConfigError),
    /// The data set is missing or damaged.
    #[error(transparent)]
    Data(#[from] cifar_loader::Error),
    /// There is no data set, and the run did not ask for the sample.
    #[error(
        "there is no data set in `data`: get it with `cargo xtask download` (170 MB), or name its folder with `--data-dir`; \
         `--preset demo`, or `train` with `--data sample`, takes the 2,000 + 500 images inside the program"
    )]
    NoData,
    /// A run would be measured on other images than its own.
    #[error(
        "the run in {} was made with {recorded}, and this is {found}: {cure}",
        .run_dir.display()
    )]
    OtherData {
        /// The run folder.
        run_dir: PathBuf,
        /// Place and hash of its data.
        recorded: String,
        /// Of the data at hand.
        found: String,
        /// What to do.
        cure: &'static str,
    },
    /// A file that a finished run wrote was changed since.
    #[error(
        "{} was changed since the run wrote it: expected {expected}, found {found}; restore it from a copy, or resume the run, \
         which writes it anew",
        .path.display()
    )]
    FileDamaged {
        /// The file.
        path: PathBuf,
        /// Recorded.
        expected: String,
        /// On disk.
        found: String,
    },
    /// Exported weights are not those of the run's model.
    #[error("{}: {source}; restore it from a copy, or resume the run, which writes it anew", .path.display())]
    ExportedWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        r#source: WeightsError,
    },
    /// A model's score is no number.
    #[error(
        "the score of the run in {} is not finite: its weights are damaged, or it diverged; \
         `cargo xtask verify-run --run-dir {}` tells which",
        .run_dir.display(), quoted_path(.run_dir)
    )]
    ScoreNotFinite {
        /// The run folder.
        run_dir: PathBuf,
    },
    /// A run's folder or one of its files could not be written or read.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// A run's settings could not be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Weights could not be written or read.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// A mixture to draw latents from could not be fitted or read.
    #[error(transparent)]
    Prior(#[from] PriorError),
    /// The weights of the FID's network could not be read.
    #[error(transparent)]
    Inception(#[from] inception_features::WeightsError),
    /// A picture could not be written or read.
    #[error(transparent)]
    Picture(#[from] ImageSheetError),
}

impl From<vae_core::ConfigError> for ExperimentError {
    fn from(error: vae_core::ConfigError) -> Self {
        Self::Model(error)
    }
}

impl ExperimentError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Model(_) | Self::Settings(_) | Self::Prior(_) | Self::Inception(_) => 2,
            Self::Data(error) => error.exit_code(),
            Self::Folder(error) => error.exit_code(),
            Self::NoData | Self::OtherData { .. } => 12,
            Self::Weights(_)
            | Self::FileDamaged { .. }
            | Self::ExportedWeights { .. }
            | Self::ScoreNotFinite { .. } => 20,
            // A picture that was given, and a sheet that was asked for, are like flags.
            Self::Picture(
                ImageSheetError::Unreadable { .. }
                | ImageSheetError::NoPicture { .. }
                | ImageSheetError::TooLarge { .. }
                | ImageSheetError::Truncated { .. }
                | ImageSheetError::ImpossibleLayout { .. },
            ) => 2,
            Self::Picture(_) => 21,
        }
    }

    /// The file that there was no room for, where that is what happened.
    pub(crate) fn full_at(&self) -> Option<&std::path::Path> {
        match self {
            Self::Folder(error) => error.full_at(),
            Self::Weights(error) => error.full_at(),
            Self::Picture(error) => error.full_at(),
            _ => None,
        }
    }
}
