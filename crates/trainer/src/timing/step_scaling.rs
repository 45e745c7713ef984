//! How a training step's time grows with batch size, depth and pixels.

use std::fmt::Write;
use std::time::Instant;

use burn::prelude::*;
use kuva::backend::svg::SvgBackend;
use kuva::render::figure::Figure;
use kuva::render::layout::TickFormat;
use vae_core::Depth;

use super::error::TimingError;
use crate::device::DeviceError;
use crate::experiment::model::{ModelConfig, initial_model, model_config};
use crate::step::engine::Engine;
use crate::step::fault::FaultInjector;
use crate::step::kl_objective::KlObjective;
use crate::step::pass::Inputs;
use crate::step::replicas::Replicas;
use crate::step::request::{EngineOptions, StepRequest};
use crate::timing::median::median;
use crate::timing::step_timing::TimingOptions;
use run_files::settings::Settings;
use run_files::step_guard::StepGuard;
use run_report::chart::{Axis, Chart, Curve, renumbered, round_step};

/// Batch sizes, as fractions of the settings'.
const BATCH_FRACTIONS: [(usize, usize); 5] = [(1, 2), (1, 1), (2, 1), (3, 1), (4, 1)];
/// Pixels on a side; the settings' data set has 32.
const IMAGE_SIZES: [usize; 4] = [8, 16, 32, 64];
/// Positions of the smallest map at the largest of them.
const POSITIONS: usize = 64;

const COLOUR: &str = "#2f6db5";
const FIT_COLOUR: &str = "#e07b28";
/// Size of a panel in pixels.
const PANEL: (f64, f64) = (400.0, 340.0);

/// Steps of different sizes, timed.
#[derive(Clone, Debug)]
pub struct Scaling {
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    /// What grows.
    name: &'static str,
    /// Its value, and seconds a step.
    points: Vec<(f64, f64)>,
}

impl Series {
    /// The least-squares line `intercept + slope * x`, and the share of the variance that it explains.
    fn line(&self) -> (f64, f64, f64) {
        let count = self.points.len() as f64;
        let mean =
            |value: fn(&(f64, f64)) -> f64| self.points.iter().map(value).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let sum = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
            self.points
                .iter()
                .map(|point| term(point.0 - x, point.1 - y))
                .sum()
        };
        let (of_x, of_y, of_both) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
        let slope = of_both / of_x;
        (y - slope * x, slope, of_both * of_both / (of_x * of_y))
    }
}

/// Times steps of one model after the other: its batch, its depth and its images grow, each alone.
///
/// Images are constant: no kernel's time depends on their values.
///
/// # Errors
/// Where the settings fit no model, or the device fails.
pub fn time_scaling(
    settings: &Settings,
    options: TimingOptions,
    device: &Device,
) -> Result<Scaling, TimingError> {
    let config = model_config(settings)?;
    let step =
        |config: &ModelConfig, batch| seconds_per_step(config, batch, settings, options, device);
    let mut batch = Vec::new();
    for (numerator, denominator) in BATCH_FRACTIONS {
        let size = (settings.batch_size * numerator / denominator).max(2);
        batch.push((size as f64, step(&config, size)?));
    }
    let mut depth = Vec::new();
    for layers in Depth::ALL.map(Depth::layers) {
        let at_depth = model_config(&Settings {
            depth: layers,
            ..settings.clone()
        })?;
        depth.push((f64::from(layers), step(&at_depth, settings.batch_size)?));
    }
    let mut pixels = Vec::new();
    for size in IMAGE_SIZES {
        // Each position of the smallest map takes an equal share of the dense layer's output, at every size.
        let sized = config.with_image_size(size, POSITIONS)?;
        pixels.push(((size * size) as f64, step(&sized, settings.batch_size)?));
    }
    let series = [
        ("batch size", batch),
        ("depth", depth),
        ("pixels an image", pixels),
    ];
    Ok(Scaling {
        series: series.map(|(name, points)| Series { name, points }).into(),
    })
}

