//! Before the first step: the run folder is taken, and what the run is stands in it.

mod start;

use burn::prelude::*;

use super::error::TrainError;
use super::options::TrainOptions;
use super::room::SMALL_FILES;
use super::{Training, ranks};
use crate::device::{matrix_products, matrix_products_line, memory, open_device_for};
use crate::experiment::data;
use crate::experiment::evaluate::cross_entropy_floor;
use crate::experiment::file_list::open_file_list;
use crate::experiment::model::{Model, model_config};
use crate::experiment::split_images::ImagePlace;
use crate::process::progress::Progress;
use crate::ranks::Ranks;
use crate::step::fault::FaultInjector;
use run_files::checkpoint::Origin;
use run_files::file_operations::lacks_folder_sync;
use run_files::run_folder::{
    RunFolder, read_config, recorded_data_hash, recorded_origin, unrecorded_differences,
};
use run_files::settings::{Difference, Settings};

impl<'a> Training<'a> {
    /// Takes the run folder and records there what the run is.
    pub(in crate::train) fn prepare(
        settings: &'a Settings,
        options: TrainOptions<'a>,
        device: &Device,
        progress: &mut Progress,
    ) -> Result<Self, TrainError> {
        let config = model_config(settings)?;
        memory::check(settings, &config)?;
        // A run that was made with the embedded sample goes on with it.
        let recorded = recorded_data_hash(options.run_dir);
        let recorded = recorded.ok().filter(|_| options.resume);
        let data = data::load_recorded(settings, recorded.as_deref())?;
        let splits = data::split(settings, &data)?;
        // Parameters are counted from their shapes; no value is drawn.
        let parameters = Model::new(&config, &device.clone().inner()).num_params();
        let other_devices = settings
            .device
            .others()
            .iter()
            .map(|choice| Ok(open_device_for(*choice, settings.precision)?.autodiff()));
        let other_devices = other_devices.collect::<Result<_, TrainError>>()?;
        let hash = data.fingerprint().to_string();
        let ranks = options.ranks.map_or_else(Ranks::alone, Ranks::clone);
        ranks::check_agreement(settings, &hash, &ranks)?;
        let folder = if !ranks.is_first() {
            RunFolder::of_another(options.run_dir)
        } else if options.resume {
            RunFolder::resume(options.run_dir)?
        } else {
            RunFolder::create(options.run_dir)?
        };
        let mut folder = folder;
        if let Some(line) = matrix_products_line(settings.device.main(), device) {
            progress.notice(&line);
        }
        folder.set_matrix_products(matrix_products(device));
        let train_floor = cross_entropy_floor(&config, &splits.train);
        let valid_floor = cross_entropy_floor(&config, &splits.valid);
        let training = Self {
            settings,
            origin: Origin {
                settings: settings.recorded(),
                data_hash: hash.clone(),
            },
            config,
            device: device.clone().autodiff(),
            other_devices,
            train_floor,
            valid_floor,
            folder,
            splits,
            image_place: ImagePlace::of(device),
            parameters,
            stop: options.stop,
            ranks,
            from_best: options.from_best,
            faults: FaultInjector::none(),
        };
        if !training.ranks.is_first() {
            return Ok(training);
        }
        if !training.folder.is_locked() {
            progress.notice(&format!(
                "the file system of {} has no locks: see to it that no other process trains there",
                training.folder.path().display()
            ));
        }
        let mut changed = Vec::new();
        if training.folder.holds_a_run() {
            changed = training.check_unchanged(&data, options.allow_config_change, progress)?;
        }
        training.remove_unfinished(progress)?;
        training.check_space()?;
        // What may differ, such as the number of epochs, is what the run will have been made with.
        training.persist(progress, SMALL_FILES, || {
            // The run is not, or no longer, the finished one that a list would describe.
            open_file_list(&training.folder)?;
            let source = data.source().to_string();
            Ok(training.folder.record(settings, &hash, &source, &changed)?)
        })?;
        if lacks_folder_sync() {
            progress.notice(&format!(
                "the file system of {} cannot sync folders: a crash of the machine may cost the newest checkpoint",
                training.folder.path().display()
            ));
        }
        Ok(training)
    }

    /// Compares the settings and the data with those that the run was made with, by its newest checkpoint where it has one.
    /// Returns the settings that change, which the user has allowed.
    fn check_unchanged(
        &self,
        data: &data::Data,
        allow_config_change: bool,
        progress: &mut Progress,
    ) -> Result<Vec<Difference>, TrainError> {
        let path = self.folder.path().to_owned();
        let before = match recorded_origin(&path)? {
            Some((_, settings, _)) => settings,
            None => read_config(&path)?,
        };
        let differences = unrecorded_differences(&path, &before, self.settings);
        if !differences.is_empty() && !allow_config_change {
            return Err(TrainError::SettingsChanged { path, differences });
        }
        let fixed: Vec<_> = differences
            .iter()
            .filter(|difference| difference.is_fixed())
            .cloned()
            .collect();
        if !fixed.is_empty() {
            return Err(TrainError::SettingsFixed {
                path,
                differences: fixed,
            });
        }
        for difference in &differences {
            progress.notice(&format!("continuing with another setting: {difference}"));
        }
        data::check_recorded(&path, &recorded_data_hash(&path)?, data)?;
        Ok(differences)
    }
}
