//! What makes a run the same run, wherever it lies: the settings that decide its numbers, and its data.

use sha2::{Digest, Sha256};

use run_files::checkpoint::hex;
use run_files::settings::{Settings, differences};

/// The identity of a run: a SHA-256 in hexadecimal digits.
///
/// It covers every setting that [`differences`] lists, which are those whose change would change a number; the number of
/// epochs, since a longer run is another run; and the hash of the data set. Neither `run_dir` nor `data_dir` nor the
/// index of a GPU is in it. Two settings are compared by one program, so it needs no form that outlives a version.
pub fn run_identity(settings: &Settings, data_hash: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("data {data_hash}\nepochs {}\n", settings.epochs));
    for difference in differences(&Settings::default(), settings) {
        hasher.update(format!("{} {}\n", difference.key, difference.after));
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use run_files::settings::{
        Activation, Augment, DeviceChoice, Precision, Preset, RateSchedule, Sampler, Validation,
    };
    use vae_measures::Likelihood;

    fn base() -> Settings {
        Settings {
            data_dir: Some("data".into()),
            run_dir: Some("runs/a".into()),
            device: DeviceChoice::Cuda(0).into(),
            ..Settings::default()
        }
    }

    #[test]
    fn every_setting_that_decides_a_number_changes_the_identity() {
        let changes: [fn(&mut Settings); 35] = [
            |settings| settings.preset = Some(Preset::Demo),
            |settings| settings.depth = 28,
            |settings| settings.width = 0.5,
            |settings| settings.latent_dim = 1,
            |settings| settings.intermediate_dim = 16,
            |settings| settings.batch_size = 2,
            |settings| settings.epochs = 999,
            |settings| settings.learning_rate = 0.5,
            |settings| settings.decay = 0.5,
            |settings| settings.activation = Activation::Relu,
            |settings| settings.dropout = 0.5,
            |settings| settings.seed = 2,
            |settings| settings.device = DeviceChoice::Flex.into(),
            |settings| settings.shortcuts = false,
            |settings| settings.validation = Validation::Test,
            |settings| settings.sampler = Sampler::Blog,
            |settings| settings.limit_train = Some(2),
            |settings| settings.limit_test = Some(2),
            |settings| settings.augment = Augment::Flip,
            |settings| settings.halving_patience = 1,
            |settings| settings.minimum_learning_rate = 0.0,
            |settings| settings.stopping_patience = 1,
            |settings| settings.stopping_minimum_improvement = 0.5,
            |settings| settings.precision = Precision::Bf16,
            |settings| settings.micro_batch_size = Some(2),
            |settings| settings.gradient_checkpointing = true,
            |settings| settings.schedule = RateSchedule::Cosine,
            |settings| settings.warmup_steps = 5,
            |settings| settings.shards = 2,
            |settings| settings.sync_norm = true,
            |settings| settings.likelihood = Likelihood::RenormalisedBernoulli,
            |settings| settings.beta = 0.5,
            |settings| settings.kl_warmup = "linear:5".parse().expect("a schedule"),
            |settings| settings.free_bits = Some(0.5),
            |settings| settings.ema = Some(0.5),
        ];
        let mut identities = vec![run_identity(&base(), "a"), run_identity(&base(), "b")];
        for change in changes {
            let mut settings = base();
            change(&mut settings);
            identities.push(run_identity(&settings, "a"));
        }
        let all = identities.len();
        identities.sort();
        identities.dedup();
        assert_eq!(identities.len(), all, "two of them are equal");
    }

    #[test]
    fn places_do_not_change_the_identity() {
        let moved = Settings {
            data_dir: None,
            run_dir: Some("elsewhere".into()),
            device: DeviceChoice::Cuda(3).into(),
            ..base()
        };
        assert_eq!(run_identity(&moved, "a"), run_identity(&base(), "a"));
    }
}
