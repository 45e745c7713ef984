//! What the decoder makes along lines through the latent space.

use std::path::Path;

use burn::prelude::*;
use cifar_loader::View;

use crate::experiment::error::ExperimentError;
use crate::experiment::model::Model;
use run_files::atomic_file::write_atomically;
use run_files::output_file::write_output;
use run_files::run_folder::file_error;
use run_files::run_record::LatentStatistics;
use run_report::image_sheet::{SheetLayout, encode_png};

/// Where a picture goes.
#[derive(Clone, Copy)]
pub struct PictureFile<'a> {
    path: &'a Path,
    write: fn(&Path, &[u8]) -> std::io::Result<()>,
}

impl<'a> PictureFile<'a> {
    /// A file that a user named: links are followed, pipes and devices written.
    pub fn named(path: &'a Path) -> Self {
        Self {
            path,
            write: write_output,
        }
    }

    /// A file of a run folder, which may have been handed over: whatever stands there is replaced, and nothing behind it changes.
    pub fn of_run(path: &'a Path) -> Self {
        Self {
            path,
            write: write_atomically,
        }
    }
}

/// Which lines a traversal follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraversalOptions {
    /// Dimensions shown, those with the most KL divergence first; one row each.
    pub dimensions: usize,
    /// Pictures a row.
    pub columns: usize,
    /// From this many prior deviations below 0 to as many above.
    pub range: f64,
}

/// Writes one row for each of the dimensions that are used most: the decoder's picture where that dimension runs over the
/// prior's range and all others stay at the posterior's mean of `image`. Returns the dimensions, in the order of the rows.
///
/// # Errors
/// If the picture cannot be written.
///
/// # Panics
/// If `image` is no position of `view`.
pub fn write_traversal(
    model: &Model,
    view: &View,
    image: u32,
    statistics: &LatentStatistics,
    options: TraversalOptions,
    file: PictureFile<'_>,
    device: &Device,
) -> Result<Vec<usize>, ExperimentError> {
    let device = device.clone().inner();
    let base = means(model, view, &[image], &device);
    let shown = most_used(&statistics.kl_per_dimension, options.dimensions);
    let mut sheet = Vec::new();
    for dimension in &shown {
        let rows = positions(options.columns).map(|share| {
            let mut latent = base.clone();
            latent[*dimension] = (options.range * (2.0 * share - 1.0)) as f32;
            latent
        });
        sheet.extend(decode(model, rows.collect(), &device));
    }
    write_sheet(file, &sheet, options.columns)?;
    Ok(shown)
}

/// Writes one row for each pair of images: from the first one's reconstruction to the second one's, along the straight line
/// between their posteriors' means.
///
/// # Errors
/// If the picture cannot be written.
///
/// # Panics
/// If the pairs are no positions of `view`.
pub fn write_interpolations(
    model: &Model,
    view: &View,
    pairs: &[[u32; 2]],
    columns: usize,
    file: PictureFile<'_>,
    device: &Device,
) -> Result<(), ExperimentError> {
    let device = device.clone().inner();
    let mut sheet = Vec::new();
    for pair in pairs {
        let both = means(model, view, pair, &device);
        let (from, to) = both.split_at(model.latent_dim());
        let rows = positions(columns).map(|share| {
            let mixed = from.iter().zip(to);
            mixed
                .map(|(from, to)| from + (to - from) * share as f32)
                .collect::<Vec<f32>>()
        });
        sheet.extend(decode(model, rows.collect(), &device));
    }
    write_sheet(file, &sheet, columns)
}

/// The dimensions with the largest values, largest first.
fn most_used(kl_per_dimension: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..kl_per_dimension.len()).collect();
    order.sort_by(|a, b| kl_per_dimension[*b].total_cmp(&kl_per_dimension[*a]));
    order.truncate(count);
    order
}

/// Evenly from 0 to 1; the middle, where there is one picture only.
fn positions(columns: usize) -> impl Iterator<Item = f64> {
    (0..columns).map(move |column| match columns {
        1 => 0.5,
        _ => column as f64 / (columns - 1) as f64,
    })
}

/// The posteriors' means of images of a split, one after the other.
fn means(model: &Model, view: &View, images: &[u32], device: &Device) -> Vec<f32> {
    let images = view.batch(images).to_tensor(device);
    let data = model.posterior(images).mean.into_data();
    let data = data.convert_dtype(burn::tensor::DType::F32);
    data.try_to_vec::<f32>()
        .expect("converted to float32 just now")
}

