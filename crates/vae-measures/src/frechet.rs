//! The Frechet distance between two sets of features, as Gaussians (Heusel et al. 2017), in float64.
// An index says which elements of several arrays belong together.
#![allow(clippy::needless_range_loop)]

/// Mean and covariance of features, a row at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMoments {
    count: u64,
    mean: Vec<f64>,
    /// Sum of products of distances to the mean; lower triangle, row by row.
    products: Vec<f64>,
    /// Rows that wait to be added together, which is faster; see [`BLOCK`].
    waiting: Vec<f64>,
}

/// Rows added at a time.
const BLOCK: usize = 64;

impl FeatureMoments {
    /// Of no rows, with so many features each.
    pub fn new(features: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.0; features],
            products: vec![0.0; features * features],
            waiting: Vec::new(),
        }
    }

    /// Rows so far.
    pub fn count(&self) -> u64 {
        self.count + (self.waiting.len() / self.mean.len().max(1)) as u64
    }

    /// Takes one row in.
    ///
    /// # Panics
    /// If it has another number of features.
    pub fn add(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.mean.len(), "features of a row");
        self.waiting
            .extend(row.iter().map(|value| f64::from(*value)));
        if self.waiting.len() == BLOCK * self.mean.len() {
            self.merge();
        }
    }

    /// Adds the waiting rows: their own moments, then both sets' together (Chan, Golub and LeVeque 1979).
    fn merge(&mut self) {
        let size = self.mean.len();
        let rows = std::mem::take(&mut self.waiting);
        let added = rows.len() / size;
        if added == 0 {
            return;
        }
        let mut mean = vec![0.0; size];
        for row in rows.chunks(size) {
            mean.iter_mut()
                .zip(row)
                .for_each(|(mean, value)| *mean += value / added as f64);
        }
        // Columns, so that each product is of two runs of memory.
        let mut columns = vec![0.0; size * added];
        for (index, row) in rows.chunks(size).enumerate() {
            for (feature, value) in row.iter().enumerate() {
                columns[feature * added + index] = value - mean[feature];
            }
        }
        let (before, total) = (self.count as f64, (self.count + added as u64) as f64);
        let difference: Vec<f64> = mean
            .iter()
            .zip(&self.mean)
            .map(|(new, old)| new - old)
            .collect();
        let factor = before * added as f64 / total;
        for i in 0..size {
            let column = &columns[i * added..][..added];
            for j in 0..=i {
                let products = column.iter().zip(&columns[j * added..][..added]);
                self.products[i * size + j] += products.map(|(a, b)| a * b).sum::<f64>()
                    + factor * difference[i] * difference[j];
            }
        }
        for (mean, difference) in self.mean.iter_mut().zip(difference) {
            *mean += difference * added as f64 / total;
        }
        self.count += added as u64;
    }

    /// Mean, and covariance with n - 1, all of it.
    fn finish(&self) -> (Vec<f64>, Vec<f64>) {
        let mut whole = self.clone();
        whole.merge();
        let size = whole.mean.len();
        let degrees = whole.count as f64 - 1.0;
        let covariance = (0..size * size).map(|at| {
            let (row, column) = (at / size, at % size);
            whole.products[row.max(column) * size + row.min(column)] / degrees
        });
        (whole.mean, covariance.collect())
    }
}

/// `|mean difference|^2 + trace(A + B - 2 (A B)^(1/2))` of the covariances A and B.
///
/// With A = L L^T the eigenvalues of A B are those of the symmetric L^T B L, none of them negative but for rounding: no
/// matrix root is taken, and a covariance without full rank needs nothing added to it.
///
/// # Panics
/// If the two have other numbers of features, or fewer than two rows.
pub fn frechet_distance(a: &FeatureMoments, b: &FeatureMoments) -> f64 {
    assert_eq!(a.mean.len(), b.mean.len(), "features of both sets");
    assert!(
        a.count() > 1 && b.count() > 1,
        "a covariance needs two rows"
    );
    let size = a.mean.len();
    let ((mean_a, covariance_a), (mean_b, covariance_b)) = (a.finish(), b.finish());
    let distance: f64 = mean_a
        .iter()
        .zip(&mean_b)
        .map(|(a, b)| (a - b) * (a - b))
        .sum();
    let trace = |matrix: &[f64]| (0..size).map(|i| matrix[i * size + i]).sum::<f64>();
    let lower = semidefinite_factor(&covariance_a, size);
    let transposed = transpose(&lower, size);
    // Both factors' rows: (B L)^T = L^T B, then (L^T B) L.
    let half = product_of_rows(&transposed, &covariance_b, size);
    let mut symmetric = product_of_rows(&half, &transposed, size);
    let roots: f64 = eigenvalues(&mut symmetric, size)
        .iter()
        .map(|value| value.max(0.0).sqrt())
        .sum();
    distance + trace(&covariance_a) + trace(&covariance_b) - 2.0 * roots
}

