//! Any number of images drawn from the prior, in constant memory: as one sheet, as numbered PNGs, or as one array.

use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use burn::prelude::*;
use burn::tensor::DType;

use crate::experiment::error::ExperimentError;
use crate::experiment::model::Model;
use crate::experiment::prior::LatentDraw;
use crate::experiment::random::{Purpose, Stream};
use run_files::output_file::{OutputFile, write_output};
use run_files::run_folder::RunFolderError;
use run_report::image_sheet::{
    CHANNELS, ImageSheetError, SIDE, SheetLayout, VALUES, encode_png_u8, to_byte,
};

/// Images decoded at a time, and latents drawn at a time: also where fewer are left, so that images are the same however many follow.
const AT_A_TIME: usize = 100;
/// Columns of a sheet, magnification and gap, as of every sheet of a run.
const COLUMNS: usize = 10;
const UPSCALE: usize = 2;
const GAP: usize = 2;
/// Rows that are drawn in memory, by the encoder that makes the sheets of runs.
const ROWS_IN_MEMORY: usize = 100;

/// Draws from the prior, decoded a hundred at a time.
pub struct PriorSamples<'a> {
    model: &'a Model,
    device: Device,
    draw: LatentDraw<'a>,
    latents: Stream,
    left: usize,
    /// Images decoded at a time at most.
    most: usize,
}

impl<'a> PriorSamples<'a> {
    /// `count` draws, the same for equal seed and sheet number.
    pub fn new(model: &'a Model, count: usize, draw: LatentDraw<'a>, device: &Device) -> Self {
        Self {
            model,
            device: device.clone().inner(),
            latents: Stream::new(draw.seed, Purpose::Samples, draw.sheet),
            draw,
            left: count,
            most: AT_A_TIME,
        }
    }

    /// The same draws with so many decoded at a time at most, where memory is short.
    pub(crate) fn at_a_time(mut self, images: NonZeroUsize) -> Self {
        self.most = images.get().min(AT_A_TIME);
        self
    }

    /// `[batch, 3, 32, 32]`, in \[0, 1\], of latents `[batch, latent_dim]`
    fn decode(&self, latents: &[f32]) -> Vec<f32> {
        let latent_dim = self.model.latent_dim();
        let shape = [latents.len() / latent_dim, latent_dim];
        let latents = TensorData::new(latents.to_vec(), shape);
        let latents = Tensor::<2>::from_data(latents, &self.device);
        let images = self.model.generate(latents).into_data();
        images
            .convert_dtype(DType::F32)
            .try_to_vec::<f32>()
            .expect("converted to float32 just now")
    }
}

impl PriorSamples<'_> {
    /// `[batch, latent_dim]`; none where all are drawn.
    fn next_latents(&mut self) -> Option<Vec<f32>> {
        let batch = self.left.min(AT_A_TIME);
        if batch == 0 {
            return None;
        }
        self.left -= batch;
        let latent_dim = self.model.latent_dim();
        let LatentDraw {
            prior, temperature, ..
        } = self.draw;
        // Whole, since a mixture reads its choices of components behind the noise of all of them.
        let mut latents = prior.draw(&mut self.latents, AT_A_TIME, latent_dim, temperature);
        latents.truncate(batch * latent_dim);
        Some(latents)
    }
}

impl Iterator for PriorSamples<'_> {
    /// `[batch, 3, 32, 32]`, in \[0, 1\]
    type Item = Vec<f32>;

    fn next(&mut self) -> Option<Self::Item> {
        let latents = self.next_latents()?;
        let passes = latents.chunks(self.most * self.model.latent_dim());
        Some(passes.flat_map(|latents| self.decode(latents)).collect())
    }
}

/// The form in which draws are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SampleForm {
    /// One picture, ten images a row.
    Sheet,
    /// A folder of pictures, `00000.png` and so on.
    Images,
    /// One NumPy array of bytes, `[count, 32, 32, 3]`.
    Array,
}

impl SampleForm {
    /// The form that a name's ending asks for: `.png` a sheet, `.npy` an array, any other a folder of pictures.
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|ending| ending.to_str());
        match ending.map(str::to_lowercase).as_deref() {
            Some("png") => Self::Sheet,
            Some("npy") => Self::Array,
            // A pipe or a device takes one picture.
            None if fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir()) => Self::Sheet,
            _ => Self::Images,
        }
    }
}

/// Writes `count` draws.
///
/// # Errors
/// Where the system refuses; where a folder for pictures holds something already.
pub fn write_prior_samples(
    samples: PriorSamples<'_>,
    count: usize,
    form: SampleForm,
    out: &Path,
) -> Result<(), ExperimentError> {
    let written = match form {
        SampleForm::Sheet => write_sheet(samples, count, out)?,
        SampleForm::Images => write_images(samples, out)?,
        SampleForm::Array => write_array(samples, count, out),
    };
    Ok(written.map_err(|source| RunFolderError::File {
        path: out.to_owned(),
        source,
    })?)
}

fn bytes(images: &[f32]) -> Vec<u8> {
    images.iter().map(|value| to_byte(*value)).collect()
}

type Written = Result<io::Result<()>, ImageSheetError>;

