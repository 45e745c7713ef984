//! The kernels of `resnet-blocks` and `vae-core` that have unsafe code, compiled here once more so that a sanitizer sees every
//! access.
//!
//! Each case owns slices that end where the kernel's last element ends: one element further is found.

// What the kernels mention of Burn is this crate's own.
extern crate self as burn;

/// As `burn::tensor`, with the one name that the kernels mention.
pub mod tensor {
    /// Types of elements.
    pub trait Element: Copy {}
    impl Element for f32 {}
    impl Element for f64 {}
}

#[allow(dead_code, reason = "the kernels use it, and more")]
#[path = "../../src/flex"]
mod flex {
    pub(crate) mod element;
    #[allow(unsafe_code)]
    pub(crate) mod elementwise;
    #[allow(unsafe_code)]
    pub(crate) mod product;
}

#[allow(dead_code, reason = "the kernels use it, and more")]
#[path = "../../../vae-core/src/likelihood"]
mod likelihood {
    mod level_bounds;
    mod sinh_series;
    mod flex {
        mod lanes;
        mod logistic;
        mod mixture;
        #[allow(unsafe_code)]
        mod one_pass;
        mod real;
        mod renormalised_bernoulli;

        #[cfg(test)]
        mod tests {
            use super::lanes::{LANES, Lane, Pixels};
            use super::one_pass::OnePass;
            use super::real::Real;

            /// Value and derivatives at every position, in float64.
            fn nll<T: Real, const WITH_GRADIENT: bool>(likelihood: OnePass) -> Vec<f64> {
                // Low-discrepancy numbers: no pattern that a kernel could hide in, and the same for both types.
                let number = |index: usize| (index as f64 * 0.618_033_988_75).fract();
                let mut pixels = Pixels::<T>::new(3);
                for colour in 0..3 {
                    for lane in 0..LANES {
                        // Both ends among them, which have one edge only.
                        let level = match lane {
                            0 => 0.0,
                            1 => 255.0,
                            _ => (number(3 * lane + colour) * 256.0).floor(),
                        };
                        pixels.set(colour, lane, T::from_f64(level / 255.0));
                    }
                }
                let lane = |row: usize| -> Lane<T> {
                    std::array::from_fn(|lane| T::from_f64(4.0 * number(97 * row + lane) - 2.0))
                };
                // The slice ends where the kernel's last row ends.
                let mut rows: Box<[Lane<T>]> = (0..likelihood.map_channels(3)).map(lane).collect();
                let mut all = likelihood
                    .nll::<T, WITH_GRADIENT>(&mut rows, &pixels)
                    .to_vec();
                if WITH_GRADIENT {
                    all.extend(rows.iter().flatten());
                }
                all.into_iter().map(Real::wide).collect()
            }

