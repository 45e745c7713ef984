//! Line charts of numbers that may be missing, wild or alone.
//!
//! Runs of this experiment jump: an epoch's mean loss can be a million times its neighbours'. An axis up to such a
//! value would flatten everything else, so each axis ends above the bulk of its values; what lies higher is drawn as a
//! triangle at the upper edge and counted in the chart's note, as are numbers that are not finite.

// kuva draws: of the live plotting crates with plain SVG output it is the one with recent releases (0.6.0, October
// 2026; plotters' last is of September 2024), three small dependencies, and no system library.
use kuva::plot::LinePlot;
use kuva::plot::line::LineStyle;
use kuva::plot::scatter::{MarkerShape, ScatterPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

mod axis;

pub use axis::{Axis, drawable, round_step};

/// Up to this many points each one gets a dot, so that a single one is visible.
pub const DOTS_UP_TO: usize = 40;

/// One line.
#[derive(Clone, Debug)]
pub struct Curve {
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Half the length of each point's error bar, 0 for none; or empty.
    pub errors: Vec<f64>,
    /// Any CSS colour.
    pub colour: String,
    /// How the line is drawn.
    pub style: LineStyle,
    /// What stands at each point.
    pub marker: MarkerShape,
    /// Radius of a marker in pixels.
    pub marker_size: f64,
}

impl Curve {
    /// A solid line with small round dots.
    pub fn new(points: Vec<(f64, f64)>, colour: &str) -> Self {
        Self {
            points,
            errors: Vec::new(),
            colour: colour.to_owned(),
            style: LineStyle::Solid,
            marker: MarkerShape::Circle,
            marker_size: 3.0,
        }
    }

    /// The ends of every error bar, which an axis has to hold; the points themselves without bars.
    pub fn extent(&self) -> impl Iterator<Item = f64> + '_ {
        let error = |index: usize| self.errors.get(index).copied().unwrap_or(0.0);
        self.points
            .iter()
            .enumerate()
            .flat_map(move |(index, (_, value))| match error(index) {
                bar if bar > 0.0 => vec![value - bar, value + bar],
                _ => vec![*value],
            })
    }
}

/// Some curves over one horizontal axis.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Drawn in this order.
    pub curves: Vec<Curve>,
    /// Under the chart.
    pub x_label: String,
    /// Beside the chart.
    pub y_label: String,
    /// Ends of the horizontal axis.
    pub horizontal: (f64, f64),
    /// Between the ticks of the horizontal axis.
    pub x_step: f64,
    /// The vertical one.
    pub axis: Axis,
    /// Of the numbers at the vertical axis.
    pub y_format: TickFormat,
}

impl Chart {
    /// Curves over epochs, in nats an image.
    pub fn over_epochs(curves: Vec<Curve>) -> Self {
        let axis = Axis::of(curves.iter().flat_map(Curve::extent));
        let horizontal = epochs(&curves);
        Self {
            curves,
            x_label: "epoch".to_owned(),
            y_label: "nats per image".to_owned(),
            horizontal,
            x_step: round_step(horizontal.1 - horizontal.0, 6.0).max(1.0),
            axis,
            y_format: TickFormat::Auto,
        }
    }

    /// What kuva draws.
    pub fn plots(&self) -> Vec<Plot> {
        let mut plots = Vec::new();
        for curve in &self.curves {
            self.add_lines(curve, &mut plots);
            self.add_markers(curve, &mut plots);
        }
        if plots.is_empty() {
            // A chart without plots has no axes.
            let point = (self.horizontal.0, self.axis.low);
            plots.push(LinePlot::new().with_data([point]).into());
        }
        plots
    }

    fn add_lines(&self, curve: &Curve, plots: &mut Vec<Plot>) {
        // A value that is not finite leaves a gap.
        for stretch in curve
            .points
            .split(|(_, value)| !drawable(*value))
            .filter(|stretch| !stretch.is_empty())
        {
            let points = stretch
                .iter()
                .map(|(x, value)| (*x, value.min(self.axis.high)));
            plots.push(
                LinePlot::new()
                    .with_data(points)
                    .with_color(curve.colour.as_str())
                    .with_stroke_width(2.0)
                    .with_line_style(curve.style.clone())
                    .into(),
            );
        }
    }

