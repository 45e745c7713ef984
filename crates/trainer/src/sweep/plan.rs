//! Which runs a sweep is made of, in which order, and with which settings.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::columns::Score;
use super::error::SweepError;
use super::matching::{Matching, matched_width, mismatch};
use crate::experiment::model::model_config;
use run_files::settings::{Preset, Settings, TrainFlags, resolve};
use vae_measures::Likelihood;

/// The sweep on the embedded sample: sized to end well within 10 minutes on 2 CPU cores with every depth and two seeds.
/// Small batches, because what a small sample lacks is steps.
const DEMO: DemoSize = DemoSize {
    width: "0.03125",
    latent_dim: "16",
    batch_size: "10",
    epochs: "4",
};

/// The settings in which the demo differs from the preset of that name.
struct DemoSize {
    width: &'static str,
    latent_dim: &'static str,
    batch_size: &'static str,
    epochs: &'static str,
}

/// How a sweep's runs are validated, stopped and scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The post's: the author's sampler; schedule and stopping see the test set
    Blog,
    /// The correct sampler; schedule and stopping see held-out training images, and the test set is scored once
    #[default]
    HeldOut,
}

/// A starting point for a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SweepPreset {
    /// Small models on the embedded sample, minutes on 2 CPU cores
    Demo,
    /// The post's table on one GPU with tensor cores, as presets fast28 to fast100 have it: its protocol, one seed
    Fast,
}

/// What a sweep is asked for. Values that are texts stay as they were typed; the settings check them.
#[derive(Clone, Debug, Default)]
pub struct SweepOptions {
    /// Layers of the models, in the order of the table.
    pub depths: Vec<u32>,
    /// Seeds 1 to this number.
    pub seeds: u32,
    /// Whether each depth is also trained without shortcuts.
    pub plain: bool,
    /// How the runs are validated, stopped and scored.
    pub protocol: Protocol,
    /// What is held equal between depths.
    pub matching: Matching,
    /// Where the settings start; the post's runs where there is none.
    pub preset: Option<SweepPreset>,
    /// Multiplier of the widths.
    pub width: Option<String>,
    /// Dimensions of the latent.
    pub latent_dim: Option<String>,
    /// Distribution of the pixels.
    pub likelihood: Option<String>,
    /// Images a step.
    pub batch_size: Option<String>,
    /// Epochs at most.
    pub epochs: Option<String>,
    /// Training images used.
    pub limit_train: Option<String>,
    /// Test images used.
    pub limit_test: Option<String>,
    /// Where the tensors live.
    pub device: Option<String>,
    /// Folder of the data set.
    pub data_dir: Option<PathBuf>,
    /// Folder of the sweep.
    pub out: PathBuf,
}

/// One row of the table: a depth, with or without shortcuts.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedGroup {
    /// Layers.
    pub depth: u32,
    /// Whether the blocks have shortcuts.
    pub shortcuts: bool,
    /// Multiplier of the widths.
    pub width: f64,
    /// Parameters of the model.
    pub parameters: u64,
    /// Multiply-accumulates of one image, forward.
    pub multiply_accumulates: u64,
    /// How far the matched quantity lies from the first group's, as a share of it; none where nothing is matched.
    pub mismatch: Option<f64>,
}

impl PlannedGroup {
    /// `residual` or `plain`.
    pub fn form(&self) -> &'static str {
        if self.shortcuts { "residual" } else { "plain" }
    }

    /// The group in a few words.
    pub fn label(&self) -> String {
        format!("depth {}, {}", self.depth, self.form())
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// Its group, by position in [`Plan::groups`].
    pub group: usize,
    /// Seed of the run.
    pub seed: u64,
    /// All of its settings but the run folder.
    pub settings: Settings,
}

/// All runs of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The rows of the table.
    pub groups: Vec<PlannedGroup>,
    /// Seed by seed, so that a sweep that is stopped early has a whole table of fewer seeds.
    pub runs: Vec<PlannedRun>,
}

impl Plan {
    /// The runs that the options ask for. No environment variable has a say: a sweep is what its command says.
    ///
    /// # Errors
    /// A setting out of its range; no depth, a depth given twice, or no seed.
    pub fn new(options: &SweepOptions) -> Result<Self, SweepError> {
        if options.depths.is_empty() || options.seeds == 0 {
            return Err(SweepError::NothingToDo);
        }
        let mut seen = Vec::new();
        let mut rows: Vec<(PlannedGroup, Settings)> = Vec::new();
        let mut target = None;
        for depth in &options.depths {
            if seen.contains(depth) {
                return Err(SweepError::RepeatedDepth { depth: *depth });
            }
            seen.push(*depth);
            let forms: &[bool] = if options.plain {
                &[true, false]
            } else {
                &[true]
            };
            for shortcuts in forms {
                rows.push(group(options, *depth, *shortcuts, &mut target)?);
            }
        }
        let runs = (1..=options.seeds).flat_map(|seed| {
            rows.iter().enumerate().map(move |(group, (_, settings))| {
                let seed = u64::from(seed);
                let settings = Settings {
                    seed,
                    ..settings.clone()
                };
                PlannedRun {
                    group,
                    seed,
                    settings,
                }
            })
        });
        Ok(Self {
            runs: runs.collect(),
            groups: rows.into_iter().map(|(group, _)| group).collect(),
        })
    }

