//! The loss curves of a run as one SVG: loss, excess and KL over the epochs, in nats an image.
//!
//! Runs of this experiment jump: an epoch's mean loss can be a million times its neighbours'. An axis up to such a
//! value would flatten everything else, so each axis ends above the bulk of its values; what lies higher is drawn as a
//! triangle at the upper edge and counted under the title, as are numbers that are not finite.

// kuva draws: of the live plotting crates with plain SVG output it is the one with recent releases (0.6.0, October
// 2026; plotters' last is of September 2024), three small dependencies, and no system library.
use kuva::backend::svg::SvgBackend;
use kuva::plot::scatter::{MarkerShape, ScatterPlot};
use kuva::plot::{LegendEntry, LegendShape, LinePlot};
use kuva::render::figure::Figure;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic_file::write_atomically;
use crate::metrics::{EpochRow, Terms};

mod axis;

use axis::{Axis, drawable, round_step};

/// A colour pair that stays apart in grey and for the colour-blind.
const TRAIN_COLOUR: &str = "#2f6db5";
const VALID_COLOUR: &str = "#e07b28";

/// Up to this many epochs each one gets a dot, so that a single epoch is visible.
const DOTS_UP_TO: usize = 40;

/// Size of a panel in pixels.
const PANEL_WIDTH: f64 = 430.0;
const PANEL_HEIGHT: f64 = 350.0;

/// Why the curves could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossCurvesError {
    /// The file could not be written.
    #[error("cannot write the loss curves to {}: {cause}; check free space and permissions", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Draws the curves and writes them, atomically.
///
/// # Errors
/// [`LossCurvesError::Unwritable`].
pub fn write_svg(path: &Path, rows: &[EpochRow]) -> Result<(), LossCurvesError> {
    write_atomically(path, render_svg(rows).as_bytes()).map_err(|cause| {
        LossCurvesError::Unwritable {
            path: path.to_owned(),
            cause,
        }
    })
}

/// Draws loss, excess and KL of training and validation over the epochs; the same rows give the same bytes.
///
/// Any rows do: none, one, not finite, or however large.
pub fn render_svg(rows: &[EpochRow]) -> String {
    let panels = [
        Panel::new("loss", rows, |terms| terms.loss),
        Panel::new("cross-entropy excess", rows, |terms| terms.excess),
        Panel::new("KL divergence", rows, |terms| terms.kl),
    ];
    let layouts = panels.iter().map(Panel::layout).collect();
    let figure = Figure::new(1, panels.len())
        .with_plots(panels.iter().map(Panel::plots).collect())
        .with_layouts(layouts)
        .with_cell_size(PANEL_WIDTH, PANEL_HEIGHT)
        .with_shared_legend_bottom()
        .with_shared_legend_entries(vec![
            legend("train", TRAIN_COLOUR),
            legend("valid", VALID_COLOUR),
        ]);
    let svg = SvgBackend::new()
        .with_pretty(true)
        .render_scene(&figure.render());
    renumbered(svg.trim_end(), "kuva-clip-") + "\n"
}

/// The drawing with the numbers behind `prefix` counted anew, in the order of their first appearance.
///
/// kuva counts the names of its clip paths through the whole process, so a second drawing would differ from the first.
fn renumbered(svg: &str, prefix: &str) -> String {
    let mut parts = svg.split(prefix);
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let end = part
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(part.len());
        let (number, rest) = part.split_at(end);
        let index = seen
            .iter()
            .position(|known| *known == number)
            .unwrap_or_else(|| {
                seen.push(number);
                seen.len() - 1
            });
        text += &format!("{prefix}{index}{rest}");
    }
    text
}

fn legend(label: &str, colour: &str) -> LegendEntry {
    LegendEntry {
        label: label.to_owned(),
        color: colour.to_owned(),
        shape: LegendShape::Line,
        dasharray: None,
    }
}