/// The lower triangular L with L L^T the matrix; a column of zeros where nothing is left of a diagonal element.
fn semidefinite_factor(matrix: &[f64], size: usize) -> Vec<f64> {
    let largest = (0..size).map(|i| matrix[i * size + i]).fold(0.0, f64::max);
    let nothing = 1e-14 * largest * size as f64;
    let mut lower = vec![0.0; size * size];
    for i in 0..size {
        for j in 0..=i {
            let (of_i, of_j) = (&lower[i * size..][..j], &lower[j * size..][..j]);
            let rest = matrix[i * size + j] - dot(of_i, of_j);
            let diagonal = lower[j * size + j];
            lower[i * size + j] = if i == j && rest > nothing {
                rest.sqrt()
            } else if i != j && diagonal > 0.0 {
                rest / diagonal
            } else {
                0.0
            };
        }
    }
    lower
}

/// The product's four partial sums do not depend on each other, so that they fill wide registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

fn transpose(matrix: &[f64], size: usize) -> Vec<f64> {
    (0..size * size)
        .map(|at| matrix[at % size * size + at / size])
        .collect()
}

/// `a b^T`: products of each row of one with each row of the other.
fn product_of_rows(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut product = vec![0.0; size * size];
    // Some rows of both stay in the cache.
    const TILE: usize = 32;
    for rows in (0..size).step_by(TILE) {
        for columns in (0..size).step_by(TILE) {
            for i in rows..size.min(rows + TILE) {
                for j in columns..size.min(columns + TILE) {
                    product[i * size + j] = dot(&a[i * size..][..size], &b[j * size..][..size]);
                }
            }
        }
    }
    product
}

/// Eigenvalues of a symmetric matrix, which is overwritten: Householder's reduction to three diagonals, then QL steps with
/// implicit shifts (Golub and Van Loan, sections 8.3.1 and 8.3.3).
fn eigenvalues(matrix: &mut [f64], size: usize) -> Vec<f64> {
    // `beside[i]` stands left of the diagonal in row i.
    let mut beside = vec![0.0; size];
    let mut product = vec![0.0; size];
    for last in (1..size).rev() {
        let (above, row) = matrix.split_at_mut(last * size);
        // What is left of the diagonal in the last row is reflected onto its last element.
        let row = &mut row[..last];
        let norm = dot(row, row).sqrt();
        if last == 1 || norm == 0.0 {
            beside[last] = row[last - 1];
            continue;
        }
        let signed_norm = if row[last - 1] < 0.0 { -norm } else { norm };
        beside[last] = -signed_norm;
        row[last - 1] += signed_norm;
        let scale = 2.0 / dot(row, row);
        // With v the row, p = scale A v and w = p - (scale v.p / 2) v: A becomes A - v w^T - w v^T. Lower triangle only.
        for i in 0..last {
            let of_row = &above[i * size..][..=i];
            let factor = row[i];
            let (before, own) = product.split_at_mut(i);
            for (sum, value) in before.iter_mut().zip(of_row) {
                *sum += value * factor;
            }
            own[0] = dot(of_row, &row[..=i]);
        }
        let product = &mut product[..last];
        product.iter_mut().for_each(|value| *value *= scale);
        let half = 0.5 * scale * dot(product, row);
        product
            .iter_mut()
            .zip(&*row)
            .for_each(|(value, v)| *value -= half * v);
        for i in 0..last {
            let (v, w) = (row[i], product[i]);
            let of_row = &mut above[i * size..][..=i];
            for ((value, other_v), other_w) in of_row.iter_mut().zip(&*row).zip(&*product) {
                *value -= v * other_w + w * other_v;
            }
        }
    }
    let mut diagonal: Vec<f64> = (0..size).map(|i| matrix[i * size + i]).collect();
    beside.rotate_left(1);
    ql(&mut diagonal, &mut beside);
    diagonal
}

