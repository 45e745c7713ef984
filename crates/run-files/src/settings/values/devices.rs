//! One device, or several that share a run's batches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::backends::forms;
use super::{DeviceChoice, UnknownChoice};

/// One device, or several of one kind that share each batch of a run: `cuda:0,cuda:1`.
///
/// A processor may stand in it several times, and so may a Vulkan device: `flex,flex` divides batches as two devices would.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Devices {
    main: DeviceChoice,
    others: Vec<DeviceChoice>,
}

impl Devices {
    /// The forms that devices are written in.
    pub const FORMS: &'static str = concat!(
        forms!(),
        ", or several of one kind with commas between them (cuda:0,cuda:1)"
    );

    /// The device that weights, moments and the norms' statistics live on.
    pub fn main(&self) -> DeviceChoice {
        self.main
    }

    /// The devices that take shards of each batch besides.
    pub fn others(&self) -> &[DeviceChoice] {
        &self.others
    }

    /// How many devices there are.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Whether they are GPUs.
    pub fn are_gpus(&self) -> bool {
        self.main.gpu_index().is_some()
    }

    /// Those of the rank with this number among the ranks of one machine: each takes as many GPUs as are listed, the first rank the
    /// listed ones.
    pub fn of_local_rank(&self, rank: usize) -> Self {
        let shift = rank * self.count();
        let shifted = |device: DeviceChoice| match device.gpu_index() {
            Some(index) => {
                let name = device.to_string();
                let kind = name.split(':').next().unwrap_or_default();
                let shifted = format!("{kind}:{}", index + shift);
                shifted.parse().unwrap_or(device)
            }
            None => device,
        };
        Self {
            main: shifted(self.main),
            others: self.others.iter().copied().map(shifted).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = DeviceChoice> {
        std::iter::once(self.main).chain(self.others.iter().copied())
    }
}

impl From<DeviceChoice> for Devices {
    fn from(main: DeviceChoice) -> Self {
        Self {
            main,
            others: Vec::new(),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.all().map(|device| device.to_string()).collect();
        formatter.write_str(&names.join(","))
    }
}

impl FromStr for Devices {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownChoice {
            given: text.to_owned(),
            allowed: Self::FORMS.to_owned(),
        };
        let mut all = Vec::new();
        for name in text.split(',') {
            let device: DeviceChoice = name.parse().map_err(|_| unknown())?;
            let is_same_kind = all
                .iter()
                .all(|other| std::mem::discriminant(other) == std::mem::discriminant(&device));
            let is_taken = !device.may_repeat() && all.contains(&device);
            if !is_same_kind || is_taken {
                return Err(unknown());
            }
            all.push(device);
        }
        let mut all = all.into_iter();
        let main = all.next().ok_or_else(unknown)?;
        Ok(Self {
            main,
            others: all.collect(),
        })
    }
}

impl TryFrom<String> for Devices {
    type Error = UnknownChoice;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Devices> for String {
    fn from(devices: Devices) -> Self {
        devices.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_of_a_machine_has_gpus_of_its_own() {
        for (given, rank, expected) in [
            ("cuda:1", 0, "cuda:1"),
            ("cuda", 3, "cuda:3"),
            ("cuda:0,cuda:1", 2, "cuda:4,cuda:5"),
            ("flex,flex", 5, "flex,flex"),
        ] {
            let devices: Devices = given.parse().expect(given);
            assert_eq!(devices.of_local_rank(rank).to_string(), expected);
        }
    }

    #[test]
    fn devices_of_one_kind_parse_and_print() {
        for (text, count, printed) in [
            ("flex", 1, "flex"),
            ("flex,flex", 2, "flex,flex"),
            ("vulkan:0,vulkan:0", 2, "vulkan:0,vulkan:0"),
            ("cuda,cuda:3", 2, "cuda:0,cuda:3"),
            ("cuda:2,cuda:0,cuda:1", 3, "cuda:2,cuda:0,cuda:1"),
        ] {
            let devices: Devices = text.parse().expect(text);
            assert_eq!(
                (devices.count(), devices.to_string().as_str()),
                (count, printed)
            );
        }
        let devices: Devices = "cuda:2,cuda:0".parse().expect("two");
        assert_eq!(devices.main(), DeviceChoice::Cuda(2));
        assert_eq!(devices.others(), [DeviceChoice::Cuda(0)]);
        for text in [
            "",
            ",",
            "flex,",
            "flex,cuda:0",
            "cuda:1,cuda:1",
            "cuda,cuda:0",
            "gpu",
        ] {
            assert!(text.parse::<Devices>().is_err(), "{text}");
        }
    }
}
