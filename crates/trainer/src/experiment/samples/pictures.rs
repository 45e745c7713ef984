//! Sample and reconstruction sheets.

use std::num::NonZeroUsize;
use std::path::Path;

use burn::prelude::*;
use cifar_loader::{BatchPlan, View};
use resnet_blocks::join;

use crate::experiment::error::ExperimentError;
use crate::experiment::model::Model;
use crate::experiment::prior::LatentPrior;
use crate::experiment::samples::prior_samples::PriorSamples;
use crate::experiment::split_images::{ImagePlace, SplitImages, is_gpu};
use run_files::output_file::write_output;
use run_report::image_sheet::{ImageSheetError, SheetLayout, encode_png, write_png};

pub use crate::experiment::prior::LatentDraw;
pub use run_files::run_folder::{FINAL_RECONSTRUCTIONS, FINAL_SAMPLES};

/// Images in a row of every sheet.
const COLUMNS: NonZeroUsize = NonZeroUsize::new(10).expect("a constant above zero");

/// Writes `rows` rows of ten images decoded from draws from the prior, the same draws for equal seed and sheet number.
///
/// # Errors
/// If the picture cannot be written.
pub fn write_samples(
    model: &Model,
    rows: usize,
    seed: u64,
    sheet: u64,
    path: &Path,
    device: &Device,
) -> Result<(), ExperimentError> {
    let draw = LatentDraw {
        prior: &LatentPrior::StandardNormal,
        temperature: 1.0,
        seed,
        sheet,
    };
    write_samples_from(model, rows, draw, path, device)
}

/// As [`write_samples`], from any prior at any temperature.
///
/// # Errors
/// If the picture cannot be written.
pub fn write_samples_from(
    model: &Model,
    rows: usize,
    draw: LatentDraw<'_>,
    path: &Path,
    device: &Device,
) -> Result<(), ExperimentError> {
    let mut images = PriorSamples::new(model, rows * COLUMNS.get(), draw, device);
    if is_gpu(device) {
        // Beside a training, whose maps leave little of a small card's memory: a row at a time, as reconstructions.
        images = images.at_a_time(COLUMNS);
    }
    write_sheet(path, &images.flatten().collect::<Vec<f32>>())
}

/// Writes the first twenty images of a split, each row above its reconstructions from the posterior's mean.
///
/// # Errors
/// If the picture cannot be written.
pub fn write_reconstructions(
    model: &Model,
    view: &View,
    path: &Path,
    device: &Device,
) -> Result<(), ExperimentError> {
    let images = SplitImages::new(view, &device.clone().inner(), ImagePlace::Host);
    write_reconstructions_of(model, &images, path)
}

/// As [`write_reconstructions`], of images that may lie on the model's device already, without autodiff.
pub(crate) fn write_reconstructions_of(
    model: &Model,
    images: &SplitImages,
    path: &Path,
) -> Result<(), ExperimentError> {
    let mut sheet = Vec::new();
    let plan = BatchPlan::evaluation(images.view().clone(), COLUMNS);
    let rows = images.view().len().div_ceil(COLUMNS.get()).min(2);
    let epoch = images.epoch(&plan, 0);
    for row in 0..rows {
        let images = epoch.batch(row).tensor();
        let reconstructions = model.reconstruct(images.clone());
        let missing = COLUMNS.get() - images.dims()[0];
        let missing = vec![1.0; missing * cifar_loader::IMAGE_BYTES];
        for images in [images, reconstructions] {
            sheet.extend(pixels(images));
            sheet.extend(&missing);
        }
    }
    write_sheet(path, &sheet)
}

/// Writes one image beside its reconstruction, into a file that the user named.
///
/// # Errors
/// If the picture cannot be written.
pub fn write_reconstruction(
    model: &Model,
    image: Vec<f32>,
    path: &Path,
    device: &Device,
) -> Result<(), ExperimentError> {
    let device = device.clone().inner();
    let image = Tensor::<4>::from_data(TensorData::new(image, [1, 3, 32, 32]), &device);
    let pair = join(vec![image.clone(), model.reconstruct(image)], 0);
    let layout = SheetLayout {
        upscale: 4,
        ..SheetLayout::with_columns(2)
    };
    let png = encode_png(&pixels(pair), layout)?;
    let written = write_output(path, &png);
    Ok(written.map_err(|cause| ImageSheetError::Unwritable {
        path: path.to_owned(),
        cause,
    })?)
}

fn write_sheet(path: &Path, pixels: &[f32]) -> Result<(), ExperimentError> {
    let layout = SheetLayout {
        upscale: 2,
        ..SheetLayout::with_columns(COLUMNS.get())
    };
    Ok(write_png(path, pixels, layout)?)
}

fn pixels(images: Tensor<4>) -> Vec<f32> {
    let data = images.into_data().convert_dtype(burn::tensor::DType::F32);
    data.try_to_vec::<f32>()
        .expect("converted to float32 just now")
}
