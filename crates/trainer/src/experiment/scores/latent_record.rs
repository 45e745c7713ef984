//! What a finished model's latents tell about the images, with pictures of what the decoder makes of them.

use std::num::NonZeroUsize;
use std::path::Path;

use burn::prelude::*;
use burn::tensor::DType;
use cifar_loader::{BatchPlan, View};
use run_files::atomic_file::write_atomically;
use run_files::run_folder::file_error;
use run_files::run_record::{INTERPOLATIONS, LATENTS, LatentRecord, LatentStatistics, TRAVERSALS};
use vae_core::Sampler;
use vae_measures::LatentInformation;

use crate::experiment::error::ExperimentError;
use crate::experiment::model::Model;
use crate::experiment::random::{Purpose, Stream};
use crate::experiment::samples::latent_pictures::{
    PictureFile, TraversalOptions, write_interpolations, write_traversal,
};

/// Images that the estimates are of unless another number is asked for: their cost grows with the square.
pub const USUAL_IMAGES: NonZeroUsize = NonZeroUsize::new(2000).expect("a constant above zero");

/// Images at a time.
const BATCH: NonZeroUsize = NonZeroUsize::new(100).expect("a constant above zero");
/// Rows and columns of the pictures, and how far a traversal goes, in the prior's standard deviations.
const DIMENSIONS: usize = 10;
const COLUMNS: usize = 11;
const RANGE: f64 = 3.0;
const PAIRS: u32 = 5;

/// The mean KL divergence of the first `images` of a split, in its two terms: estimates from one draw of each image's
/// posterior among all of them. Posteriors are those that `sampler` draws from, since no others meet the decoder.
///
/// # Panics
/// If the split is empty.
pub fn latent_information(
    model: &Model,
    view: &View,
    images: NonZeroUsize,
    (sampler, seed): (Sampler, u64),
    device: &Device,
) -> LatentInformation {
    let device = device.clone().inner();
    let view = view.first(images.get());
    let dimensions = model.latent_dim();
    let plan = BatchPlan::evaluation(view.clone(), BATCH);
    let (mut means, mut log_variances) = (Vec::new(), Vec::new());
    for index in 0..plan.num_batches() {
        let images = plan.batch(0, index).to_tensor(&device);
        let posterior = model.posterior(images).drawn_by(sampler);
        means.extend(wide(posterior.mean));
        log_variances.extend(wide(posterior.log_variance));
    }
    let noise: Vec<f64> = (0..view.len() as u64)
        .flat_map(|image| {
            // Other numbers than those that a mixture prior is fitted to, which are streams of batches.
            let index = 1 << 40 | image;
            Stream::new(seed, Purpose::InformationNoise, index).standard_normal(dimensions)
        })
        .map(f64::from)
        .collect();
    LatentInformation::estimate(&means, &log_variances, &noise, dimensions)
}

/// What [`write_latent_record`] goes by.
#[derive(Clone, Copy, Debug)]
pub struct LatentRecordOptions<'a> {
    /// The epoch of the weights.
    pub weights_of_epoch: u32,
    /// Test images that the estimates are of.
    pub images: NonZeroUsize,
    /// Of the run: how the posterior is drawn from.
    pub sampler: Sampler,
    /// Of the run.
    pub seed: u64,
    /// Of the run's summary: which dimensions are used most.
    pub statistics: &'a LatentStatistics,
}

/// Measures a finished model and writes the record with its two pictures into the run folder, the record last.
///
/// # Errors
/// If a file cannot be written.
///
/// # Panics
/// If the test split is empty.
pub fn write_latent_record(
    run_dir: &Path,
    model: &Model,
    test: &View,
    options: LatentRecordOptions<'_>,
    device: &Device,
) -> Result<LatentRecord, ExperimentError> {
    let found = latent_information(
        model,
        test,
        options.images,
        (options.sampler, options.seed),
        device,
    );
    let traversal = TraversalOptions {
        dimensions: DIMENSIONS,
        columns: COLUMNS,
        range: RANGE,
    };
    let traversals = run_dir.join(TRAVERSALS);
    let statistics = options.statistics;
    let traversed = write_traversal(
        model,
        test,
        0,
        statistics,
        traversal,
        PictureFile::of_run(&traversals),
        device,
    )?;
    let interpolated: Vec<[u32; 2]> = (0..PAIRS)
        .map(|row| [2 * row, 2 * row + 1])
        .filter(|[_, last]| (*last as usize) < test.len())
        .collect();
    let interpolations = run_dir.join(INTERPOLATIONS);
    if !interpolated.is_empty() {
        write_interpolations(
            model,
            test,
            &interpolated,
            COLUMNS,
            PictureFile::of_run(&interpolations),
            device,
        )?;
    }
    let record = LatentRecord {
        weights_of_epoch: options.weights_of_epoch,
        images: test.len().min(options.images.get()) as u64,
        average_kl: found.average_kl,
        mutual_information: found.mutual_information,
        aggregated_posterior_kl: found.marginal_kl,
        ceiling: found.ceiling,
        is_of_posts_draws: options.sampler == Sampler::Blog,
        traversed,
        interpolated,
    };
    let path = run_dir.join(LATENTS);
    write_atomically(&path, &record.to_json()).map_err(file_error(&path))?;
    Ok(record)
}

