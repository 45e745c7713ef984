#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod archive;
pub mod batch;
pub mod dataset;
pub mod digest;
pub mod download;
pub mod error;
pub mod pixel_entropy;
pub mod record;
pub mod split;

mod augment;
mod container;
mod free_space;
mod image_format;
mod image_set;
mod names;
mod permutation;
mod split_name;

pub use archive::{KnownArchive, Member, OFFICIAL, PublishedSplit, SAMPLE};
pub use augment::{Augment, Placement};
#[cfg(feature = "burn")]
pub use batch::device_images::{DeviceEpoch, DeviceImages};
pub use batch::{BatchPlan, Epoch, ImageBatch};
pub use dataset::{Cifar10, Source};
pub use digest::Sha256Digest;
pub use download::download_options::{DownloadOptions, mirrors_from_environment};
pub use download::probe::{Probe, probe};
pub use download::progress::Event;
pub use download::{download, import_file};
pub use error::{Error, MirrorFailure};
pub use free_space::free_bytes;
pub use image_set::ImageSet;
pub use pixel_entropy::{image_pixel_entropy, pixel_entropy_floor};
pub use record::{
    CHANNELS, CLASS_NAMES, HEIGHT, IMAGE_BYTES, NUM_CLASSES, RECORD_BYTES, Record, Records, WIDTH,
};
pub use split::{Split, SplitOptions, Splits, Validation, View};
