//! What can go wrong with a model, its data, and what is made of both.

use super::prior::PriorError;
use run_files::checkpoint::CheckpointError;
use run_files::run_folder::RunFolderError;
use run_files::settings::SettingsError;
use run_report::image_sheet::ImageSheetError;

/// What can go wrong with a model, its data, and what is made of both.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// The model's sizes do not fit together.
    #[error("no model has these sizes: {0}")]
    Model(#[from] vae_core::ConfigError),
    /// The data set is missing or damaged.
    #[error(transparent)]
    Data(#[from] cifar_loader::Error),
    /// Too little data for one batch or one evaluation.
    #[error("the {split} split has no image; raise `--limit-train` or `--limit-test`")]
    EmptySplit {
        /// Its name.
        split: cifar_loader::Split,
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
    /// A picture could not be written or read.
    #[error(transparent)]
    Picture(#[from] ImageSheetError),
}

impl ExperimentError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Model(_) | Self::EmptySplit { .. } | Self::Settings(_) | Self::Prior(_) => 2,
            Self::Data(error) => error.exit_code(),
            Self::Folder(error) => error.exit_code(),
            Self::Weights(_) => 20,
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