/// Eigenvalues of a symmetric matrix with three diagonals, in place of `diagonal`; `beside[i]` stands between i and i + 1.
fn ql(diagonal: &mut [f64], beside: &mut [f64]) {
    let size = diagonal.len();
    for first in 0..size {
        // Few steps an eigenvalue are usual; a matrix with what is no number never gets there.
        for _ in 0..100 {
            let is_zero = |at: &usize| {
                let around = diagonal[*at].abs() + diagonal[at + 1].abs();
                beside[*at].abs() <= f64::EPSILON * around
            };
            let end = (first..size - 1).find(is_zero).unwrap_or(size - 1);
            if end == first {
                break;
            }
            let shift = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
            let mut g = diagonal[end] - diagonal[first]
                + beside[first] / (shift + shift.hypot(1.0).copysign(shift));
            let (mut sine, mut cosine, mut carried) = (1.0, 1.0, 0.0);
            let mut is_whole = true;
            for at in (first..end).rev() {
                let (f, b) = (sine * beside[at], cosine * beside[at]);
                let radius = f.hypot(g);
                beside[at + 1] = radius;
                if radius == 0.0 {
                    diagonal[at + 1] -= carried;
                    is_whole = false;
                    break;
                }
                (sine, cosine) = (f / radius, g / radius);
                g = diagonal[at + 1] - carried;
                let rest = (diagonal[at] - g) * sine + 2.0 * cosine * b;
                carried = sine * rest;
                diagonal[at + 1] = g + carried;
                g = cosine * rest - b;
            }
            beside[end] = 0.0;
            if is_whole {
                diagonal[first] -= carried;
                beside[first] = g;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<f32> {
        let path = format!(
            "{}/tests/frechet/features_{text}.f32",
            env!("CARGO_MANIFEST_DIR")
        );
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect()
    }

    fn moments(values: &[f32]) -> FeatureMoments {
        let mut moments = FeatureMoments::new(24);
        values.chunks(24).for_each(|row| moments.add(row));
        moments
    }

    #[test]
    fn the_distance_is_that_of_another_implementation() {
        let expected: Vec<f64> = include_str!("../tests/frechet/expected.txt")
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect();
        let (a, b) = (read("a"), read("b"));
        let (head, tail) = a.split_at(100 * 24);
        for (found, expected) in [
            (frechet_distance(&moments(&a), &moments(&b)), expected[0]),
            (
                frechet_distance(&moments(head), &moments(tail)),
                expected[1],
            ),
            // pytorch-fid's own function.
            (frechet_distance(&moments(&a), &moments(&b)), expected[2]),
        ] {
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "{found} is not {expected}"
            );
        }
    }

    #[test]
    fn a_set_is_at_no_distance_from_itself_even_without_full_rank() {
        let a = read("a");
        let whole = moments(&a);
        assert!(frechet_distance(&whole, &whole).abs() < 1e-10);
        // 10 rows span 9 of 24 directions.
        let few = moments(&a[..10 * 24]);
        assert!(frechet_distance(&few, &few).abs() < 1e-6);
    }

    #[test]
    fn a_shift_of_the_mean_counts_its_square() {
        let a = read("a");
        let shifted: Vec<f32> = a.iter().map(|value| value + 0.5).collect();
        let found = frechet_distance(&moments(&a), &moments(&shifted));
        assert!((found - 24.0 * 0.25).abs() < 1e-4, "{found}");
    }

    #[test]
    fn eigenvalues_are_those_of_known_matrices() {
        // Second differences: 2 - 2 cos(pi k / (n + 1)), whatever the order of rows and columns.
        let size = 40;
        let place = |i: usize| (i * 17) % size;
        let mut matrix = vec![0.0; size * size];
        for i in 0..size {
            matrix[place(i) * size + place(i)] = 2.0;
            if i + 1 < size {
                matrix[place(i) * size + place(i + 1)] = -1.0;
                matrix[place(i + 1) * size + place(i)] = -1.0;
            }
        }
        let mut found = eigenvalues(&mut matrix, size);
        found.sort_by(f64::total_cmp);
        for (k, found) in (1..).zip(found) {
            let angle = std::f64::consts::PI * k as f64 / (size + 1) as f64;
            assert!((found - (2.0 - 2.0 * angle.cos())).abs() < 1e-13);
        }
    }
}
