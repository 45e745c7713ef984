//! How and where a step is taken, as far as its memory goes.

use vae_core::Precision;

use run_files::settings::{DeviceChoice, Settings};

/// A float32 number.
pub(super) const F32: u64 = 4;

/// What the blocks keep for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The float32 blocks on flex.
    Fast,
    /// Burn's own layers.
    Plain,
    /// The step that stays on a GPU.
    OnDevice(Precision),
}

/// Where a step runs, as far as memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The host, with this program's allocator.
    Host {
        /// It keeps what was freed for longer than a step, as it does by default.
        keeps_freed: bool,
    },
    Gpu {
        /// The images of CIFAR-10 lie there too.
        has_images: bool,
    },
}

/// Whether a device holds the images and makes batches of them: what `ImagePlace::of` finds out of one that is open.
fn holds_images(device: DeviceChoice) -> bool {
    match device {
        DeviceChoice::Cuda(_) => true,
        // The language of its kernels has no bytes.
        DeviceChoice::Vulkan(_) => false,
        DeviceChoice::Flex | DeviceChoice::Ndarray => false,
    }
}

/// The form and the place that settings lead to: of several GPUs those of the first, which alone has images.
pub(crate) fn form_and_place(settings: &Settings) -> (Form, Place) {
    let is_fast = settings.device.main() == DeviceChoice::Flex
        && settings.precision == run_files::settings::Precision::F32;
    let precision = match settings.precision {
        run_files::settings::Precision::F32 => Precision::F32,
        run_files::settings::Precision::Bf16 => Precision::Bf16,
    };
    let form = if is_fast {
        Form::Fast
    } else if settings.device.are_gpus() {
        Form::OnDevice(precision)
    } else {
        Form::Plain
    };
    let place = if settings.device.are_gpus() {
        Place::Gpu {
            has_images: holds_images(settings.device.main()),
        }
    } else {
        Place::Host {
            keeps_freed: keeps_freed(std::env::var("MIMALLOC_PURGE_DELAY").ok().as_deref()),
        }
    };
    (form, place)
}

/// Whether freed memory stays for longer than a step; `delay` is in milliseconds, mimalloc's default 1000.
fn keeps_freed(delay: Option<&str>) -> bool {
    delay
        .and_then(|delay| delay.parse::<i64>().ok())
        .is_none_or(|delay| !(0..1000).contains(&delay))
}

/// What a step is made of, besides the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepSize {
    /// Images.
    pub(crate) batch: usize,
    /// Images at a time at most.
    pub(crate) micro_batch: Option<usize>,
    /// Shards that a GPU adds up.
    pub(crate) shards: usize,
    /// Whether blocks are computed again in the backward pass.
    pub(crate) recomputes: bool,
    /// Whether a moving average of the weights is kept.
    pub(crate) has_average: bool,
}

impl StepSize {
    /// Of a run with these settings, over `batch` images.
    pub(crate) fn of(settings: &Settings, batch: usize) -> Self {
        Self {
            batch,
            micro_batch: settings.micro_batch_size,
            shards: settings.shards.max(settings.device.count()),
            recomputes: settings.gradient_checkpointing,
            has_average: settings.ema.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_on_a_gpu_that_has_bytes() {
        for (device, expected) in [
            ("cuda:0", Some(true)),
            ("cuda:1,cuda:0", Some(true)),
            ("vulkan:0", Some(false)),
            ("flex", None),
        ] {
            let settings = Settings {
                device: device.parse().expect("devices"),
                ..Settings::default()
            };
            let found = match form_and_place(&settings).1 {
                Place::Gpu { has_images } => Some(has_images),
                Place::Host { .. } => None,
            };
            assert_eq!(found, expected, "{device}");
        }
    }

    #[test]
    fn the_allocator_s_delay_is_read_as_it_reads_it() {
        for (delay, keeps) in [
            (None, true),
            (Some("10"), false),
            (Some("10000"), true),
            (Some("-1"), true),
        ] {
            assert_eq!(keeps_freed(delay), keeps, "{delay:?}");
        }
    }
}
