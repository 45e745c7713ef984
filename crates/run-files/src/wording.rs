//! Numbers as a reader wants them: counts, times and memory, in the one place that puts them into words.

/// Nats an image, to a hundredth.
pub fn nats(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.2}")
    } else {
        "not finite".to_owned()
    }
}

/// Nats an image, to a hundredth, or in powers of ten where that would be long.
pub fn short_nats(value: f64) -> String {
    if value.is_finite() && value.abs() >= 1e7 {
        format!("{value:.3e}")
    } else {
        format!("{value:.2}")
    }
}

/// Bits per dimension, of which the papers give two digits or three.
pub fn bits_per_dim(value: f64) -> String {
    format!("{value:.4}")
}

/// A count with commas between thousands.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun, whose plural ends in `s`.
pub fn counted(value: u64, noun: &str) -> String {
    let ending = if value == 1 { "" } else { "s" };
    format!("{value} {noun}{ending}")
}

/// A learning rate with three digits, as a power of ten.
pub fn rate(value: f64) -> String {
    format!("{value:.2e}")
}

/// A large count in thousands, millions or billions, with three digits.
pub fn rounded_count(value: u64) -> String {
    let scaled = |by: f64| three_digits(value as f64 / by);
    match value {
        0..10_000 => count(value),
        10_000..1_000_000 => format!("{} thousand", scaled(1e3)),
        1_000_000..1_000_000_000 => format!("{} million", scaled(1e6)),
        _ => format!("{} billion", scaled(1e9)),
    }
}

/// A rate or a time in seconds with three digits or all whole ones.
pub fn three_digits(value: f64) -> String {
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    let decimals = match value.abs() {
        magnitude if magnitude >= 100.0 => 0,
        magnitude if magnitude >= 10.0 => 1,
        magnitude if magnitude >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Images a second, with the digits that mean something.
pub fn images_per_second(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

/// A time in seconds, minutes or hours.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 100.0 {
        return format!("{} s", three_digits(seconds));
    }
    let seconds = seconds.round() as u64;
    if seconds < 6000 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        let minutes = (seconds + 30) / 60;
        format!("{} h {} min", minutes / 60, minutes % 60)
    }
}

/// A time as a clock shows it: `m:ss`, `h:mm:ss`, or days and hours.
pub fn clock(seconds: f64) -> String {
    // `as` saturates, so that a rate of zero gives a long time rather than a panic.
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60)
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}

/// A time to come, of which only the size is known.
pub fn rough_duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Bytes on a disk, in kB, MB or GB.
pub fn amount(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        0.0..1e6 => format!("{:.0} kB", bytes / 1e3),
        1e6..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

/// Bytes in MiB, for columns and texts that name the unit themselves.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 20) as f64
}

/// Bytes in MiB or GiB.
pub fn memory(bytes: u64) -> String {
    let mebibytes = mebibytes(bytes);
    if mebibytes < 1000.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.2} GiB", mebibytes / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas_between_thousands() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (26_815_683, "26,815,683"),
            (4_831_641_600, "4,831,641,600"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn one_is_singular_and_rates_are_powers_of_ten() {
        let epochs = [0, 1, 2, 1000].map(|value| counted(value, "epoch"));
        assert_eq!(epochs, ["0 epochs", "1 epoch", "2 epochs", "1000 epochs"]);
        let rates = [0.001, 0.000_000_999_800_039_992_001_6].map(rate);
        assert_eq!(rates, ["1.00e-3", "1.00e-6"]);
    }

    #[test]
    fn large_counts_are_rounded() {
        for (value, text) in [
            (9_999, "9,999"),
            (12_345, "12.3 thousand"),
            (26_815_683, "26.8 million"),
            (4_831_641_600, "4.83 billion"),
        ] {
            assert_eq!(rounded_count(value), text);
        }
    }

    #[test]
    fn times_take_the_unit_that_suits_them() {
        for (seconds, text) in [
            (0.1234, "0.123 s"),
            (9.5, "9.50 s"),
            (99.0, "99.0 s"),
            (107.6, "1 min 48 s"),
            (5999.4, "99 min 59 s"),
            (285_120.0, "79 h 12 min"),
            (7199.0, "2 h 0 min"),
            (f64::NAN, "not finite s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn memory_and_losses_are_rounded() {
        assert_eq!(memory(700 << 20), "700 MiB");
        assert_eq!(memory(3 << 29), "1.50 GiB");
        assert_eq!(mebibytes(3 << 19), 1.5);
        assert_eq!(nats(1763.284), "1763.28");
        assert_eq!(nats(f64::INFINITY), "not finite");
        assert_eq!(three_digits(0.5), "0.500");
        assert_eq!(three_digits(1234.5), "1234");
    }

    #[test]
    fn scores_and_rates_stay_short_however_large() {
        assert_eq!(
            [1794.706, -0.5, 6.3e8, f64::NAN].map(short_nats),
            ["1794.71", "-0.50", "6.300e8", "NaN"]
        );
        assert_eq!(bits_per_dim(3.567_89), "3.5679");
        assert_eq!([9.876, 405.19].map(images_per_second), ["9.88", "405"]);
    }

    #[test]
    fn clocks_show_minutes_hours_and_days() {
        let texts = [0.4, 59.6, 61.0, 3600.0, 90_061.0, f64::INFINITY, f64::NAN].map(clock);
        assert_eq!(texts[..5], ["0:00", "1:00", "1:01", "1:00:00", "1 d 1 h"]);
        assert!(texts[5].ends_with(" h") && texts[6] == "0:00", "{texts:?}");
    }

    #[test]
    fn rough_durations_have_the_unit_that_suits_them() {
        for (seconds, text) in [(30.4, "30 s"), (600.0, "10 min"), (9000.0, "2.5 h")] {
            assert_eq!(rough_duration(seconds), text);
        }
    }

    #[test]
    fn amounts_have_the_unit_that_suits_them() {
        assert_eq!(amount(999), "1 kB");
        assert_eq!(amount(170_052_171), "170.1 MB");
        assert_eq!(amount(24_000_000_000), "24.0 GB");
    }
}
