//! Student's t distribution in float64: its distribution function through the incomplete beta function, and its quantile.

/// Terms of the continued fraction at most; it converges in fewer than 100 wherever it is used.
const MOST_TERMS: usize = 1000;

/// The value that Student's t with this many degrees of freedom stays below with `probability`, in (0, 1).
///
/// # Panics
/// If `probability` is not strictly between 0 and 1 or the degrees of freedom are not above 0.
pub fn student_quantile(probability: f64, degrees_of_freedom: f64) -> f64 {
    assert!(
        probability > 0.0 && probability < 1.0 && degrees_of_freedom > 0.0,
        "no quantile of probability {probability} with {degrees_of_freedom} degrees of freedom"
    );
    if probability < 0.5 {
        return -student_quantile(1.0 - probability, degrees_of_freedom);
    }
    let (mut low, mut high) = (0.0, 1.0);
    while student_distribution(high, degrees_of_freedom) < probability {
        (low, high) = (high, 2.0 * high);
    }
    // Bisection to the last bit: the function is monotonic and this is no hot path.
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if student_distribution(middle, degrees_of_freedom) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The probability that Student's t with this many degrees of freedom is below `t`.
///
/// ```text
/// 1 - I(n / (n + t^2); n / 2, 1 / 2) / 2 for t >= 0
/// ```
pub fn student_distribution(t: f64, degrees_of_freedom: f64) -> f64 {
    let n = degrees_of_freedom;
    let tail = 0.5 * incomplete_beta(0.5 * n, 0.5, n / (n + t * t));
    if t < 0.0 { tail } else { 1.0 - tail }
}

/// The regularised incomplete beta function I(x; a, b), by its continued fraction (Abramowitz and Stegun 26.5.8).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast on this side of the mean; the other side is the mirror image.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let log_front = log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    log_front.exp() / (a * continued_fraction(a, b, x))
}

/// `1 + d(1) / (1 + d(2) / (1 + ...))` from its front, by Lentz's method.
fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    let coefficient = |term: usize| {
        let m = (term / 2) as f64;
        if term.is_multiple_of(2) {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        }
    };
    // A denominator of zero would spoil every later term.
    let away_from_zero = |value: f64| {
        if value.abs() < f64::MIN_POSITIVE {
            f64::MIN_POSITIVE
        } else {
            value
        }
    };
    let (mut fraction, mut numerator, mut denominator) = (1.0, 1.0, 0.0);
    for term in 1..=MOST_TERMS {
        let coefficient = coefficient(term);
        denominator = 1.0 / away_from_zero(1.0 + coefficient * denominator);
        numerator = away_from_zero(1.0 + coefficient / numerator);
        let factor = numerator * denominator;
        fraction *= factor;
        if (factor - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    fraction
}

/// ln Γ(x) for x > 0: Stirling's series, moved to where eight of its terms are exact to rounding.
fn log_gamma(x: f64) -> f64 {
    // B(2k) / (2k (2k - 1)) for k = 1 to 8.
    const SERIES: [f64; 8] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
        -3617.0 / 122_400.0,
    ];
    let (mut x, mut product) = (x, 1.0);
    while x < 12.0 {
        product *= x;
        x += 1.0;
    }
    let inverse_square = 1.0 / (x * x);
    let series = SERIES
        .iter()
        .rev()
        .fold(0.0, |sum, term| sum * inverse_square + term);
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series / x - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
            "{found:e}, SciPy has {expected:e}"
        );
    }

    // python -c "from scipy.stats import t; print([t.ppf(0.975, n) for n in (1, 2, 2.5, 4, 7.3, 30, 1000)])"
    // python -c "from scipy.stats import t; print([t.ppf(0.995, n) for n in (1, 2, 4.7, 30)])"
    // SciPy 1.17.1.
    #[test]
    fn quantiles_are_those_of_scipy() {
        for (degrees, expected) in [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (2.5, 3.5746548420036817),
            (4.0, 2.7764451051977934),
            (7.3, 2.345066736547703),
            (30.0, 2.0422724563012378),
            (1000.0, 1.9623390808264083),
        ] {
            assert_close(student_quantile(0.975, degrees), expected);
            assert_close(student_quantile(0.025, degrees), -expected);
        }
        for (degrees, expected) in [
            (1.0, 63.656741162871526),
            (2.0, 9.924843200918287),
            (4.7, 4.1678920401190584),
            (30.0, 2.7499956535672254),
        ] {
            // 1 - 0.995 loses three digits of the tail to rounding, and so does SciPy's own value.
            let found = student_quantile(0.995, degrees);
            assert!((found / expected - 1.0).abs() < 1e-11, "{found}");
        }
    }

    // python -c "from scipy.stats import t; print([t.cdf(*a) for a in ((.5, 3), (2, 1), (-1.5, 5.5), (4, 2), (0, 9))])"
    #[test]
    fn the_distribution_is_that_of_scipy() {
        for (t, degrees, expected) in [
            (0.5, 3.0, 0.6742760175759245),
            (2.0, 1.0, 0.8524163823495667),
            (-1.5, 5.5, 0.0943384844535493),
            (4.0, 2.0, 0.9714045207910317),
            (0.0, 9.0, 0.5),
        ] {
            assert_close(student_distribution(t, degrees), expected);
        }
    }

    #[test]
    fn one_degree_of_freedom_is_cauchys_distribution() {
        for t in [-3.0f64, -0.1, 0.7, 25.0] {
            let closed_form = 0.5 + t.atan() / std::f64::consts::PI;
            assert_close(student_distribution(t, 1.0), closed_form);
        }
    }

    // python -c "from scipy.special import betainc; print(betainc(.5, .5, .25), betainc(1.25, .5, .9), betainc(20, .5, .99))"
    #[test]
    fn the_incomplete_beta_function_is_that_of_scipy() {
        assert_close(incomplete_beta(0.5, 0.5, 0.25), 1.0 / 3.0);
        assert_close(incomplete_beta(1.25, 0.5, 0.9), 0.641277175527295);
        assert_close(incomplete_beta(20.0, 0.5, 0.99), 0.5286300645149844);
        // 12 x^2 / 2 - 8 x^3 + 3 x^4 at 0.4, the integral of the density of Beta(2, 3).
        assert_close(incomplete_beta(2.0, 3.0, 0.4), 0.5248);
    }

    // python -c "from scipy.special import gammaln; print([gammaln(x) for x in (.5, 3.7, 20.25, 500.5)])"
    #[test]
    fn the_logarithm_of_gamma_is_that_of_scipy() {
        for (x, expected) in [
            (0.5, 0.5 * std::f64::consts::PI.ln()),
            (1.0, 0.0),
            (3.7, 1.428072326665388),
            (20.25, 40.08411059791735),
            (500.5, 2608.2229044109863),
        ] {
            assert_close(log_gamma(x), expected);
        }
    }
}
