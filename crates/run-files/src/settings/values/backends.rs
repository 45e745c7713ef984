//! The backends that tensors can live on, one row each: spelling, feature of the build, and whether it is a GPU follow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::UnknownChoice;

/// Where the tensors live; whether the build has that backend is decided later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// Burn's portable CPU backend.
    Flex,
    /// CPU through ndarray.
    Ndarray,
    /// An NVIDIA GPU by index.
    Cuda(usize),
    /// A GPU of any maker by index, through Vulkan, or Metal on a Mac.
    Vulkan(usize),
}

/// What is known of a backend.
struct Backend {
    /// Before the index, where there is one.
    name: &'static str,
    /// Other names that people may give it.
    aliases: &'static [&'static str],
    /// Of the trainer's build.
    feature: &'static str,
    /// Whether devices that share a batch may be one of them twice.
    may_repeat: bool,
    place: Place,
}

/// What a backend computes on.
enum Place {
    Processors(DeviceChoice),
    /// One of several GPUs, by its index.
    Gpu(fn(usize) -> DeviceChoice),
}

const BACKENDS: [Backend; 4] = [
    Backend {
        name: "flex",
        aliases: &[],
        feature: "flex",
        may_repeat: true,
        place: Place::Processors(DeviceChoice::Flex),
    },
    Backend {
        name: "ndarray",
        aliases: &[],
        feature: "ndarray",
        may_repeat: true,
        place: Place::Processors(DeviceChoice::Ndarray),
    },
    Backend {
        name: "cuda",
        aliases: &[],
        feature: "cuda",
        // A card cannot be two.
        may_repeat: false,
        place: Place::Gpu(DeviceChoice::Cuda),
    },
    Backend {
        name: "vulkan",
        aliases: &["metal", "wgpu"],
        feature: "vulkan",
        // Vulkan's first device may be the same as another one anyway, and may be a processor.
        may_repeat: true,
        place: Place::Gpu(DeviceChoice::Vulkan),
    },
];

/// The forms of all rows, for texts that are put together when the program is built.
macro_rules! forms {
    () => {
        "flex (the CPU), ndarray, cuda:N (an NVIDIA GPU, N its index from 0; `cuda` is `cuda:0`), vulkan:N (a GPU of any maker; also metal:N and wgpu:N)"
    };
}

pub(super) use forms;

impl DeviceChoice {
    /// The forms a device is written in.
    pub const FORMS: &'static str = forms!();

    /// Its backend, and its index among the backend's GPUs.
    fn row(self) -> (&'static Backend, Option<usize>) {
        let (position, index) = match self {
            Self::Flex => (0, None),
            Self::Ndarray => (1, None),
            Self::Cuda(index) => (2, Some(index)),
            Self::Vulkan(index) => (3, Some(index)),
        };
        (&BACKENDS[position], index)
    }

    /// The feature that the trainer must be built with.
    pub fn feature(self) -> &'static str {
        self.row().0.feature
    }

    /// Whether it may stand twice in a list of devices.
    pub(super) fn may_repeat(self) -> bool {
        self.row().0.may_repeat
    }

    /// Its index among the GPUs of its backend; none where it is no GPU.
    pub fn gpu_index(self) -> Option<usize> {
        self.row().1
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            (backend, None) => formatter.write_str(backend.name),
            (backend, Some(index)) => write!(formatter, "{}:{index}", backend.name),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let device = BACKENDS.iter().find_map(|backend| {
            let mut names = std::iter::once(&backend.name).chain(backend.aliases);
            let rest = names.find_map(|name| text.strip_prefix(name))?;
            match (&backend.place, rest.strip_prefix(':')) {
                (Place::Processors(device), None) if rest.is_empty() => Some(*device),
                (Place::Gpu(device), None) if rest.is_empty() => Some(device(0)),
                // `parse` alone would take `+1`.
                (Place::Gpu(device), Some(index))
                    if index.bytes().all(|byte| byte.is_ascii_digit()) =>
                {
                    index.parse().ok().map(device)
                }
                _ => None,
            }
        });
        device.ok_or_else(|| UnknownChoice {
            given: text.to_owned(),
            allowed: Self::FORMS.to_owned(),
        })
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = UnknownChoice;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_has_its_row() {
        for backend in BACKENDS {
            let device: DeviceChoice = backend.name.parse().unwrap();
            let forms = DeviceChoice::FORMS.split(", ");
            let is_told = forms.into_iter().any(|form| form.starts_with(backend.name));
            assert!(is_told, "{} is not among the forms", backend.name);
            assert_eq!(device.row().0.name, backend.name);
            assert_eq!(
                device.gpu_index().is_some(),
                matches!(backend.place, Place::Gpu(_))
            );
        }
        assert_eq!(DeviceChoice::Cuda(3).feature(), "cuda");
        assert_eq!(DeviceChoice::Vulkan(0).feature(), "vulkan");
        assert_eq!(DeviceChoice::Flex.gpu_index(), None);
    }

    #[test]
    fn devices_parse_and_print() {
        for (text, device) in [
            ("flex", DeviceChoice::Flex),
            ("ndarray", DeviceChoice::Ndarray),
            ("cuda:12", DeviceChoice::Cuda(12)),
            ("vulkan:1", DeviceChoice::Vulkan(1)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
            assert_eq!(
                serde_json::from_value::<DeviceChoice>(text.into()).unwrap(),
                device
            );
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        // By Vulkan or Metal, whichever the system has.
        for text in ["metal:2", "wgpu:2"] {
            assert_eq!(text.parse(), Ok(DeviceChoice::Vulkan(2)));
        }
        for text in [
            "",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:x",
            "cuda:99999999999999999999999",
            "gpu",
            "FLEX",
        ] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }
}
