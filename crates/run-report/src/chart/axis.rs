//! The vertical axes: a range that outliers do not stretch.

/// Beyond this a value is no loss, and the coordinates of an SVG lose their meaning.
const BEYOND: f64 = 1e30;

/// Whether a value has a place on some axis.
pub fn drawable(value: f64) -> bool {
    value.abs() < BEYOND
}

/// The range of a vertical axis, and what does not fit on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Between its ticks.
    pub step: f64,
    /// Values above its upper end.
    pub above: usize,
    /// The largest value, on the axis or above it.
    pub largest: f64,
    /// Values that are not finite.
    pub not_finite: usize,
}

impl Axis {
    /// An axis that shows the lowest value and the bulk of the others.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut finite, wild): (Vec<f64>, Vec<f64>) = values.partition(|value| drawable(*value));
        finite.sort_by(f64::total_cmp);
        let not_finite = wild.len();
        let (Some(&least), Some(&largest)) = (finite.first(), finite.last()) else {
            return Self {
                low: 0.0,
                high: 1.0,
                step: 0.2,
                above: 0,
                largest: 0.0,
                not_finite,
            };
        };
        // The largest tenth decides nothing, except that 8 times the spread of the rest is always shown.
        let bulk = finite[(finite.len() - 1) * 9 / 10];
        let mut limit = least + 8.0 * (bulk - least);
        if finite.len() < 20 {
            // Few values spread little by chance; what is less than twice them is no outlier.
            limit = limit.max(2.0 * bulk.abs());
        }
        let shown = finite
            .iter()
            .copied()
            .filter(|value| *value <= limit)
            .fold(least, f64::max);
        let above = finite.iter().filter(|value| **value > shown).count();
        let spread = if shown > least {
            shown - least
        } else {
            shown.abs().max(1.0) * 0.1
        };
        let step = round_step(spread, 5.0);
        // A value on the edge of the axis would be cut in half; the edge moves on by a step, though not below zero.
        let mut low = (least / step).floor() * step;
        if least - low < 0.1 * step && low != 0.0 {
            low -= step;
        }
        let mut high = (shown / step).ceil() * step;
        if high - shown < 0.1 * step {
            high += step;
        }
        Self {
            low,
            high,
            step,
            above,
            largest,
            not_finite,
        }
    }

    /// The same range, with the counts of these values only: one chart's of several that share an axis.
    pub fn counting(self, values: impl Iterator<Item = f64>) -> Self {
        let (finite, wild): (Vec<f64>, Vec<f64>) = values.partition(|value| drawable(*value));
        Self {
            above: finite.iter().filter(|value| **value > self.high).count(),
            largest: finite.into_iter().fold(f64::NEG_INFINITY, f64::max),
            not_finite: wild.len(),
            ..self
        }
    }

    /// What a reader should know beside the picture.
    pub fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        if self.above > 0 {
            notes.push(format!(
                "{} above the axis, up to {:.1e}",
                self.above, self.largest
            ));
        }
        if self.not_finite > 0 {
            notes.push(format!("{} not finite", self.not_finite));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// The least of 1, 2 and 5 times a power of ten that cuts `spread` into at most `intervals`.
pub fn round_step(spread: f64, intervals: f64) -> f64 {
    let least = spread / intervals;
    let power = 10.0_f64.powf(least.log10().floor());
    // The last one guards against a power rounded down.
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64]) -> Axis {
        Axis::of(values.iter().copied())
    }

    #[test]
    fn quiet_values_all_lie_on_the_axis() {
        let demo = axis(&[2405.0, 2230.0, 2101.0, 2060.0, 2021.0, 2003.0]);
        assert_eq!(
            (demo.low, demo.high, demo.step, demo.above),
            (1900.0, 2500.0, 100.0, 0)
        );
        let constant = axis(&[7.0, 7.0]);
        assert!(
            constant.low <= 7.0 && constant.high >= 7.0 && constant.high > constant.low,
            "{constant:?}"
        );
        let one = axis(&[-0.5]);
        assert!(
            one.low <= -0.5 && one.high >= -0.5 && one.high > one.low,
            "{one:?}"
        );
    }

    #[test]
    fn outliers_do_not_stretch_the_axis() {
        let mut long: Vec<f64> = (0..400)
            .map(|epoch| 1790.0 + 300.0 * (-f64::from(epoch) / 30.0).exp())
            .collect();
        long[200] = 6.3e8;
        long[300] = 3173.0;
        let axis = axis(&long);
        assert!(axis.high < 2200.0 && axis.low >= 1700.0, "{axis:?}");
        assert_eq!(axis.above, 2);
        assert_eq!(axis.note().unwrap(), "2 above the axis, up to 6.3e8");
        for few in [
            &[1e8, 2000.0][..],
            &[1e8, 2000.0, 1900.0],
            &[2000.0, 1e8, 1900.0, 1850.0],
        ] {
            let axis = Axis::of(few.iter().copied());
            assert!(axis.high <= 4000.0 && axis.above == 1, "{axis:?}");
        }
    }

    #[test]
    fn charts_that_share_an_axis_have_their_own_notes() {
        let all = [1.0, 2.0, 3.0, 1e9, f64::NAN];
        let shared = axis(&all);
        assert_eq!(shared.above, 1);
        let quiet = shared.counting(all[..3].iter().copied());
        assert_eq!((quiet.low, quiet.high), (shared.low, shared.high));
        assert_eq!(quiet.note(), None);
        let wild = shared.counting(all[2..].iter().copied());
        assert_eq!(wild.note(), shared.note());
    }

    #[test]
    fn steps_are_round() {
        for (spread, step) in [
            (6.0, 2.0),
            (5.0, 1.0),
            (383.0, 100.0),
            (1000.0, 200.0),
            (0.07, 0.02),
        ] {
            assert!(
                (round_step(spread, 5.0) / step - 1.0).abs() < 1e-9,
                "{spread}: {}",
                round_step(spread, 5.0)
            );
        }
    }
}
