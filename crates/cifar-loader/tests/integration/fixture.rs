//! A known archive that is small enough to damage in every way.

use std::borrow::Cow;
use std::fs;
use std::io::Write;
use std::path::Path;

use cifar_loader::archive::Container;
use cifar_loader::{KnownArchive, Member, PublishedSplit, RECORD_BYTES, Sha256Digest};
use flate2::Compression;
use flate2::write::GzEncoder;

pub(crate) const FOLDER: &str = "cifar-10-batches-bin";

/// The content of member `index`: `count` records that do not compress well.
pub(crate) fn records(index: u32, count: usize) -> Vec<u8> {
    let mut state = index.wrapping_mul(2_654_435_761) | 1;
    let mut bytes = vec![0; count * RECORD_BYTES];
    for (offset, byte) in bytes.iter_mut().enumerate() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
        if offset % RECORD_BYTES == 0 {
            *byte %= 10;
        }
    }
    bytes
}

/// Names, splits and contents of the members.
pub(crate) fn contents() -> Vec<(&'static str, PublishedSplit, Vec<u8>)> {
    vec![
        ("data_batch_1.bin", PublishedSplit::Train, records(1, 20)),
        ("data_batch_2.bin", PublishedSplit::Train, records(2, 20)),
        ("test_batch.bin", PublishedSplit::Test, records(3, 10)),
    ]
}

/// The archive, with the hashes of its members.
pub(crate) fn archive() -> KnownArchive {
    let members: Vec<_> = contents()
        .into_iter()
        .map(|(name, split, bytes)| Member {
            name: name.into(),
            split,
            bytes: bytes.len() as u64,
            sha256: Some(Sha256Digest::of(&bytes)),
        })
        .collect();
    let container = gzip(&tar());
    KnownArchive {
        name: "miniature".into(),
        file_name: "cifar-10-binary.tar.gz".into(),
        folder: FOLDER.into(),
        members: Cow::Owned(members),
        container: Some(Container {
            bytes: container.len() as u64,
            sha256: Sha256Digest::of(&container),
        }),
    }
}

/// The archive with lengths only.
pub(crate) fn archive_without_hashes() -> KnownArchive {
    let mut archive = archive();
    archive
        .members
        .to_mut()
        .iter_mut()
        .for_each(|member| member.sha256 = None);
    archive
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    gzip_at(bytes, Compression::fast())
}

pub(crate) fn gzip_at(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar file entry by entry; finished by [`Tar::finish`].
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    /// Any header fields and any claimed size, followed by `body` and its padding.
    pub(crate) fn entry(mut self, path: &str, kind: u8, size: u64, body: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, body: &[u8]) -> Self {
        self.entry(path, b'0', body.len() as u64, body)
    }

    /// The members from `first` on.
    pub(crate) fn members_from(self, first: usize) -> Self {
        contents()
            .into_iter()
            .skip(first)
            .fold(self, |tar, (name, _, bytes)| {
                tar.file(&format!("{FOLDER}/{name}"), &bytes)
            })
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// The tar file as the publisher would make it.
pub(crate) fn tar() -> Vec<u8> {
    Tar::default()
        .entry(&format!("{FOLDER}/"), b'5', 0, &[])
        .file(&format!("{FOLDER}/batches.meta.txt"), b"airplane\n")
        .members_from(0)
        .finish()
}

/// Writes the member files as if unpacked by hand.
pub(crate) fn unpack(data_dir: &Path) {
    let folder = data_dir.join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    for (name, _, bytes) in contents() {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Every file and folder below `folder`, sorted.
pub(crate) fn listing(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), names);
            }
            names.push(name);
        }
    }
    let mut names = Vec::new();
    walk(folder, "", &mut names);
    names.sort();
    names
}

/// Asserts that `data_dir` holds the right members and nothing else.
#[track_caller]
pub(crate) fn assert_published(data_dir: &Path) {
    let mut expected = vec![FOLDER.to_owned()];
    for (name, _, bytes) in contents() {
        assert!(
            fs::read(data_dir.join(FOLDER).join(name)).unwrap() == bytes,
            "{name}"
        );
        expected.push(format!("{FOLDER}/{name}"));
    }
    expected.sort();
    assert_eq!(listing(data_dir), expected);
}