fn write_sheet(samples: PriorSamples<'_>, count: usize, out: &Path) -> Written {
    let rows = count.div_ceil(COLUMNS);
    let layout = SheetLayout {
        columns: COLUMNS,
        gap: GAP,
        upscale: UPSCALE,
    };
    if rows <= ROWS_IN_MEMORY {
        let images: Vec<u8> = samples.flat_map(|images| bytes(&images)).collect();
        let png = encode_png_u8(&images, layout)?;
        return Ok(write_output(out, &png));
    }
    let tile = SIDE * UPSCALE;
    let (width, height) = (COLUMNS * (tile + GAP) - GAP, rows * (tile + GAP) - GAP);
    let [Ok(width), Ok(height)] = [width, height].map(u32::try_from) else {
        return Err(ImageSheetError::ImpossibleLayout { count, layout });
    };
    Ok(stream_sheet(samples, width, height, out))
}

/// Writes a sheet row by row.
fn stream_sheet(samples: PriorSamples<'_>, width: u32, height: u32, out: &Path) -> io::Result<()> {
    let mut file = OutputFile::create(out)?;
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    let mut stream = writer.stream_writer()?;
    let line_bytes = CHANNELS * width as usize;
    let white = vec![255; line_bytes];
    let mut is_first = true;
    for images in samples {
        let images = bytes(&images);
        for row in images.chunks(COLUMNS * VALUES) {
            if !is_first {
                (0..GAP).try_for_each(|_| stream.write_all(&white))?;
            }
            is_first = false;
            for y in 0..SIDE {
                let line = sheet_line(row, y, line_bytes);
                (0..UPSCALE).try_for_each(|_| stream.write_all(&line))?;
            }
        }
    }
    stream.finish()?;
    writer.finish()?;
    file.finish()
}

/// One line of pixels through the images of a sheet's row.
fn sheet_line(row: &[u8], y: usize, line_bytes: usize) -> Vec<u8> {
    let mut line = vec![255; line_bytes];
    for (column, image) in row.chunks_exact(VALUES).enumerate() {
        let left = column * (SIDE * UPSCALE + GAP);
        for x in 0..SIDE * UPSCALE {
            for channel in 0..CHANNELS {
                let value = image[(channel * SIDE + y) * SIDE + x / UPSCALE];
                line[(left + x) * CHANNELS + channel] = value;
            }
        }
    }
    line
}

fn write_images(samples: PriorSamples<'_>, out: &Path) -> Written {
    let is_free = fs::create_dir_all(out).and_then(|()| Ok(fs::read_dir(out)?.next().is_none()));
    match is_free {
        Ok(true) => {}
        Ok(false) => {
            let reason = "the folder for the pictures is not empty; name another one";
            return Ok(Err(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
        }
        Err(error) => return Ok(Err(error)),
    }
    let layout = SheetLayout::with_columns(1);
    let mut number = 0;
    for images in samples {
        for image in bytes(&images).chunks_exact(VALUES) {
            let png = encode_png_u8(image, layout)?;
            // Not synced one by one: fifty thousand of them would take an hour on some disks.
            if let Err(error) = fs::write(out.join(format!("{number:05}.png")), png) {
                return Ok(Err(error));
            }
            number += 1;
        }
    }
    Ok(Ok(()))
}

/// The NumPy format, version 1.0: magic, version, length of the header, header, values.
fn write_array(samples: PriorSamples<'_>, count: usize, out: &Path) -> io::Result<()> {
    let mut file = OutputFile::create(out)?;
    let mut header = format!(
        "{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, {SIDE}, {SIDE}, {CHANNELS}), }}"
    );
    // The values begin at a multiple of 64 bytes, behind 10 bytes before the header and a newline at its end.
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(header.len() as u16).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for images in samples {
        for image in bytes(&images).chunks_exact(VALUES) {
            let pixels = (0..SIDE * SIDE).flat_map(|pixel| {
                (0..CHANNELS).map(move |channel| image[channel * SIDE * SIDE + pixel])
            });
            file.write_all(&pixels.collect::<Vec<u8>>())?;
        }
    }
    file.finish()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::experiment::model::initial_model;
    use crate::experiment::prior::{LatentPrior, MixturePrior};
    use vae_core::{Depth, VaeConfig};
    use vae_measures::GaussianMixture;

    #[test]
    fn the_first_images_are_the_same_however_many_follow() {
        let config = VaeConfig::preset(Depth::Depth28)
            .with_width_multiplier(0.02)
            .with_latent_dim(3);
        let device = Device::flex();
        let model = initial_model(&config.into(), 2, &device);
        // Two components far apart: another choice of them is another latent.
        let mixture = LatentPrior::Mixture(MixturePrior {
            latent_dim: 3,
            dimensions: vec![0, 2],
            mixture: GaussianMixture {
                dimensions: 2,
                weights: vec![0.5, 0.5],
                means: vec![5.0, -5.0, -5.0, 5.0],
                factors: vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0],
            },
            weights_sha256: String::new(),
            is_of_posts_draws: false,
        });
        for prior in [&LatentPrior::StandardNormal, &mixture] {
            let latents = |count| -> Vec<f32> {
                let draw = LatentDraw {
                    prior,
                    temperature: 1.0,
                    seed: 3,
                    sheet: 1,
                };
                let mut samples = PriorSamples::new(&model, count, draw, &device);
                std::iter::from_fn(|| samples.next_latents())
                    .flatten()
                    .collect()
            };
            let all = latents(123);
            for count in [1, 10, 33, 100, 101] {
                assert_eq!(latents(count), all[..3 * count], "{count} of {prior:?}");
            }
        }
    }
}
