//! The sum of all values of a tensor, in an order that is the same each time.
//!
//! Burn's flex backend adds 4,194,304 float32 values and more in parallel, and joins the parts as threads finish them: the last
//! bits are then a matter of chance. Here such a tensor is divided into chunks of a fixed size, each is summed by itself, and
//! their sums are summed. On GPUs Burn's sum of all values adds atomically, in any order, and does not compile for cards before
//! compute capability 7.0: there every sum is one along an axis, which has an order.

use burn::prelude::*;

/// Values from which on a sum is divided; below, every backend's own sum has a fixed order.
const DIVIDED_FROM: usize = 1 << 22;
/// Values of a chunk.
const CHUNK: usize = 1 << 16;

/// Values of a chunk on GPUs: one row of a sum along an axis.
#[cfg(feature = "cube")]
const ROW: usize = 1 << 12;

/// The sum of all values, the same bits on flex with any number of threads, and on a GPU each time.
///
/// # Shapes
/// - values: any
/// - output: `[1]`
pub fn sum_in_fixed_order<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    let count = values.shape().num_elements();
    #[cfg(feature = "cube")]
    if is_on_gpu(&values) {
        return sum_by_rows(values.reshape([count]));
    }
    if count < DIVIDED_FROM {
        return values.sum();
    }
    let values: Tensor<1> = values.reshape([count]);
    let whole = count - count % CHUNK;
    let chunks: Tensor<2> = if whole == count {
        values.clone().reshape([count / CHUNK, CHUNK])
    } else {
        values
            .clone()
            .narrow(0, 0, whole)
            .reshape([whole / CHUNK, CHUNK])
    };
    let sum = sum_in_fixed_order(chunks.sum_dim(1));
    if whole == count {
        sum
    } else {
        sum + values.narrow(0, whole, count - whole).sum()
    }
}

/// The mean of all values; see [`sum_in_fixed_order`].
///
/// # Shapes
/// - values: any
/// - output: `[1]`
pub fn mean_in_fixed_order<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    let count = values.shape().num_elements();
    #[cfg(feature = "cube")]
    if is_on_gpu(&values) {
        return sum_in_fixed_order(values).mul_scalar(1.0 / count as f64);
    }
    if count < DIVIDED_FROM {
        return values.mean();
    }
    sum_in_fixed_order(values).div_scalar(count as f64)
}

#[cfg(feature = "cube")]
fn is_on_gpu<const D: usize>(values: &Tensor<D>) -> bool {
    let device = values.device().inner();
    matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_))
}

#[cfg(feature = "cube")]
fn sum_by_rows(values: Tensor<1>) -> Tensor<1> {
    let [count] = values.dims();
    if count <= ROW {
        return values.sum_dim(0);
    }
    let rows = count / ROW;
    let whole = rows * ROW;
    let sums = values.clone().narrow(0, 0, whole).reshape([rows, ROW]);
    let sums = sum_by_rows(sums.sum_dim(1).reshape([rows]));
    if whole == count {
        sums
    } else {
        sums + values.narrow(0, whole, count - whole).sum_dim(0)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        // Of very different sizes, so that every order of additions rounds in its own way.
        let mut state = 1u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count)
            .map(|_| (draw() - 0.3) * (20.0 * draw()).exp2())
            .collect()
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for count in [DIVIDED_FROM, DIVIDED_FROM + 3 * CHUNK + 17] {
            let values = values(count);
            let data = TensorData::new(values.clone(), [count]);
            let with = |threads: usize, of: fn(Tensor<1>) -> Tensor<1>| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let data = data.clone();
                pool.expect("a pool").install(move || {
                    let tensor = Tensor::<1>::from_data(data, &Device::flex());
                    of(tensor).into_scalar::<f32>()
                })
            };
            let forms: [fn(Tensor<1>) -> Tensor<1>; 2] = [sum_in_fixed_order, mean_in_fixed_order];
            for form in forms {
                let alone = with(1, form);
                for threads in [2, 3, 4, 2, 3, 4, 2, 3, 4] {
                    let found = with(threads, form);
                    assert_eq!(found.to_bits(), alone.to_bits(), "{threads} threads");
                }
            }
            let alone = with(1, sum_in_fixed_order);
            let exact: f64 = values.iter().map(|value| f64::from(*value)).sum();
            let size: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
            assert!(
                (f64::from(alone) - exact).abs() < 1e-6 * size,
                "{alone} and {exact}"
            );
        }
    }

    #[test]
    fn the_derivative_is_one_everywhere() {
        let device = Device::flex().autodiff();
        let count = DIVIDED_FROM + 5;
        let tensor = Tensor::<1>::ones([count], &device).require_grad();
        let gradients = sum_in_fixed_order(tensor.clone()).backward();
        let gradient = tensor.grad(&gradients).expect("a gradient").into_data();
        let gradient = gradient.try_to_vec::<f32>().expect("float32");
        assert!(gradient.len() == count && gradient.iter().all(|value| *value == 1.0));
    }

    #[test]
    fn small_tensors_keep_the_backends_own_bits() {
        let data = TensorData::new(values(70_000), [70_000]);
        let tensor = Tensor::<1>::from_data(data, &Device::flex());
        assert_eq!(
            sum_in_fixed_order(tensor.clone()).into_scalar::<f32>(),
            tensor.sum().into_scalar::<f32>()
        );
    }
}
