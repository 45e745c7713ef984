//! Maps with the channels of several.

use burn::prelude::*;

/// The channels of all parts in order, as Burn's own operation gives them.
///
/// On a GPU Burn leaves out work that needs what was never computed, for want of memory or because a buffer was too large, and tells so where a result
/// is read. It joins by writing one part after the other into new memory; a part that was left out is forgotten there as soon as the next one is
/// written, and whatever the memory had is read in its place. So the last part is made to need all others: by adding 0, which they all give.
///
/// # Shapes
/// - parts: `[batch, channels, height, width]`, alike but for their channels
/// - output: `[batch, all channels, height, width]`
///
/// # Panics
/// If there is no part, or their shapes do not fit.
pub(crate) fn join(mut parts: Vec<Tensor<4>>) -> Tensor<4> {
    let last = parts.pop().expect("a block has chains");
    let zero_of = |part: &Tensor<4>| {
        // 0 whatever the value is: 0 times an infinite one would be NaN.
        let first = part.clone().slice([0..1, 0..1, 0..1, 0..1]);
        first.is_nan().float().mul_scalar(0.0)
    };
    let zeros = parts.iter().map(zero_of);
    let last = match zeros.reduce(|all, zero| all + zero) {
        Some(zero) => last + zero,
        None => last,
    };
    parts.push(last);
    #[expect(clippy::disallowed_methods, reason = "its last part needs the others")]
    Tensor::cat(parts, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_of_the_parts_whatever_they_are() {
        let device = Device::flex();
        let part = |values: [f32; 2]| Tensor::<1>::from_floats(values, &device);
        let parts = [
            part([f32::NAN, 1.0]),
            part([f32::INFINITY, 2.0]),
            part([3.0, -4.0]),
        ];
        let joined = join(parts.map(|part| part.reshape([1, 1, 1, 2])).into());
        assert_eq!(joined.dims(), [1, 3, 1, 2]);
        let values = joined.into_data().try_to_vec::<f32>().expect("float32");
        assert!(values[0].is_nan());
        assert_eq!(values[1..], [1.0, f32::INFINITY, 2.0, 3.0, -4.0]);
    }
}
