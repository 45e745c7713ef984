//! Charts that compare the groups of a sweep.

use kuva::plot::line::LineStyle;
use kuva::plot::scatter::MarkerShape;
use kuva::render::layout::TickFormat;

use super::contents::ReportGroup;
use super::drawing::curve_colour;
use super::page::LegendEntry;
use super::spectrum::{self, spectrum};
use crate::chart::{Axis, Chart, Curve};
use run_files::metrics::EpochRow;
use run_files::run_record::RunRecord;

/// Colours of the two kinds of model where depth is the horizontal axis: none that tells depths apart elsewhere.
const WITH_SHORTCUTS: usize = 5;
const WITHOUT_SHORTCUTS: usize = 4;

/// How far from their depth points with and without shortcuts stand, so that their error bars do not overlap; a share
/// of the axis.
const ASIDE: f64 = 0.008;

/// The look of each group: a colour for its depth, dashes and squares where it has no shortcuts.
pub(super) fn curve_of(group: &ReportGroup<'_>, groups: &[ReportGroup<'_>]) -> Curve {
    let depths = depths(groups);
    let index = depths.iter().position(|depth| *depth == group.depth);
    let curve = Curve::new(Vec::new(), &curve_colour(index.unwrap_or(0)));
    styled(curve, group.shortcuts)
}

fn styled(curve: Curve, shortcuts: bool) -> Curve {
    if shortcuts {
        curve
    } else {
        Curve {
            style: LineStyle::Dashed,
            marker: MarkerShape::Square,
            ..curve
        }
    }
}