    /// The likelihood of every run.
    pub fn likelihood(&self) -> Likelihood {
        self.runs
            .first()
            .map_or(Likelihood::Bernoulli, |run| run.settings.likelihood)
    }

    /// What its groups are compared by.
    pub fn score(&self) -> Score {
        self.runs
            .first()
            .map_or(Score::Excess, |run| Score::of(&run.settings))
    }

    /// The runs of one group, seed by seed.
    pub fn runs_of(&self, group: usize) -> impl Iterator<Item = (usize, &PlannedRun)> {
        self.runs
            .iter()
            .enumerate()
            .filter(move |(_, run)| run.group == group)
    }
}

impl PlannedRun {
    /// Name of the folder that a new run gets.
    pub fn folder_name(&self) -> String {
        let Settings {
            depth, shortcuts, ..
        } = self.settings;
        let form = if shortcuts { "residual" } else { "plain" };
        format!("depth{depth}-{form}-seed-{}", self.seed)
    }
}

/// A group and its settings. The first one made sets the `target` that the others are matched to.
fn group(
    options: &SweepOptions,
    depth: u32,
    shortcuts: bool,
    target: &mut Option<u64>,
) -> Result<(PlannedGroup, Settings), SweepError> {
    let mut settings = run_settings(options, depth, shortcuts, None)?;
    let mut mismatch_of_group = None;
    let matching = options.matching;
    if let Some(cost) = matching.cost(&model_config(&settings)?) {
        let target = *target.get_or_insert(cost);
        if cost != target {
            let width = matched_width(target, |width| {
                run_settings(options, depth, shortcuts, Some(width))
                    .and_then(|trial| Ok(model_config(&trial)?))
                    .ok()
                    .and_then(|config| matching.cost(&config))
                    .unwrap_or(u64::MAX)
            });
            settings = run_settings(options, depth, shortcuts, Some(width))?;
        }
        let cost = matching.cost(&model_config(&settings)?).unwrap_or(cost);
        mismatch_of_group = Some(mismatch(cost, target));
    }
    let config = model_config(&settings)?;
    let group = PlannedGroup {
        depth,
        shortcuts,
        width: settings.width,
        parameters: config.num_params(),
        multiply_accumulates: config.cost().multiply_accumulates(),
        mismatch: mismatch_of_group,
    };
    Ok((group, settings))
}

/// The settings of a group's runs. The post's preset gives size and schedule; a flag of the sweep wins over it.
fn run_settings(
    options: &SweepOptions,
    depth: u32,
    shortcuts: bool,
    width: Option<f64>,
) -> Result<Settings, SweepError> {
    let is_demo = options.preset == Some(SweepPreset::Demo);
    let or_demo = |given: &Option<String>, demo: &str| {
        given.clone().or_else(|| is_demo.then(|| demo.to_owned()))
    };
    let width = width.map(|width| width.to_string());
    let (sampler, validation) = match options.protocol {
        Protocol::Blog => ("blog", "test"),
        Protocol::HeldOut => ("correct", "held-out"),
    };
    let preset = match options.preset {
        Some(SweepPreset::Demo) => Preset::Demo.to_string(),
        Some(SweepPreset::Fast) => format!("fast{depth}"),
        None => format!("depth{depth}"),
    };
    let flags = TrainFlags {
        // A depth that has no preset is refused by its own range.
        preset: preset.parse::<Preset>().is_ok().then_some(preset),
        depth: Some(depth.to_string()),
        width: width.or_else(|| or_demo(&options.width, DEMO.width)),
        latent_dim: or_demo(&options.latent_dim, DEMO.latent_dim),
        likelihood: options.likelihood.clone(),
        batch_size: or_demo(&options.batch_size, DEMO.batch_size),
        epochs: or_demo(&options.epochs, DEMO.epochs),
        limit_train: options.limit_train.clone(),
        limit_test: options.limit_test.clone(),
        device: options.device.clone(),
        data_dir: options
            .data_dir
            .as_ref()
            .map(|folder| folder.to_string_lossy().into_owned()),
        no_shortcuts: !shortcuts,
        sampler: Some(sampler.to_owned()),
        validation: Some(validation.to_owned()),
        ..TrainFlags::default()
    };
    Ok(resolve(&flags, &|_| None)?.settings)
}

#[cfg(test)]
mod tests;