fn wide(tensor: Tensor<2>) -> Vec<f64> {
    let data = tensor.into_data().convert_dtype(DType::F64);
    data.try_to_vec::<f64>()
        .expect("converted to float64 just now")
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::model::{initial_model, with_posterior};
    use crate::experiment::scores::latent_statistics::latent_statistics;
    use vae_core::{Depth, VaeConfig};

    fn model(latent_dim: usize) -> Model {
        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(latent_dim);
        initial_model(&config.into(), 2, &Device::flex())
    }

    #[test]
    fn information_is_nothing_of_one_posterior_and_all_of_posteriors_apart() {
        let device = Device::flex();
        let view = cifar_loader::Cifar10::sample().expect("embedded").test();
        let information = |model: &Model, sampler| {
            let size = NonZeroUsize::new(7).expect("not zero");
            latent_information(model, &view, size, (sampler, 1), &device)
        };
        // Every image has the same posterior: the latent tells none from another, and all together are as far from the prior as one.
        let (means, log_variances) = ([0.5f32, -1.0, 0.0], [-2.0f32, -1.0, 0.5]);
        let alike = with_posterior(model(3), &means, &log_variances);
        for (sampler, times) in [(Sampler::Correct, 1.0), (Sampler::Blog, 2.0)] {
            let kl: f64 = means
                .into_iter()
                .zip(log_variances)
                .map(|(mean, log_variance)| {
                    let (mean, v) = (f64::from(mean), times * f64::from(log_variance));
                    0.5 * (v.exp() + mean * mean - 1.0 - v)
                })
                .sum();
            let found = information(&alike, sampler);
            assert!(found.mutual_information.abs() < 1e-9, "{found:?}");
            assert!((found.average_kl - kl).abs() < 1e-6, "{found:?} {kl}");
            assert!((found.marginal_kl - kl).abs() < 1e-6, "{found:?} {kl}");
        }
        // Far narrower than the means are apart: a latent tells its image, among seven.
        let apart = resnet_blocks::map_named_parameters(model(3), |name, _| {
            let is_bias = name == "encoder.log_variance.bias";
            is_bias.then(|| TensorData::new(vec![-40.0f32; 3], [3]))
        });
        let found = information(&apart, Sampler::Correct);
        assert!(
            (found.mutual_information - 7f64.ln()).abs() < 1e-9,
            "{found:?}"
        );
    }

    #[test]
    fn the_divergence_is_the_statistics_and_the_pictures_are_there() {
        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(4);
        let device = Device::flex();
        let model = initial_model(&config.into(), 2, &device);
        let view = cifar_loader::Cifar10::sample().expect("embedded").test();
        let view = view.first(7);
        let statistics = latent_statistics(&model, &view, BATCH, &device);
        let folder = tempfile::tempdir().expect("a folder");
        let options = LatentRecordOptions {
            weights_of_epoch: 2,
            images: USUAL_IMAGES,
            sampler: Sampler::Correct,
            seed: 1,
            statistics: &statistics,
        };
        let record = write_latent_record(folder.path(), &model, &view, options, &device);
        let record = record.expect("written");
        let kl: f64 = statistics.kl_per_dimension.iter().sum();
        assert!((record.average_kl / kl - 1.0).abs() < 1e-9);
        assert_eq!((record.images, record.ceiling), (7, 7f64.ln()));
        assert!(record.mutual_information <= record.ceiling);
        // Seven images make three pairs.
        assert_eq!((record.traversed.len(), record.interpolated.len()), (4, 3));
        for name in [TRAVERSALS, INTERPOLATIONS] {
            assert!(image::open(folder.path().join(name)).is_ok(), "{name}");
        }
        let read = LatentRecord::read(folder.path(), 2, run_files::settings::Sampler::Correct);
        assert_eq!(read, Some(record));
    }
}
