//! What there is to tell of a run, as its lines for programs have it.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use run_files::metrics::{EpochRow, Terms};
use run_files::settings::Settings;

/// A line for programs, whose first key names the event.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    RunStart(&'a RunStart<'a>),
    Step(&'a StepProgress),
    Epoch(&'a EpochEnd),
    Notice { text: &'a str },
    Finish(&'a Finish<'a>),
}

/// The start of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RunStart<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The run folder.
    #[serde(serialize_with = "as_text")]
    pub run_dir: &'a Path,
    /// Images trained on.
    pub train_images: usize,
    /// Images validated on.
    pub valid_images: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// First epoch to come, from 1; larger than 1 in a resumed run.
    pub first_epoch: u32,
    /// No epoch is to come: what is left is to score the weights and to write the results.
    pub is_over: bool,
}

/// A step within an epoch.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepProgress {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Epochs at most.
    pub epochs: u32,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// How fast this process makes the epoch's steps; none before the first that counts.
    #[serde(rename = "images_per_second", serialize_with = "as_images_per_second")]
    pub rate: Option<StepRate>,
    /// Seconds since the epoch began.
    #[serde(skip)]
    pub seconds: f64,
    /// The loss so far in this epoch, in nats an image.
    #[serde(flatten)]
    pub terms: Terms,
}

/// How fast steps are made; the first of a process does not count where kernels are compiled in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRate {
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds a step.
    pub seconds_per_step: f64,
}

/// The end of an epoch.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EpochEnd {
    /// Its numbers.
    #[serde(flatten, serialize_with = "as_metrics")]
    pub row: EpochRow,
    /// Epochs at most.
    #[serde(skip)]
    pub epochs: u32,
    /// Seconds of training and validation.
    pub seconds: f64,
    /// Training images a second.
    pub images_per_second: f64,
    /// Whether its validation loss is the best so far.
    pub is_best: bool,
    /// Learning rate of the next epoch.
    pub next_learning_rate: f64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// All epochs are done.
    EpochLimit,
    /// The validation loss stopped improving.
    EarlyStopping,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Finish<'a> {
    /// Why it ended.
    pub reason: StopReason,
    /// Seconds since the start, or since the resumption.
    pub seconds: f64,
    /// The epoch with the best validation loss.
    #[serde(serialize_with = "as_metrics")]
    pub best: EpochRow,
    /// The last epoch.
    #[serde(serialize_with = "as_metrics")]
    pub last: EpochRow,
    /// The best epoch's weights on the test set.
    pub test: Terms,
    /// The run folder.
    #[serde(serialize_with = "as_text")]
    pub run_dir: &'a Path,
    /// Pictures to look at.
    #[serde(serialize_with = "as_texts")]
    pub pictures: &'a [PathBuf],
}

/// A path, also where it is no UTF-8.
fn as_text<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

fn as_texts<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

/// With the keys of `metrics.jsonl`.
fn as_metrics<S: Serializer>(row: &EpochRow, to: S) -> Result<S::Ok, S::Error> {
    row.to_json().serialize(to)
}

fn as_images_per_second<S: Serializer>(rate: &Option<StepRate>, to: S) -> Result<S::Ok, S::Error> {
    rate.map(|rate| rate.images_per_second).serialize(to)
}
