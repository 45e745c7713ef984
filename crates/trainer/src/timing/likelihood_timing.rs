//! How much of a step is the likelihood alone: its value and its gradient by the decoder's map.

use std::time::Instant;

use burn::prelude::*;
use serde::Serialize;

use crate::experiment::model::Model;

/// The likelihood of a batch and its gradient, alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LikelihoodTiming {
    /// Seconds a batch.
    pub seconds: f64,
    /// Seconds of all processors together a batch, where the system tells.
    pub processor_seconds: Option<f64>,
}

/// Seconds that this process has had of all processors; none where the system does not tell.
pub(super) fn processor_seconds() -> Option<f64> {
    // Linux counts a hundredth of a second, whatever the kernel's own clock.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_A_SECOND)
}

/// Times value and gradient of `images` for the map that this model's decoder makes, `repetitions` times, after a first one that
/// does not count.
pub(super) fn time_likelihood(
    model: &Model,
    images: Tensor<4>,
    repetitions: usize,
    device: &Device,
) -> LikelihoodTiming {
    let device = device.clone().inner();
    let [batch, ..] = images.dims();
    let model = model.valid();
    let latents = Tensor::zeros([batch, model.latent_dim()], &device);
    // As the decoder leaves it in memory, and then as the beginning of a graph.
    let (map, images) = (model.output_map(latents).autodiff(), images.autodiff());
    let once = || {
        let map = map.clone().detach().require_grad();
        let nll = model.nll(map.clone(), images.clone());
        let gradients = nll.mean().backward();
        // Reading one value waits for all of them.
        let gradient = map.grad(&gradients);
        gradient.map(|gradient| gradient.slice([0..1, 0..1, 0..1, 0..1]).into_data())
    };
    once();
    let (before, began) = (processor_seconds(), Instant::now());
    for _ in 0..repetitions {
        once();
    }
    let each = |seconds: f64| seconds / repetitions as f64;
    LikelihoodTiming {
        seconds: each(began.elapsed().as_secs_f64()),
        processor_seconds: processor_seconds()
            .zip(before)
            .map(|(after, before)| each(after - before)),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let before = processor_seconds().expect("Linux tells");
        let began = Instant::now();
        let mut sum = 0u64;
        while began.elapsed().as_secs_f64() < 0.2 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let spent = processor_seconds().expect("Linux tells") - before;
        // A busy machine gives less than the time that passes; other tests of this process add to it.
        assert!(spent > 0.0, "{spent}");
    }
}
