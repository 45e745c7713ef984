//! The latent's KL spectrum: dimensions sorted by their KL divergence.

use kuva::render::layout::TickFormat;
use std::sync::Arc;

use crate::chart::{Axis, Chart, Curve, round_step};

/// What lies lower is drawn here: a millionth of a nat is nothing.
const LEAST: f64 = 1e-6;

/// Rank from 1 and the logarithm to base 10 of the KL divergence, largest first; the mean over the runs, rank by rank.
///
/// Dimensions have no order of their own, so those of two runs can only be compared by rank.
pub(super) fn spectrum(runs: &[&Vec<f64>]) -> Vec<(f64, f64)> {
    let sorted: Vec<Vec<f64>> = runs
        .iter()
        .map(|run| {
            let mut run: Vec<f64> = run.to_vec();
            run.sort_by(|a, b| b.total_cmp(a));
            run
        })
        .collect();
    let shortest = sorted.iter().map(Vec::len).min().unwrap_or(0);
    (0..shortest)
        .map(|index| {
            let mean = sorted.iter().map(|run| run[index]).sum::<f64>() / sorted.len() as f64;
            // `max` would turn NaN into a number.
            let shown = if mean < LEAST { LEAST } else { mean };
            ((index + 1) as f64, shown.log10())
        })
        .collect()
}

/// Spectra over one another, on a logarithmic axis.
pub(super) fn chart(curves: Vec<Curve>) -> Chart {
    let finite = |curve: &Curve| -> Vec<f64> {
        let values = curve.points.iter().map(|(_, value)| *value);
        values.filter(|value| value.is_finite()).collect()
    };
    let values: Vec<f64> = curves.iter().flat_map(finite).collect();
    let total: usize = curves.iter().map(|curve| curve.points.len()).sum();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min).floor();
    let high = values
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil();
    let (low, high) = if values.is_empty() {
        (-1.0, 1.0)
    } else {
        (low, high.max(low + 1.0))
    };
    let last = curves
        .iter()
        .filter_map(|curve| curve.points.last())
        .map(|(rank, _)| *rank)
        .fold(1.0, f64::max);
    Chart {
        curves,
        x_label: "dimensions, sorted".to_owned(),
        y_label: "KL divergence, nats per image".to_owned(),
        horizontal: (0.0, last + 1.0),
        x_step: round_step(last + 1.0, 6.0).max(1.0),
        axis: Axis {
            low,
            high,
            step: 1.0,
            above: 0,
            largest: 0.0,
            not_finite: total - values.len(),
        },
        y_format: TickFormat::Custom(Arc::new(power_of_ten)),
    }
}

/// 10 to the power of `exponent`, which is whole.
fn power_of_ten(exponent: f64) -> String {
    let decimals = (-exponent).max(0.0) as usize;
    if decimals > 3 {
        format!("1e{exponent:.0}")
    } else {
        format!("{:.decimals$}", 10f64.powf(exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_sorted_and_averaged_by_rank() {
        let points = spectrum(&[&vec![0.01, 10.0, 1.0], &vec![0.1, 1.0, 30.0]]);
        let expected = [20f64, 1.0, 0.055].map(f64::log10);
        assert_eq!(points.len(), 3);
        for (index, (rank, value)) in points.iter().enumerate() {
            assert_eq!(*rank, (index + 1) as f64);
            assert!((value - expected[index]).abs() < 1e-12, "{points:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_as_a_millionth_and_nan_as_nothing() {
        let points = spectrum(&[&vec![0.0, 1e-9, f64::NAN]]);
        // NaN sorts before every number.
        assert!(points[0].1.is_nan());
        assert_eq!((points[1].1, points[2].1), (-6.0, -6.0));
        assert!(spectrum(&[]).is_empty());
        let chart = chart(vec![Curve::new(points, "red")]);
        assert_eq!(
            (chart.axis.low, chart.axis.high, chart.axis.not_finite),
            (-6.0, -5.0, 1)
        );
    }

    #[test]
    fn ticks_are_powers_of_ten() {
        let labels = [-6.0, -3.0, -1.0, 0.0, 2.0].map(power_of_ten);
        assert_eq!(labels, ["1e-6", "0.001", "0.1", "1", "100"]);
    }
}