            #[test]
            fn likelihoods_stay_inside_their_slices_and_are_right() {
                let mixtures = (1..14).chain([30, 100]);
                let mixtures = mixtures.map(|components| OnePass::LogisticMixture { components });
                for likelihood in
                    mixtures.chain([OnePass::RenormalisedBernoulli, OnePass::Logistic])
                {
                    let narrow = nll::<f32, true>(likelihood);
                    let wide = nll::<f64, true>(likelihood);
                    for (narrow, wide) in narrow.iter().zip(&wide) {
                        let error = (narrow - wide).abs() / wide.abs().max(1.0);
                        assert!(error < 1e-4, "{likelihood:?}: {narrow} and {wide}");
                    }
                    assert_eq!(narrow[..LANES], nll::<f32, false>(likelihood)[..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::flex::element::Real;
    use crate::flex::elementwise::{
        activate, activate_backward, activate_centred, add_channels, add_squares, centre, finish,
        finish_with, mask, mask_in_place, norm_backward,
    };
    use crate::flex::product::{Factor, Mode, multiply};

    /// xorshift: no pattern that a kernel could hide in.
    struct Draws(u64);

    impl Draws {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 33) as usize % limit
        }

        fn values<T: Real>(&mut self, count: usize) -> Box<[T]> {
            (0..count)
                .map(|_| T::narrow(self.below(2001) as f64 / 1000.0 - 1.0))
                .collect()
        }
    }

    fn products<T: Real>(cases: usize, tolerance: f64) {
        let mut draws = Draws(0x9E37_79B9_7F4A_7C15);
        for case in 0..cases {
            // Around the kernels' own sizes, and long enough for several blocks of depth now and then.
            let [rows, columns] = [0, 1].map(|_| 1 + draws.below(70));
            let depth = draws.below(if case % 50 == 0 { 1200 } else { 80 });
            // Adjacent, apart, and overlapping as the windows of a convolution are.
            let stride = rows + draws.below(3);
            let left_stride = if draws.below(2) == 0 {
                rows
            } else {
                rows + draws.below(5)
            };
            let right_stride =
                [depth, depth + draws.below(5), 1 + draws.below(depth.max(1))][draws.below(3)];
            let end = |rows: usize, columns: usize, stride: usize| {
                if rows == 0 || columns == 0 {
                    0
                } else {
                    rows + (columns - 1) * stride
                }
            };
            let left: Box<[T]> = draws.values(end(rows, depth, left_stride));
            let right: Box<[T]> = draws.values(end(depth, columns, right_stride));
            let before: Box<[T]> = draws.values(end(rows, columns, stride));
            for mode in [Mode::Overwrite, Mode::Accumulate] {
                let mut destination = before.clone();
                multiply(
                    &mut destination,
                    stride,
                    [rows, columns, depth],
                    Factor::columns(&left, left_stride),
                    Factor::columns(&right, right_stride),
                    mode,
                );
                for (index, found) in destination.iter().enumerate() {
                    let (column, row) = (index / stride, index % stride);
                    let old = before[index].widen();
                    if row >= rows {
                        assert_eq!(found.widen(), old, "nothing between columns is written");
                        continue;
                    }
                    let product: f64 = (0..depth)
                        .map(|k| {
                            left[k * left_stride + row].widen()
                                * right[column * right_stride + k].widen()
                        })
                        .sum();
                    let expected = if mode == Mode::Accumulate {
                        old + product
                    } else {
                        product
                    };
                    let error = (found.widen() - expected).abs();
                    assert!(
                        error <= tolerance * (1.0 + depth as f64).sqrt(),
                        "{rows} x {columns} x {depth}: {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_stay_inside_their_slices_and_are_right() {
        products::<f32>(400, 2e-6);
        products::<f64>(400, 1e-14);
    }

    fn passes<T: Real>() {
        let mut draws = Draws(7);
        for channels in (1..70).chain([128, 255, 256]) {
            let len = channels * (1 + draws.below(6));
            let [a, b, c, d]: [Box<[T]>; 4] = std::array::from_fn(|_| draws.values(channels));
            let [values, gradient, other]: [Box<[T]>; 3] =
                std::array::from_fn(|_| draws.values(len));
            let mut output = values.clone();
            let [mut sum, mut weighted]: [Box<[T]>; 2] =
                std::array::from_fn(|_| draws.values(channels));
            activate(&values, &a, &b, &mut output);
            activate_centred(&values, &a, &b, &c, &mut output);
            norm_backward(&gradient, &values, [&a, &b, &c, &d], &mut output);
            mask(&gradient, &values, &mut output, &mut sum);
            mask_in_place(&mut output, &values, &mut sum);
            activate_backward(
                &values,
                [&a, &b, &c, &d],
                &mut output,
                &mut sum,
                &mut weighted,
            );
            centre(&mut output, &a);
            finish(&mut output, &b);
            finish_with(&mut output, &c, &other);
            add_channels(&output, &mut sum);
            add_squares(&output, &a, &mut weighted);
            let last = relu_of_sum(&output, &other, &c, channels);
            finish_with(&mut output, &c, &other);
            assert_eq!(output[len - 1].widen(), last);
        }
    }

    fn relu_of_sum<T: Real>(output: &[T], other: &[T], shift: &[T], channels: usize) -> f64 {
        let last = output.len() - 1;
        (output[last] + shift[channels - 1] + other[last])
            .widen()
            .max(0.0)
    }

    #[test]
    fn passes_stay_inside_their_slices() {
        passes::<f32>();
        passes::<f64>();
    }

    const READS_BEYOND: &str = "SANITIZE_READS_BEYOND";

    /// Without it, a build without the sanitizer would pass for one with it.
    #[test]
    fn one_element_further_is_found() {
        if std::env::var_os(READS_BEYOND).is_some() {
            let values: Box<[f32]> = Draws(3).values(5);
            // SAFETY: none. The sanitizer ends the process here.
            let beyond = unsafe { std::hint::black_box(values.as_ptr()).add(5).read_volatile() };
            panic!("{beyond} was read past the end, and nobody noticed");
        }
        let program = std::env::current_exe().unwrap();
        let output = std::process::Command::new(program)
            .args(["--exact", "tests::one_element_further_is_found"])
            .env(READS_BEYOND, "1")
            .output()
            .unwrap();
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            messages.contains("heap-buffer-overflow"),
            "no sanitizer: {messages}"
        );
    }
}