    fn add_markers(&self, curve: &Curve, plots: &mut Vec<Plot>) {
        let marked = |points: Vec<(f64, f64)>, size: f64| {
            ScatterPlot::new()
                .with_data(points)
                .with_color(curve.colour.as_str())
                .with_size(size)
        };
        let (mut above, mut within, mut with_bars, mut bars) = (vec![], vec![], vec![], vec![]);
        for (index, (x, value)) in curve.points.iter().copied().enumerate() {
            if !drawable(value) {
                continue;
            }
            let bar = curve.errors.get(index).copied().unwrap_or(0.0);
            if value > self.axis.high {
                // A little below the edge, so that a triangle is not cut.
                above.push((x, self.axis.high - 0.015 * (self.axis.high - self.axis.low)));
            } else if bar > 0.0 {
                with_bars.push((x, value));
                bars.push(bar);
            } else {
                within.push((x, value));
            }
        }
        if !with_bars.is_empty() {
            plots.push(
                marked(with_bars, curve.marker_size)
                    .with_marker(curve.marker)
                    .with_y_err(bars)
                    .into(),
            );
        }
        if curve.points.len() <= DOTS_UP_TO && !within.is_empty() {
            plots.push(
                marked(within, curve.marker_size)
                    .with_marker(curve.marker)
                    .into(),
            );
        }
        if !above.is_empty() {
            plots.push(marked(above, 5.0).with_marker(MarkerShape::Triangle).into());
        }
    }

    /// Axes, ticks and labels.
    pub fn layout(&self) -> Layout {
        let (first, last) = self.horizontal;
        Layout::new((first, last), (self.axis.low, self.axis.high))
            .with_x_label(self.x_label.as_str())
            .with_y_label(self.y_label.as_str())
            .with_x_axis_min(first)
            .with_x_axis_max(last)
            .with_x_tick_step(self.x_step)
            .with_x_tick_format(TickFormat::Integer)
            .with_y_axis_min(self.axis.low)
            .with_y_axis_max(self.axis.high)
            .with_y_tick_step(self.axis.step)
            .with_y_tick_format(self.y_format.clone())
    }
}

/// The range of a horizontal axis of whole epochs.
fn epochs(curves: &[Curve]) -> (f64, f64) {
    let all = || curves.iter().flat_map(|curve| curve.points.iter());
    let first = all().map(|(epoch, _)| *epoch).reduce(f64::min);
    let last = all().map(|(epoch, _)| *epoch).reduce(f64::max);
    let (Some(first), Some(last)) = (first, last) else {
        return (0.0, 1.0);
    };
    // Dots at the edge of the axis would be cut in half.
    if last - first < DOTS_UP_TO as f64 {
        (first - 1.0, last + 1.0)
    } else {
        (first - 1.0, last)
    }
}

/// A drawing with the numbers behind `prefix` counted anew behind `with`, in the order of their first appearance.
///
/// kuva counts the names of its clip paths through the whole process, so a second drawing would differ from the first.
pub fn renumbered(svg: &str, prefix: &str, with: &str) -> String {
    let mut pieces = svg.split(prefix);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    let mut seen: Vec<&str> = Vec::new();
    for piece in pieces {
        let end = piece
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(piece.len());
        let (number, rest) = piece.split_at(end);
        let index = seen
            .iter()
            .position(|known| *known == number)
            .unwrap_or_else(|| {
                seen.push(number);
                seen.len() - 1
            });
        text += &format!("{with}{index}{rest}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64], errors: &[f64]) -> Chart {
        let points = (1..).map(f64::from).zip(values.iter().copied()).collect();
        Chart::over_epochs(vec![Curve {
            errors: errors.to_vec(),
            ..Curve::new(points, "red")
        }])
    }

    fn lines(chart: &Chart) -> usize {
        let plots = chart.plots();
        let lines = plots.iter().filter(|plot| matches!(plot, Plot::Line(_)));
        lines.count()
    }

    #[test]
    fn values_that_are_not_finite_are_counted_and_leave_gaps() {
        let chart = chart(&[1900.0, f64::NAN, f64::INFINITY, 1890.0, 1880.0], &[]);
        assert_eq!(chart.axis.note().unwrap(), "2 not finite");
        assert_eq!(lines(&chart), 2, "a stretch on each side");
    }

    #[test]
    fn nothing_at_all_still_has_axes() {
        let empty = Chart::over_epochs(Vec::new());
        assert_eq!(lines(&empty), 1);
        assert_eq!(empty.horizontal, (0.0, 1.0));
    }

    #[test]
    fn the_axis_holds_the_ends_of_error_bars() {
        let bare = chart(&[100.0, 101.0], &[]);
        let barred = chart(&[100.0, 101.0], &[20.0, 0.0]);
        assert!(bare.axis.low > 80.0 && bare.axis.high < 120.0);
        assert!(barred.axis.low <= 80.0 && barred.axis.high >= 120.0);
        let bars = barred
            .plots()
            .iter()
            .filter_map(|plot| match plot {
                Plot::Scatter(scatter) => Some(scatter.data.iter()),
                _ => None,
            })
            .flatten()
            .filter(|point| point.y_err.is_some())
            .count();
        assert_eq!(bars, 1, "a bar of length 0 would look like a certain value");
    }

    #[test]
    fn numbers_are_counted_anew() {
        assert_eq!(renumbered("id=7 id=9 #7 id=7", "id=", "n"), "n0 n1 #7 n0");
    }
}