fn seconds_per_step(
    config: &ModelConfig,
    batch: usize,
    settings: &Settings,
    timing: TimingOptions,
    device: &Device,
) -> Result<f64, TimingError> {
    let device = device.clone().autodiff();
    let model = initial_model(config, settings.seed, &device);
    let options = EngineOptions {
        micro_batch_size: None,
        gradient_checkpointing: false,
        is_launched: timing.is_launched,
        ..EngineOptions::of(settings)
    };
    let mut engine = Engine::new(model, Replicas::none(&device), options);
    let mut guard = StepGuard::default();
    let [channels, height, width] = config.image_shape();
    let images = Tensor::full([batch, channels, height, width], 0.5, &device);
    let mut seconds = Vec::new();
    // No rate counts the step in which kernels are compiled.
    let warmup = timing.warmup.max(usize::from(settings.device.are_gpus()));
    for step in 0..warmup + timing.steps {
        let began = Instant::now();
        let noise = Tensor::ones([batch, config.latent_dim()], &device);
        let request = StepRequest {
            step: step as u64,
            inputs: Inputs {
                images: images.clone().into(),
                noise,
                dropout: None,
            },
            learning_rate: settings.learning_rate,
            kl: KlObjective::LOSS,
            next_kl_weight: 1.0,
        };
        engine.step(request, &mut guard, &FaultInjector::none())?;
        device.sync().map_err(|error| DeviceError::Lost {
            device: settings.device.main(),
            reason: error.to_string(),
        })?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(median(&seconds[warmup..]))
}

impl Scaling {
    /// One row a size, with the least-squares line's value and the share of the variance that the line explains.
    pub fn to_csv(&self) -> String {
        let mut text = "grows,value,seconds_per_step,line,explained\n".to_owned();
        for series in &self.series {
            let (intercept, slope, explained) = series.line();
            for (value, seconds) in &series.points {
                let line = intercept + slope * value;
                let _ = writeln!(
                    text,
                    "{},{value},{seconds:.6},{line:.6},{explained:.4}",
                    series.name
                );
            }
        }
        text
    }

    /// One panel for each that grows: milliseconds a step, and the least-squares line.
    pub fn to_svg(&self) -> String {
        let charts: Vec<Chart> = self.series.iter().map(chart).collect();
        let layouts = charts.iter().zip(&self.series).map(|(chart, series)| {
            let (.., explained) = series.line();
            chart
                .layout()
                .with_title(format!("linear fit, R² = {explained:.3}"))
                .with_title_size(14)
        });
        let figure = Figure::new(1, charts.len())
            .with_plots(charts.iter().map(Chart::plots).collect())
            .with_layouts(layouts.collect())
            .with_cell_size(PANEL.0, PANEL.1);
        let svg = SvgBackend::new()
            .with_pretty(true)
            .render_scene(&figure.render());
        renumbered(svg.trim_end(), "kuva-clip-", "kuva-clip-") + "\n"
    }
}

fn chart(series: &Series) -> Chart {
    let (intercept, slope, _) = series.line();
    let milliseconds = |seconds: f64| 1e3 * seconds;
    let measured = series
        .points
        .iter()
        .map(|(x, seconds)| (*x, milliseconds(*seconds)));
    let largest = series
        .points
        .iter()
        .map(|point| point.0)
        .fold(0.0, f64::max);
    let line = [0.0, largest].map(|x| (x, milliseconds(intercept + slope * x)));
    let mut points = Curve::new(measured.collect(), COLOUR);
    points.marker_size = 4.0;
    let curves = vec![Curve::new(line.to_vec(), FIT_COLOUR), points];
    // From zero, so that what is proportional looks it.
    let mut axis = Axis::of(std::iter::once(0.0).chain(curves.iter().flat_map(Curve::extent)));
    axis.low = axis.low.min(0.0);
    Chart {
        curves,
        x_label: series.name.to_owned(),
        y_label: "milliseconds a step".to_owned(),
        horizontal: (0.0, 1.05 * largest),
        x_step: round_step(largest, 5.0),
        axis,
        y_format: TickFormat::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(points: &[(f64, f64)]) -> Scaling {
        Scaling {
            series: vec![Series {
                name: "pixels",
                points: points.to_vec(),
            }],
        }
    }

    #[test]
    fn the_line_is_that_of_least_squares() {
        let (intercept, slope, explained) =
            scaling(&[(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)]).series[0].line();
        assert!((intercept - 1.0).abs() < 1e-12 && (slope - 2.0).abs() < 1e-12);
        assert!((explained - 1.0).abs() < 1e-12);
        // By hand: means 2 and 2, sums of squares 2 and 6, of products 3.
        let (intercept, slope, explained) =
            scaling(&[(1.0, 0.0), (2.0, 3.0), (3.0, 3.0)]).series[0].line();
        assert!((slope - 1.5).abs() < 1e-12 && (intercept + 1.0).abs() < 1e-12);
        assert!((explained - 0.75).abs() < 1e-12);
    }

    #[test]
    fn every_size_has_a_row_and_a_place_in_the_drawing() {
        let scaling = scaling(&[(1.0, 0.5), (2.0, 1.0)]);
        let csv = scaling.to_csv();
        assert_eq!(csv.lines().count(), 3);
        assert!(csv.contains("pixels,2,1.000000,1.000000,1.0000"), "{csv}");
        let svg = scaling.to_svg();
        assert!(svg.contains("pixels") && svg.contains("linear fit, R² = 1.000"));
    }
}