/// A line for each group.
pub(super) fn legend(groups: &[ReportGroup<'_>]) -> Vec<LegendEntry> {
    groups
        .iter()
        .map(|group| {
            let curve = curve_of(group, groups);
            LegendEntry {
                label: group.label.clone(),
                colour: curve.colour,
                style: curve.style,
            }
        })
        .collect()
}

/// A line for runs with shortcuts and one for those without, where there are both.
pub(super) fn shortcuts_legend(groups: &[ReportGroup<'_>]) -> Vec<LegendEntry> {
    let kinds = [(true, "with shortcuts"), (false, "without shortcuts")];
    kinds
        .into_iter()
        .filter(|(shortcuts, _)| groups.iter().any(|group| group.shortcuts == *shortcuts))
        .map(|(shortcuts, label)| {
            let curve = of_kind(shortcuts);
            LegendEntry {
                label: label.to_owned(),
                colour: curve.colour,
                style: curve.style,
            }
        })
        .collect()
}

fn of_kind(shortcuts: bool) -> Curve {
    let colour = if shortcuts {
        WITH_SHORTCUTS
    } else {
        WITHOUT_SHORTCUTS
    };
    let curve = Curve::new(Vec::new(), &curve_colour(colour));
    Curve {
        marker_size: 4.5,
        ..styled(curve, shortcuts)
    }
}

/// Charts of quantities over the epochs, a curve for each group: the mean over its runs, up to the last epoch that all
/// of them have. The charts have the same axes.
pub(super) fn over_epochs(
    groups: &[ReportGroup<'_>],
    quantities: &[fn(&EpochRow) -> f64],
) -> Vec<Chart> {
    let curves = |quantity: fn(&EpochRow) -> f64| {
        groups.iter().map(move |group| Curve {
            points: mean_over_runs(&group.runs, quantity),
            ..curve_of(group, groups)
        })
    };
    let whole = Chart::over_epochs(
        quantities
            .iter()
            .flat_map(|quantity| curves(*quantity))
            .collect(),
    );
    quantities
        .iter()
        .map(|quantity| {
            let curves: Vec<Curve> = curves(*quantity).collect();
            let axis = whole.axis.counting(curves.iter().flat_map(Curve::extent));
            Chart {
                curves,
                axis,
                ..whole.clone()
            }
        })
        .collect()
}

fn mean_over_runs(runs: &[&RunRecord], quantity: fn(&EpochRow) -> f64) -> Vec<(f64, f64)> {
    let shortest = runs.iter().map(|run| run.rows.len()).min().unwrap_or(0);
    (0..shortest)
        .map(|index| {
            let values = runs.iter().map(|run| quantity(&run.rows[index]));
            let mean = values.sum::<f64>() / runs.len() as f64;
            (f64::from(runs[0].rows[index].epoch), mean)
        })
        .collect()
}

/// A quantity of the finished runs over depth: means over the seeds, with their sample standard deviation as error bar.
pub(super) fn over_depth(
    groups: &[ReportGroup<'_>],
    y_label: &str,
    from_zero: bool,
    quantity: fn(&RunRecord) -> Option<f64>,
) -> Chart {
    let (left, right) = depth_range(groups);
    let is_mixed = shortcuts_legend(groups).len() > 1;
    let aside = if is_mixed {
        ASIDE * (right - left)
    } else {
        0.0
    };
    let curves: Vec<Curve> = [true, false]
        .into_iter()
        .filter_map(|shortcuts| {
            let mut of_this_kind: Vec<&ReportGroup<'_>> = groups
                .iter()
                .filter(|group| group.shortcuts == shortcuts && !group.runs.is_empty())
                .collect();
            of_this_kind.sort_by_key(|group| group.depth);
            let aside = if shortcuts { -aside } else { aside };
            let mut curve = of_kind(shortcuts);
            for group in of_this_kind {
                let values: Vec<f64> = group.runs.iter().filter_map(|run| quantity(run)).collect();
                if values.is_empty() {
                    continue;
                }
                let (mean, deviation) = mean_and_deviation(&values);
                curve.points.push((f64::from(group.depth) + aside, mean));
                curve.errors.push(deviation);
            }
            (!curve.points.is_empty()).then_some(curve)
        })
        .collect();
    let zero = from_zero.then_some(0.0);
    let axis = Axis::of(curves.iter().flat_map(Curve::extent).chain(zero));
    Chart {
        curves,
        x_label: "depth, layers".to_owned(),
        y_label: y_label.to_owned(),
        horizontal: (left, right),
        x_step: 10.0,
        axis,
        y_format: TickFormat::Auto,
    }
}

/// Ends of an axis that holds every depth with some room.
fn depth_range(groups: &[ReportGroup<'_>]) -> (f64, f64) {
    let depths = depths(groups);
    let first = f64::from(depths.first().copied().unwrap_or(28));
    let last = f64::from(depths.last().copied().unwrap_or(100));
    let tens = |depth: f64| depth / 10.0;
    (
        10.0 * tens(first - 4.0).floor(),
        10.0 * tens(last + 4.0).ceil(),
    )
}

/// The latent's spectrum of each group, mean over its runs.
pub(super) fn spectra(groups: &[ReportGroup<'_>]) -> Chart {
    let curves = groups.iter().map(|group| {
        let runs = group.runs.iter();
        let runs: Vec<&Vec<f64>> = runs
            .map(|run| &run.summary.latent.kl_per_dimension)
            .collect();
        Curve {
            points: spectrum(&runs),
            ..curve_of(group, groups)
        }
    });
    spectrum::chart(curves.collect())
}

/// Of the sweep, each once, smallest first.
fn depths(groups: &[ReportGroup<'_>]) -> Vec<u32> {
    let mut depths: Vec<u32> = groups.iter().map(|group| group.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    depths
}

/// Mean and sample standard deviation (divided by one less than the count); a single value has the deviation 0, which
/// draws no bar.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{group, record};
    use super::*;

    #[test]
    fn means_and_sample_deviations_are_those_of_the_textbook() {
        // 2, 4, 4, 4, 5, 5, 7, 9: mean 5, sum of squares 32.
        let (mean, deviation) = mean_and_deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(mean, 5.0);
        assert!((deviation - (32f64 / 7.0).sqrt()).abs() < 1e-15);
        assert_eq!(mean_and_deviation(&[3.0]), (3.0, 0.0));
    }

    #[test]
    fn points_over_depth_have_bars_only_where_there_are_several_seeds() {
        let (a, b, c) = (
            record(28, true, 1),
            record(28, true, 2),
            record(40, true, 1),
        );
        let mut b = b;
        b.summary.test.excess = a.summary.test.excess + 2.0;
        let groups = [group(&[&c]), group(&[&a, &b])];
        let chart = over_depth(&groups, "nats", false, |run| Some(run.summary.test.excess));
        assert_eq!(chart.curves.len(), 1);
        let curve = &chart.curves[0];
        assert_eq!(curve.points[0], (28.0, a.summary.test.excess + 1.0));
        assert_eq!(curve.points[1].0, 40.0);
        // Two values 2 apart deviate by the root of 2.
        assert!((curve.errors[0] - 2f64.sqrt()).abs() < 1e-9);
        assert_eq!(curve.errors[1], 0.0);
        assert_eq!(chart.horizontal, (20.0, 50.0));
    }

    #[test]
    fn with_and_without_shortcuts_look_different_at_the_same_depth() {
        let (with, without) = (record(28, true, 1), record(28, false, 1));
        let groups = [group(&[&with]), group(&[&without])];
        let looks = groups.each_ref().map(|group| curve_of(group, &groups));
        assert_eq!(looks[0].colour, looks[1].colour);
        assert!(matches!(looks[0].style, LineStyle::Solid));
        assert!(matches!(looks[1].style, LineStyle::Dashed));
        let chart = over_depth(&groups, "s", true, |run| {
            Some(run.timing?.seconds_per_epoch)
        });
        assert_eq!(chart.curves.len(), 2);
        let places = [0, 1].map(|index| chart.curves[index].points[0].0);
        assert!(places[0] < 28.0 && 28.0 < places[1] && places[1] - places[0] < 1.0);
        assert_eq!(chart.axis.low, 0.0);
        assert_eq!(shortcuts_legend(&groups).len(), 2);
        assert_eq!(shortcuts_legend(&groups[..1]).len(), 1);
    }

    #[test]
    fn curves_are_means_up_to_the_last_common_epoch_on_shared_axes() {
        let (a, mut b) = (record(28, true, 1), record(28, true, 2));
        b.rows[0].train.loss = a.rows[0].train.loss + 4.0;
        b.rows.truncate(1);
        let groups = [group(&[&a, &b])];
        let charts = over_epochs(&groups, &[|row| row.train.loss, |row| row.valid.loss]);
        assert_eq!(
            charts[0].curves[0].points,
            [(1.0, a.rows[0].train.loss + 2.0)]
        );
        let ends = |chart: &Chart| (chart.axis.low, chart.axis.high);
        assert_eq!(ends(&charts[0]), ends(&charts[1]));
        assert_eq!(charts[0].horizontal, charts[1].horizontal);
        let values = charts.iter().map(|chart| chart.curves[0].points[0].1);
        for value in values {
            assert!(charts[0].axis.low <= value && value <= charts[0].axis.high);
        }
    }
}
