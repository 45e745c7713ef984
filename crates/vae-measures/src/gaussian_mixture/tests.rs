//! A known mixture is found again; densities, draws and refusals.

use super::*;

/// Numbers that look random enough, the same every time (Knuth's MMIX generator).
fn generator(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn normal(uniform: &mut impl FnMut() -> f64) -> f64 {
    (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
}

fn truth() -> GaussianMixture {
    GaussianMixture {
        dimensions: 2,
        weights: vec![0.3, 0.7],
        means: vec![-4.0, 1.0, 3.0, -2.0],
        factors: vec![1.0, 0.0, 0.8, 0.6, 0.5, 0.0, -0.2, 1.5],
    }
}

fn draws(mixture: &GaussianMixture, count: usize) -> Vec<f64> {
    let mut uniform = generator(7);
    (0..count)
        .flat_map(|_| {
            let noise: Vec<f64> = (0..2).map(|_| normal(&mut uniform)).collect();
            mixture.draw(uniform(), &noise)
        })
        .collect()
}

const FIT: MixtureFit = MixtureFit {
    components: 2,
    iterations: 200,
    tolerance: 1e-10,
};

#[test]
fn a_known_mixture_is_found_again() {
    let truth = truth();
    assert_eq!(truth.validate(), Ok(()));
    let points = draws(&truth, 20_000);
    let found = GaussianMixture::fit(&points, 2, FIT, generator(1)).expect("enough points");
    assert_eq!(found.validate(), Ok(()));
    let order = if found.weights[0] < found.weights[1] {
        [0, 1]
    } else {
        [1, 0]
    };
    for (of_truth, of_found) in [0, 1].into_iter().zip(order) {
        assert!((found.weights[of_found] - truth.weights[of_truth]).abs() < 0.02);
        for dim in 0..2 {
            let difference = found.means[2 * of_found + dim] - truth.means[2 * of_truth + dim];
            assert!(difference.abs() < 0.06, "{difference}");
        }
        for at in 0..4 {
            let difference = found.factors[4 * of_found + at] - truth.factors[4 * of_truth + at];
            assert!(difference.abs() < 0.06, "{difference}");
        }
    }
}

#[test]
fn a_density_integrates_to_1() {
    let mixture = truth();
    let step = 0.05;
    let axis = || (-240..240).map(|index| step * (index as f64 + 0.5));
    let sum: f64 = axis()
        .flat_map(|x| axis().map(move |y| [x, y]))
        .map(|point| mixture.log_density(&point).exp())
        .sum();
    assert!((sum * step * step - 1.0).abs() < 1e-6);
}

#[test]
fn passes_never_lose_likelihood() {
    let points = draws(&truth(), 500);
    let score = |iterations| {
        let fit = MixtureFit {
            components: 3,
            iterations,
            tolerance: f64::NEG_INFINITY,
        };
        let found = GaussianMixture::fit(&points, 2, fit, generator(5)).expect("enough points");
        points
            .chunks(2)
            .map(|point| found.log_density(point))
            .sum::<f64>()
    };
    let scores: Vec<f64> = (1..25).map(score).collect();
    assert!(
        scores.windows(2).all(|pair| pair[1] >= pair[0] - 1e-6),
        "{scores:?}"
    );
}

#[test]
fn one_component_has_the_datas_moments() {
    let points = [0.0, 0.0, 2.0, 1.0, 4.0, -1.0, 2.0, 4.0];
    let fit = MixtureFit {
        components: 1,
        ..FIT
    };
    let found = GaussianMixture::fit(&points, 2, fit, generator(1)).expect("enough points");
    assert!((found.means[0] - 2.0).abs() < 1e-12 && (found.means[1] - 1.0).abs() < 1e-12);
    // Variances 2 and 3.5, covariance -0.5.
    let [a, _, b, c] = found.factors[..] else {
        panic!("a 2 x 2 factor")
    };
    assert!((a * a - 2.0).abs() < 1e-4 && (a * b + 0.5).abs() < 1e-4);
    assert!((b * b + c * c - 3.5).abs() < 1e-4);
}

#[test]
fn too_few_points_and_broken_numbers_are_refused() {
    let fit = |points: &[f64]| GaussianMixture::fit(points, 2, FIT, generator(1));
    // Two components of two dimensions take three points each.
    for (points, advice) in [(2, "at least 3 points"), (3, "at most 1"), (5, "at most 1")] {
        let error = fit(&draws(&truth(), points)).expect_err("too few");
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert!(fit(&draws(&truth(), 6)).is_ok());
    assert_eq!(fit(&[f64::NAN; 20]), Err(MixtureError::NotFinite));
    let broken = |change: fn(&mut GaussianMixture)| {
        let mut mixture = truth();
        change(&mut mixture);
        mixture.validate().expect_err("broken")
    };
    for change in [
        (|it| it.weights[0] = 0.9) as fn(&mut GaussianMixture),
        |it| it.factors[3] = 0.0,
        |it| it.factors[7] = f64::INFINITY,
        |it| it.means.truncate(3),
        |it| it.dimensions = 0,
        |it| it.dimensions = usize::MAX / 2,
    ] {
        assert!(matches!(broken(change), MixtureError::Malformed { .. }));
    }
}