/// One quantity over the epochs, for both splits.
struct Panel {
    title: &'static str,
    /// Epoch and value, training first.
    curves: [Vec<(f64, f64)>; 2],
    axis: Axis,
}

impl Panel {
    fn new(title: &'static str, rows: &[EpochRow], quantity: fn(&Terms) -> f64) -> Self {
        let curve = |split: fn(&EpochRow) -> &Terms| {
            rows.iter()
                .map(|row| (f64::from(row.epoch), quantity(split(row))))
                .collect::<Vec<_>>()
        };
        let curves = [curve(|row| &row.train), curve(|row| &row.valid)];
        let axis = Axis::of(curves.iter().flatten().map(|(_, value)| *value));
        Self {
            title,
            curves,
            axis,
        }
    }

    fn plots(&self) -> Vec<Plot> {
        let mut plots = Vec::new();
        for (curve, colour) in self.curves.iter().zip([TRAIN_COLOUR, VALID_COLOUR]) {
            // A value that is not finite leaves a gap.
            for stretch in curve
                .split(|(_, value)| !drawable(*value))
                .filter(|stretch| !stretch.is_empty())
            {
                let points = stretch
                    .iter()
                    .map(|(epoch, value)| (*epoch, value.min(self.axis.high)));
                plots.push(
                    LinePlot::new()
                        .with_data(points)
                        .with_color(colour)
                        .with_stroke_width(2.0)
                        .into(),
                );
            }
            let finite = curve.iter().filter(|(_, value)| drawable(*value));
            let (above, within): (Vec<_>, Vec<_>) =
                finite.partition(|(_, value)| *value > self.axis.high);
            if curve.len() <= DOTS_UP_TO && !within.is_empty() {
                let dots = ScatterPlot::new()
                    .with_data(within)
                    .with_color(colour)
                    .with_size(3.0);
                plots.push(dots.into());
            }
            if !above.is_empty() {
                // A little below the edge, so that a triangle is not cut.
                let edge = self.axis.high - 0.015 * (self.axis.high - self.axis.low);
                let edge = above.into_iter().map(|(epoch, _)| (epoch, edge));
                let triangles = ScatterPlot::new()
                    .with_data(edge)
                    .with_color(colour)
                    .with_marker(MarkerShape::Triangle)
                    .with_size(5.0);
                plots.push(triangles.into());
            }
        }
        if plots.is_empty() {
            // A panel without plots has no axes.
            plots.push(LinePlot::new().with_data([(0.0, self.axis.low)]).into());
        }
        plots
    }

    /// The range of the horizontal axis, in whole epochs.
    fn epochs(&self) -> (f64, f64) {
        let epochs: Vec<f64> = self.curves[0].iter().map(|(epoch, _)| *epoch).collect();
        let (Some(first), Some(last)) = (epochs.first(), epochs.last()) else {
            return (0.0, 1.0);
        };
        // Dots at the edge of the axis would be cut in half.
        if epochs.len() <= DOTS_UP_TO {
            (first - 1.0, last + 1.0)
        } else {
            (first - 1.0, *last)
        }
    }

    fn layout(&self) -> Layout {
        let (first, last) = self.epochs();
        let layout = Layout::new((first, last), (self.axis.low, self.axis.high))
            .with_title(self.title)
            .with_title_size(16)
            .with_x_label("epoch")
            .with_y_label("nats per image")
            .with_x_axis_min(first)
            .with_x_axis_max(last)
            .with_x_tick_step(round_step(last - first, 6.0).max(1.0))
            .with_x_tick_format(TickFormat::Integer)
            .with_y_axis_min(self.axis.low)
            .with_y_axis_max(self.axis.high)
            .with_y_tick_step(self.axis.step);
        match self.axis.note() {
            Some(note) => layout.with_subtitle(note).with_subtitle_size(11),
            None => layout,
        }
    }
}

#[cfg(test)]
mod tests;
