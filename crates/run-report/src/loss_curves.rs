//! The loss curves of a run as one SVG: loss, excess and KL over the epochs, in nats an image.

use kuva::backend::svg::SvgBackend;
use kuva::plot::{LegendEntry, LegendShape};
use kuva::render::figure::Figure;
use kuva::render::layout::Layout;

use std::io;
use std::path::{Path, PathBuf};

use crate::chart::{Chart, Curve, renumbered};
use run_files::atomic_file::write_atomically;
use run_files::metrics::{EpochRow, Terms};

/// The curves, in the run folder.
pub const LOSS_CURVES: &str = "loss-curves.svg";

/// A colour pair that stays apart in grey and for the colour-blind.
const TRAIN_COLOUR: &str = "#2f6db5";
const VALID_COLOUR: &str = "#e07b28";

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

impl LossCurvesError {
    /// The file that there was no room for, where that is what happened.
    pub fn full_at(&self) -> Option<&Path> {
        match self {
            Self::Unwritable { path, cause } if run_files::disk::is_full(cause) => Some(path),
            _ => None,
        }
    }
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
    let colours = [TRAIN_COLOUR, VALID_COLOUR];
    let panels = panels(rows, colours);
    let figure = Figure::new(1, panels.len())
        .with_plots(panels.iter().map(|(_, chart)| chart.plots()).collect())
        .with_layouts(
            panels
                .iter()
                .map(|(title, chart)| layout(title, chart))
                .collect(),
        )
        .with_cell_size(PANEL_WIDTH, PANEL_HEIGHT)
        .with_shared_legend_bottom()
        .with_shared_legend_entries(vec![
            legend("train", TRAIN_COLOUR),
            legend("valid", VALID_COLOUR),
        ]);
    let svg = SvgBackend::new()
        .with_pretty(true)
        .render_scene(&figure.render());
    renumbered(svg.trim_end(), "kuva-clip-", "kuva-clip-") + "\n"
}

/// Titles and charts of loss, excess and KL; `colours` of training and validation. Bits per dimension stand in place of the
/// excess where the rows have them, and the cross-entropy where they have neither. Where something else than the loss was minimised, a fourth chart has it beside the
/// cross-entropy plus KL divergence, which is the bound where there is one.
pub fn panels(rows: &[EpochRow], colours: [&str; 2]) -> Vec<(&'static str, Chart)> {
    let chart = |quantity: fn(&Terms) -> f64| {
        let splits: [fn(&EpochRow) -> &Terms; 2] = [|row| &row.train, |row| &row.valid];
        let curves = splits.into_iter().zip(colours).map(|(split, colour)| {
            let points = rows
                .iter()
                .map(|row| (f64::from(row.epoch), quantity(split(row))));
            Curve::new(points.collect(), colour)
        });
        Chart::over_epochs(curves.collect())
    };
    let bits: [fn(&EpochRow) -> Option<f64>; 2] = [
        |row| row.optional.train_bits_per_dim,
        |row| row.optional.valid_bits_per_dim,
    ];
    let second = if rows.iter().any(|row| bits[1](row).is_some()) {
        let curves = bits.into_iter().zip(colours).map(|(bits, colour)| {
            let points = rows
                .iter()
                .map(|row| (f64::from(row.epoch), bits(row).unwrap_or(f64::NAN)));
            Curve::new(points.collect(), colour)
        });
        ("bits per dimension", Chart::over_epochs(curves.collect()))
    } else if rows
        .iter()
        .any(|row| row.valid.excess.is_nan() && row.valid.cross_entropy.is_finite())
    {
        // A log-probability has no floor.
        (
            "-log p(image given latent)",
            chart(|terms| terms.cross_entropy),
        )
    } else {
        ("cross-entropy excess", chart(|terms| terms.excess))
    };
    let mut panels = vec![
        ("loss", chart(|terms| terms.loss)),
        second,
        ("KL divergence", chart(|terms| terms.kl)),
    ];
    if rows
        .iter()
        .any(|row| row.optional.train_objective.is_some())
    {
        let has_bound = rows.iter().any(|row| row.optional.valid_elbo.is_some());
        let curves: [fn(&EpochRow) -> Option<f64>; 2] = [
            |row| row.optional.train_objective,
            |row| Some(row.valid.cross_entropy_plus_kl()),
        ];
        let curves = curves.into_iter().zip(colours).map(|(curve, colour)| {
            let points = rows
                .iter()
                .map(|row| (f64::from(row.epoch), curve(row).unwrap_or(f64::NAN)));
            Curve::new(points.collect(), colour)
        });
        panels.push((
            if has_bound {
                "objective (training), negative ELBO (validation)"
            } else {
                "objective (training), cross-entropy + KL (validation)"
            },
            Chart::over_epochs(curves.collect()),
        ));
    }
    panels
}

fn layout(title: &str, chart: &Chart) -> Layout {
    let layout = chart.layout().with_title(title).with_title_size(16);
    match chart.axis.note() {
        Some(note) => layout.with_subtitle(note).with_subtitle_size(11),
        None => layout,
    }
}

fn legend(label: &str, colour: &str) -> LegendEntry {
    LegendEntry {
        label: label.to_owned(),
        color: colour.to_owned(),
        shape: LegendShape::Line,
        dasharray: None,
    }
}

#[cfg(test)]
mod tests;
