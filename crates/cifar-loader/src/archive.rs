//! The archives this crate knows, as data: names, exact sizes and hashes of what they hold.

use std::borrow::Cow;

use crate::digest::Sha256Digest;

/// Which of the publisher's two splits a member belongs to. What training validates on is cut from the first of them, as a [`Split`](crate::Split).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PublishedSplit {
    /// The publisher's training images.
    Train,
    /// The publisher's test images.
    Test,
}

/// One file of records inside an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// File name without folder.
    pub name: Cow<'static, str>,
    /// The split its images belong to.
    pub split: PublishedSplit,
    /// Exact length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content. `None` checks only the length and the container's own CRC-32.
    pub sha256: Option<Sha256Digest>,
}

/// What is known about the container itself. A container that differs is accepted when its members are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file.
    pub sha256: Sha256Digest,
}

/// An archive of CIFAR-10 records with everything that is needed to recognise it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownArchive {
    /// Name of the data set, for people.
    pub name: Cow<'static, str>,
    /// File name of the container.
    pub file_name: Cow<'static, str>,
    /// The folder inside the container, and on disk, that holds the members.
    pub folder: Cow<'static, str>,
    /// The members, training files first, in the order of their images.
    pub members: Cow<'static, [Member]>,
    /// The publisher's own container, where there is one.
    pub container: Option<Container>,
}

/// Headers and padding allowed on top of the members, in bytes.
pub(crate) const SLACK_BYTES: u64 = 1 << 20;
/// Headers allowed in a container, known or not.
pub(crate) const MAX_ENTRIES: u64 = 64;

impl KnownArchive {
    /// Sum of the members' lengths in bytes.
    pub fn member_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.bytes).sum()
    }

    /// The most bytes that a container may inflate to, and also the most that are ever downloaded.
    pub fn max_bytes(&self) -> u64 {
        self.member_bytes().saturating_add(SLACK_BYTES)
    }

    /// The index of the member that stands under `path` inside the container.
    pub(crate) fn member_at(&self, path: &[u8]) -> Option<usize> {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let name = path
            .strip_prefix(self.folder.as_bytes())?
            .strip_prefix(b"/")?;
        self.members
            .iter()
            .position(|member| member.name.as_bytes() == name)
    }
}

const fn member(name: &'static str, split: PublishedSplit, bytes: u64, sha256: &str) -> Member {
    Member {
        name: Cow::Borrowed(name),
        split,
        bytes,
        sha256: Some(Sha256Digest::from_hex(sha256)),
    }
}

/// The publisher's binary version: 50,000 training and 10,000 test images.
pub static OFFICIAL: KnownArchive = KnownArchive {
    name: Cow::Borrowed("cifar-10"),
    file_name: Cow::Borrowed("cifar-10-binary.tar.gz"),
    folder: Cow::Borrowed("cifar-10-batches-bin"),
    members: Cow::Borrowed(OFFICIAL_MEMBERS),
    container: Some(Container {
        bytes: 170_052_171,
        sha256: Sha256Digest::from_hex(
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    }),
};

#[rustfmt::skip]
const OFFICIAL_MEMBERS: &[Member] = &[
    member("data_batch_1.bin", PublishedSplit::Train, 30_730_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    member("data_batch_2.bin", PublishedSplit::Train, 30_730_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    member("data_batch_3.bin", PublishedSplit::Train, 30_730_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    member("data_batch_4.bin", PublishedSplit::Train, 30_730_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    member("data_batch_5.bin", PublishedSplit::Train, 30_730_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    member("test_batch.bin", PublishedSplit::Test, 30_730_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
];

/// The sample inside this crate: 2,000 training and 500 test images of CIFAR-10, balanced over the classes.
pub static SAMPLE: KnownArchive = KnownArchive {
    name: Cow::Borrowed("cifar-10-sample"),
    file_name: Cow::Borrowed("cifar-10-sample.tar.gz"),
    folder: Cow::Borrowed("cifar-10-sample-bin"),
    members: Cow::Borrowed(SAMPLE_MEMBERS),
    container: None,
};

#[rustfmt::skip]
const SAMPLE_MEMBERS: &[Member] = &[
    member("train.bin", PublishedSplit::Train, 6_146_000, "adcaf9593e1a57c11d8f26ac677b28e9967e2fecd3d00d370f48c2a79cb29874"),
    member("test.bin", PublishedSplit::Test, 1_536_500, "74e96245b57ab7d0b858315089b686866148938f646d22c8b9826c414bc25bf5"),
];

/// The container of [`SAMPLE`].
pub(crate) static SAMPLE_CONTAINER: &[u8] = include_bytes!("../data/cifar-10-sample.tar.gz");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_members_add_up_to_sixty_thousand_records() {
        assert_eq!(
            OFFICIAL.member_bytes(),
            60_000 * crate::image_format::RECORD_BYTES as u64
        );
        assert_eq!(
            SAMPLE.member_bytes(),
            2_500 * crate::image_format::RECORD_BYTES as u64
        );
    }

    #[test]
    fn members_are_found_by_exact_path_only() {
        assert_eq!(
            OFFICIAL.member_at(b"cifar-10-batches-bin/test_batch.bin"),
            Some(5)
        );
        assert_eq!(
            OFFICIAL.member_at(b"./cifar-10-batches-bin/data_batch_1.bin"),
            Some(0)
        );
        for path in [
            &b"cifar-10-batches-bin/../cifar-10-batches-bin/test_batch.bin"[..],
            b"/cifar-10-batches-bin/test_batch.bin",
            b"cifar-10-batches-bin/test_batch.bin/",
            b"cifar-10-batches-bin//test_batch.bin",
            b"cifar-10-batches-bin",
            b"test_batch.bin",
            b"",
        ] {
            assert_eq!(OFFICIAL.member_at(path), None);
        }
    }
}