/// Latents decoded at a time.
const AT_A_TIME: usize = 100;

/// The pictures of some latents.
fn decode(model: &Model, latents: Vec<Vec<f32>>, device: &Device) -> Vec<f32> {
    let pictures = latents.chunks(AT_A_TIME).map(|latents| {
        let shape = [latents.len(), model.latent_dim()];
        let latents = TensorData::new(latents.concat(), shape);
        let images = model.generate(Tensor::<2>::from_data(latents, device));
        let data = images.into_data().convert_dtype(burn::tensor::DType::F32);
        data.try_to_vec::<f32>()
            .expect("converted to float32 just now")
    });
    pictures.collect::<Vec<_>>().concat()
}

fn write_sheet(
    PictureFile { path, write }: PictureFile<'_>,
    pixels: &[f32],
    columns: usize,
) -> Result<(), ExperimentError> {
    let layout = SheetLayout {
        upscale: 2,
        ..SheetLayout::with_columns(columns)
    };
    let png = encode_png(pixels, layout)?;
    Ok(write(path, &png).map_err(file_error(path))?)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::model::initial_model;
    use vae_core::{Depth, VaeConfig};

    fn model() -> Model {
        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(4);
        initial_model(&config.into(), 2, &Device::flex())
    }

    #[test]
    fn the_most_used_dimensions_come_first() {
        assert_eq!(most_used(&[0.1, 3.0, 0.0, 2.0], 3), [1, 3, 0]);
        assert_eq!(most_used(&[0.1, 3.0], 5), [1, 0]);
    }

    #[test]
    fn an_interpolation_begins_and_ends_at_the_reconstructions() {
        let (model, device) = (model(), Device::flex());
        let view = cifar_loader::Cifar10::sample().expect("embedded").test();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("line.png");
        write_interpolations(
            &model,
            &view,
            &[[3, 5]],
            4,
            PictureFile::named(&path),
            &device,
        )
        .expect("written");
        let sheet = image_bytes(&path);
        let expected = folder.path().join("ends.png");
        let images = model.reconstruct(view.batch(&[3, 5]).to_tensor(&device));
        let pixels = images.into_data().try_to_vec::<f32>().expect("float32");
        write_sheet(PictureFile::named(&expected), &pixels, 2).expect("written");
        let ends = image_bytes(&expected);
        // Pictures of 64 pixels with gaps of 2: the first of both sheets, and the last.
        let column = |(width, pixels): &(usize, Vec<u8>), from: usize| -> Vec<u8> {
            pixels
                .chunks(3 * width)
                .flat_map(|row| row[3 * from..3 * (from + 64)].to_vec())
                .collect()
        };
        let left = |sheet: &(usize, Vec<u8>)| column(sheet, 2.min(sheet.0 % 66));
        let right = |sheet: &(usize, Vec<u8>)| column(sheet, sheet.0 - 64 - 2.min(sheet.0 % 66));
        assert!(left(&sheet) == left(&ends) && right(&sheet) == right(&ends));
        assert!(left(&sheet) != right(&sheet));
    }

    fn image_bytes(path: &Path) -> (usize, Vec<u8>) {
        let image = image::open(path).expect("a picture").into_rgb8();
        (image.width() as usize, image.into_raw())
    }

    #[test]
    fn a_traversal_has_a_row_a_dimension() {
        let (model, device) = (model(), Device::flex());
        let view = cifar_loader::Cifar10::sample().expect("embedded").test();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.png");
        let statistics = LatentStatistics {
            kl_per_dimension: vec![0.5, 0.1, 2.0, 0.0],
            mean_variance: vec![0.0; 4],
        };
        let options = TraversalOptions {
            dimensions: 2,
            columns: 5,
            range: 3.0,
        };
        let shown = write_traversal(
            &model,
            &view,
            0,
            &statistics,
            options,
            PictureFile::of_run(&path),
            &device,
        );
        assert_eq!(shown.expect("written"), [2, 0]);
        let (width, bytes) = image_bytes(&path);
        let height = bytes.len() / 3 / width;
        assert_eq!((width / 64, height / 64), (5, 2));
    }
}
