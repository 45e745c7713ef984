//! What changed between the settings a run recorded and those it is resumed with.

use std::fmt;

use serde_json::{Map, Value};

use super::print_config::plain;
use super::{Change, Key, RateSchedule, Settings};

/// One changed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: &'static str,
    /// Its value in the earlier settings.
    pub before: String,
    /// Its value in the later settings.
    pub after: String,
}

impl Difference {
    /// Whether no run can go on with it, not even where a change is asked for.
    pub fn is_fixed(&self) -> bool {
        Key::from_name(self.key).is_some_and(|key| key.change() == Change::Fixed)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} -> {}", self.key, self.before, self.after)
    }
}

/// The keys whose change makes a continued run another run than the one `after` describes from its start.
///
/// Left out, because they change where a run happens, how long it lasts or when it is saved, but no number in it:
/// `run_dir`; `data_dir` (a moved folder holds the same images, and the data hash in `environment.json` tells when it
/// does not); `epochs`, but for a cosine
/// schedule; `checkpoint_every`; `on_disk_full`; and the indices of GPUs. Changing the kind of device is listed, since
/// backends round differently, and so is a number of devices that no number of shards stands for, since each then normalises its part of
/// a batch by itself.
pub fn differences(before: &Settings, after: &Settings) -> Vec<Difference> {
    let (earlier, later) = (comparable(before), comparable(after));
    // Each epoch's learning rate depends on how many there will be.
    let is_cosine = [before, after]
        .iter()
        .any(|settings| settings.schedule == RateSchedule::Cosine);
    Key::ALL
        .into_iter()
        .filter(|key| key.change() != Change::Free || *key == Key::Epochs && is_cosine)
        .filter(|key| earlier[key.name()] != later[key.name()])
        .map(|key| Difference {
            key: key.name(),
            before: plain(&earlier[key.name()]),
            after: plain(&later[key.name()]),
        })
        .collect()
}

fn comparable(settings: &Settings) -> Map<String, Value> {
    let mut values = settings.to_map();
    let main = settings.device.main();
    let kind = if settings.device.are_gpus() {
        main.feature().to_owned()
    } else {
        main.to_string()
    };
    // Whoever computes the shards, the run is the same; and each of several devices has a shard, which runs of programs before
    // 2026-11-28 did not record.
    let devices = settings.device.count();
    let (shards, devices) = match settings.shards {
        // Shards that shared their norms were computed undivided by one of the devices.
        1 if settings.sync_norm => (1, 1),
        1 if devices.is_power_of_two() => (devices, 1),
        1 => (1, devices),
        shards => (shards, 1),
    };
    values.insert(Key::Shards.name().to_owned(), shards.into());
    let kind = vec![kind; devices].join(",");
    values.insert(Key::Device.name().to_owned(), kind.into());
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DeviceChoice;

    #[test]
    fn changed_keys_are_listed_with_both_values() {
        let before = Settings::default();
        let after = Settings {
            latent_dim: 32,
            limit_train: Some(50),
            ..before.clone()
        };
        let lines: Vec<String> = differences(&before, &after)
            .iter()
            .map(Difference::to_string)
            .collect();
        assert_eq!(lines, ["latent_dim: 256 -> 32", "limit_train: none -> 50"]);
    }

    #[test]
    fn place_and_length_of_a_run_are_no_differences() {
        let before = Settings {
            device: DeviceChoice::Cuda(0).into(),
            ..Settings::default()
        };
        let after = Settings {
            run_dir: Some("b".into()),
            data_dir: Some("d".into()),
            epochs: 2000,
            device: DeviceChoice::Cuda(1).into(),
            ..before.clone()
        };
        assert_eq!(differences(&before, &after), []);
        assert_eq!(
            differences(
                &before,
                &Settings {
                    device: DeviceChoice::Flex.into(),
                    ..before.clone()
                }
            )
            .len(),
            1
        );
    }

    #[test]
    fn the_number_of_devices_is_a_difference() {
        let on = |devices: &str| Settings {
            device: devices.parse().unwrap(),
            ..Settings::default()
        };
        assert_eq!(differences(&on("cuda:0,cuda:1"), &on("cuda:3,cuda:2")), []);
        for (devices, line) in [
            ("cuda:0,cuda:1", "shards: 1 -> 2"),
            ("cuda:0,cuda:1,cuda:2", "device: cuda -> cuda,cuda,cuda"),
        ] {
            let found = differences(&on("cuda:0"), &on(devices));
            let lines: Vec<String> = found.iter().map(Difference::to_string).collect();
            assert_eq!(lines, [line]);
        }
        let in_shards = |devices: &str| Settings {
            shards: 4,
            ..on(devices)
        };
        assert_eq!(differences(&in_shards("flex"), &in_shards("flex,flex")), []);
        // As runs on several devices were recorded once.
        let two = Settings {
            shards: 2,
            ..on("flex")
        };
        assert_eq!(differences(&on("flex,flex"), &two), []);
        assert_eq!(differences(&in_shards("flex"), &on("flex")).len(), 1);
    }

    #[test]
    fn every_key_alone_is_a_difference_or_none() {
        for key in Key::ALL {
            let before = Settings::default();
            let names: Vec<&str> = differences(&before, &before.with_another(key))
                .iter()
                .map(|difference| difference.key)
                .collect();
            let expected: &[&str] = match key.change() {
                Change::Free => &[],
                Change::Compared | Change::Fixed => &[key.name()],
            };
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn the_epochs_of_a_cosine_are_a_difference() {
        let before = Settings {
            schedule: RateSchedule::Cosine,
            ..Settings::default()
        };
        let after = before.with_another(Key::Epochs);
        assert_eq!(differences(&before, &after)[0].key, "epochs");
    }
}
