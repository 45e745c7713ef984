//! How a model uses each dimension of its latent, as `summary.json` has it.

use serde::Deserialize;
use vae_measures::KlSchedule;

use crate::nullable;
use crate::settings::Settings;

/// A dimension whose posterior mean varies more than this over the images is active (Burda, Grosse and Salakhutdinov
/// 2016, "Importance weighted autoencoders", section 5.2).
pub const ACTIVE_ABOVE: f64 = 0.01;

/// Each dimension of the latent, over the images of a split.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LatentStatistics {
    /// KL divergence of the posterior from the prior, in nats an image; `[latent_dim]`
    #[serde(deserialize_with = "nullable::numbers")]
    pub kl_per_dimension: Vec<f64>,
    /// Variance over the images of the posterior's mean, divided by the number of images; `[latent_dim]`
    #[serde(deserialize_with = "nullable::numbers")]
    pub mean_variance: Vec<f64>,
}

impl LatentStatistics {
    /// Number of active dimensions: those whose mean varies by more than [`ACTIVE_ABOVE`].
    pub fn active(&self) -> usize {
        let variances = self.mean_variance.iter();
        variances
            .filter(|variance| **variance > ACTIVE_ABOVE)
            .count()
    }

    /// Whether the decoder ignores the latent, or almost: no dimension is active, or all of them together tell less than a nat. Fewer than
    /// 20 images, whose variance says nothing, are no reason to say so.
    pub fn is_collapsed(&self, images: u64) -> bool {
        // Not a number is no collapse.
        images >= FEWEST_IMAGES
            && (self.active() == 0 && self.kl_per_dimension.iter().all(|kl| kl.is_finite())
                || self.kl_per_dimension.iter().sum::<f64>() < LEAST_KL)
    }

    /// What a collapse over so many images is, and what helps a run with these settings, for those who see one.
    pub fn collapse_warning(&self, images: u64, settings: &Settings) -> Option<String> {
        self.is_collapsed(images).then(|| {
            let active = self.active();
            format!(
                "the posterior has collapsed: {active} of {} latent dimensions {} active and together they carry {:.2} nats an image, so \
                 the decoder draws almost the same picture for every latent; {}",
                self.mean_variance.len(),
                if active == 1 { "is" } else { "are" },
                self.kl_per_dimension.iter().sum::<f64>(),
                advice(settings)
            )
        })
    }
}

/// Less than this many nats an image is as good as no latent.
const LEAST_KL: f64 = 1.0;

/// Images at least for a verdict.
const FEWEST_IMAGES: u64 = 20;

/// What keeps the latent in use, of what the settings do not have yet.
fn advice(settings: &Settings) -> String {
    if settings.beta == 0.0 {
        // Schedules and free bits are parts of a weight that is 0, and nothing draws the posterior towards the prior.
        return "without a KL divergence in what is minimised, more epochs alone may bring it into use".to_owned();
    }
    let unset = [
        (
            settings.kl_warmup == KlSchedule::None,
            "`--kl-warmup linear:STEPS`",
        ),
        (settings.free_bits.is_none(), "`--free-bits 0.1`"),
        (settings.beta >= 1.0, "`--beta` below 1"),
    ];
    let unset: Vec<&str> = unset
        .into_iter()
        .filter_map(|(is_unset, flag)| is_unset.then_some(flag))
        .collect();
    let more = "and more epochs may bring it into use";
    match &unset[..] {
        [] => format!(
            "a longer `--kl-warmup`, more `--free-bits` or a smaller `--beta` keeps the latent in use, {more}"
        ),
        [one] => format!("{one} keeps the latent in use, {more}"),
        [before @ .., last] => format!(
            "{} or {last} keeps the latent in use, {more}",
            before.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collapse_is_told_with_its_cure() {
        let of = |kl: &[f64], variance: &[f64]| LatentStatistics {
            kl_per_dimension: kl.to_vec(),
            mean_variance: variance.to_vec(),
        };
        // Used, unused, hardly used, and a model that is not finite, which another message is about.
        let plain = Settings::default();
        let used = of(&[3.0, 0.0], &[0.9, 0.0]);
        assert_eq!(used.collapse_warning(20, &plain), None);
        let unused = of(&[0.001, 0.0], &[0.001, 0.0]);
        let warning =
            |settings: &Settings| unused.collapse_warning(20, settings).expect("collapsed");
        assert_eq!(
            warning(&plain),
            "the posterior has collapsed: 0 of 2 latent dimensions are active and together they carry 0.00 nats an image, so the decoder \
             draws almost the same picture for every latent; `--kl-warmup linear:STEPS`, `--free-bits 0.1` or `--beta` below 1 keeps the \
             latent in use, and more epochs may bring it into use"
        );
        // What is set already is no advice.
        let warmed = Settings {
            kl_warmup: "linear:100".parse().unwrap(),
            ..plain.clone()
        };
        assert!(!warning(&warmed).contains("--kl-warmup"));
        let all = Settings {
            free_bits: Some(0.1),
            beta: 0.5,
            ..warmed.clone()
        };
        assert!(warning(&all).contains("a longer `--kl-warmup`, more `--free-bits`"));
        // Flags that a weight of 0 makes nothing of.
        let unweighted = Settings {
            beta: 0.0,
            ..plain.clone()
        };
        assert!(
            !warning(&unweighted).contains("--"),
            "{}",
            warning(&unweighted)
        );
        assert!(of(&[0.4, 0.3], &[0.5, 0.4]).is_collapsed(20));
        assert!(!of(&[f64::NAN, 0.0], &[0.0, 0.0]).is_collapsed(20));
        // The mean of one image does not vary, whatever the model.
        for images in [1, 19] {
            assert!(!of(&[30.0, 9.0], &[0.0, 0.0]).is_collapsed(images));
            assert_eq!(unused.collapse_warning(images, &plain), None);
        }
        assert!(of(&[30.0, 9.0], &[0.0, 0.0]).is_collapsed(20));
    }
}
