//! The data set in memory, verified while it is read.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::{KnownArchive, Member, OFFICIAL, PublishedSplit, SAMPLE, SAMPLE_CONTAINER};
use crate::container::extract::read_members;
use crate::container::member_file::{open_member, read_member};
use crate::digest::{Hasher, Sha256Digest};
use crate::error::Error;
use crate::record::{Records, check};
use crate::split::{SplitOptions, Splits, View, split};

/// Where a data set was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A folder of member files.
    Folder(PathBuf),
    /// A container that holds the member files.
    Container(PathBuf),
    /// The sample inside this crate.
    Embedded,
    /// Nowhere: the images of another [`ImageSet`](crate::ImageSet) are made, not read.
    Computed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::Container(path) => path.display().fmt(f),
            Self::Embedded => f.write_str("embedded sample"),
            Self::Computed => f.write_str("computed"),
        }
    }
}

/// CIFAR-10 in memory. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Cifar10 {
    name: String,
    source: Source,
    fingerprint: Sha256Digest,
    train: Arc<Records>,
    test: Arc<Records>,
}

impl Cifar10 {
    /// Loads the data set from `data_dir` and verifies every file against its known length and hash.
    ///
    /// Looks for `cifar-10-batches-bin/*.bin`, then for the same files in `data_dir` itself, then for `cifar-10-binary.tar.gz`,
    /// whoever made them, and last for the sample's member files in `cifar-10-sample-bin/`. Writes nothing. [`Self::name`] says what was found.
    ///
    /// # Errors
    /// [`Error::DatasetMissing`], [`Error::MissingMember`], [`Error::PythonVersion`], [`Error::WrongSize`],
    /// [`Error::ChecksumMismatch`], [`Error::Read`], and for a container also those of a damaged archive.
    pub fn load(data_dir: &Path) -> Result<Self, Error> {
        match Self::load_archive(&OFFICIAL, data_dir) {
            Err(Error::DatasetMissing { .. })
                if has_all_members(&SAMPLE, data_dir) || holds_all_members(&SAMPLE, data_dir) =>
            {
                Self::load_archive(&SAMPLE, data_dir)
            }
            outcome => outcome,
        }
    }

    /// Loads one known archive from `data_dir`, from its folder of members or else from its container.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_archive(archive: &KnownArchive, data_dir: &Path) -> Result<Self, Error> {
        let folder = data_dir.join(&*archive.folder);
        let container = data_dir.join(&*archive.file_name);
        if has_all_members(archive, data_dir) {
            return Self::from_folder(archive, folder);
        }
        // The folder of members itself, named in place of the one above it.
        if holds_all_members(archive, data_dir) {
            return Self::from_folder(archive, data_dir.to_owned());
        }
        if container.is_file() {
            let file = File::open(&container).map_err(|source| Error::read(&container, source))?;
            return Self::from_container(
                archive,
                &container,
                file,
                Source::Container(container.clone()),
            );
        }
        for folder in [&folder, data_dir] {
            if let Some(member) = first_missing_of_some(archive, folder) {
                return Err(Error::MissingMember {
                    path: folder.to_owned(),
                    member,
                });
            }
        }
        for python in [
            data_dir.join("cifar-10-batches-py"),
            folder.clone(),
            data_dir.to_owned(),
        ] {
            if python.join("data_batch_1").is_file() {
                return Err(Error::PythonVersion { path: python });
            }
        }
        Err(Error::DatasetMissing {
            path: data_dir.to_owned(),
            folder: archive.folder.to_string(),
            container: archive.file_name.to_string(),
        })
    }

    /// The sample inside this crate: 2,000 training and 500 test images, without any file.
    ///
    /// # Errors
    /// None that can be met, since the bytes are part of the program; they are verified all the same.
    pub fn sample() -> Result<Self, Error> {
        let path = Path::new(&*SAMPLE.file_name);
        Self::from_container(&SAMPLE, path, SAMPLE_CONTAINER, Source::Embedded)
    }

    /// Reads `archive` from the bytes of a container, gzip or plain tar, wherever they come from.
    ///
    /// `path` stands for the container in errors and in [`Self::source`]. Memory is that of the members and less than a
    /// megabyte more, whatever the bytes claim.
    ///
    /// # Errors
    /// Those of a damaged archive, as [`Self::load`], and [`Error::LabelOutOfRange`].
    pub fn from_reader(
        archive: &KnownArchive,
        path: &Path,
        input: impl Read,
    ) -> Result<Self, Error> {
        Self::from_container(archive, path, input, Source::Container(path.to_owned()))
    }

    /// Name of the archive it was read from: `cifar-10` or `cifar-10-sample`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was read from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// SHA-256 over the 32-byte SHA-256 values of the members in the order of their table.
    ///
    /// Depends on the images only, not on the container or the place they were read from.
    pub fn fingerprint(&self) -> Sha256Digest {
        self.fingerprint
    }

    /// The publisher's training images.
    pub fn train(&self) -> View {
        View::all(self.train.clone())
    }

    /// The publisher's test images.
    pub fn test(&self) -> View {
        View::all(self.test.clone())
    }

    fn from_folder(archive: &KnownArchive, folder: PathBuf) -> Result<Self, Error> {
        let mut files = Vec::with_capacity(archive.members.len());
        for member in archive.members.iter() {
            files.push(open_member(member, folder.join(&*member.name))?);
        }
        let mut buffers = Buffers::new(archive);
        let digests = std::thread::scope(|scope| {
            let readers: Vec<_> = (archive
                .members
                .iter()
                .zip(files)
                .zip(buffers.slices(archive)))
            .map(|((member, (file, path)), slice)| {
                scope.spawn(move || read_member(member, file, &path, slice))
            })
            .collect();
            readers
                .into_iter()
                .map(|reader| reader.join().expect("reading a member does not panic"))
                .collect::<Result<Vec<_>, _>>()
        })?;
        Ok(Self::assemble(
            archive,
            Source::Folder(folder),
            &digests,
            buffers,
        ))
    }

    fn from_container(
        archive: &KnownArchive,
        path: &Path,
        input: impl Read,
        source: Source,
    ) -> Result<Self, Error> {
        let mut buffers = Buffers::new(archive);
        let mut slices: Vec<&mut [u8]> = buffers.slices(archive);
        let digests = read_members(archive, path, input, &mut |index, bytes| {
            let slice = std::mem::take(&mut slices[index]);
            let (target, rest) = slice.split_at_mut(bytes.len());
            target.copy_from_slice(bytes);
            slices[index] = rest;
            Ok(())
        })?;
        for (member, slice) in archive.members.iter().zip(buffers.slices(archive)) {
            check(slice, &path.join(&*member.name))?;
        }
        Ok(Self::assemble(archive, source, &digests, buffers))
    }

    fn assemble(
        archive: &KnownArchive,
        source: Source,
        digests: &[Sha256Digest],
        buffers: Buffers,
    ) -> Self {
        let mut hasher = Hasher::default();
        digests
            .iter()
            .for_each(|digest| hasher.update(digest.as_bytes()));
        Self {
            name: archive.name.to_string(),
            source,
            fingerprint: hasher.finish(),
            train: Arc::new(Records::from_checked(buffers.train)),
            test: Arc::new(Records::from_checked(buffers.test)),
        }
    }

    /// Splits the data set. Each view keeps the file order, and limits apply after the split.
    ///
    /// # Errors
    /// [`Error::EmptySplit`] when a split would hold no image.
    pub fn split(&self, options: &SplitOptions) -> Result<Splits, Error> {
        split(&self.train(), self.test(), options)
    }
}

/// The bytes of both splits, to be filled member by member.
struct Buffers {
    train: Vec<u8>,
    test: Vec<u8>,
}

impl Buffers {
    fn new(archive: &KnownArchive) -> Self {
        let zeros = |split| {
            let bytes: u64 = (archive.members.iter())
                .filter(|member| member.split == split)
                .map(|member| member.bytes)
                .sum();
            vec![0; usize::try_from(bytes).expect("a known archive fits in memory")]
        };
        Self {
            train: zeros(PublishedSplit::Train),
            test: zeros(PublishedSplit::Test),
        }
    }

    /// The place of each member, in the order of the table.
    fn slices(&mut self, archive: &KnownArchive) -> Vec<&mut [u8]> {
        let (mut train, mut test) = (self.train.as_mut_slice(), self.test.as_mut_slice());
        let mut slices = Vec::with_capacity(archive.members.len());
        for member in archive.members.iter() {
            let split = match member.split {
                PublishedSplit::Train => &mut train,
                PublishedSplit::Test => &mut test,
            };
            let (slice, rest) = std::mem::take(split).split_at_mut(member.bytes as usize);
            slices.push(slice);
            *split = rest;
        }
        slices
    }
}

/// Whether every member file stands in its folder, whatever it holds.
fn has_all_members(archive: &KnownArchive, data_dir: &Path) -> bool {
    holds_all_members(archive, &data_dir.join(&*archive.folder))
}

fn holds_all_members(archive: &KnownArchive, folder: &Path) -> bool {
    archive
        .members
        .iter()
        .all(|member| folder.join(&*member.name).exists())
}

/// The first member that is not there, provided that another one is.
fn first_missing_of_some(archive: &KnownArchive, folder: &Path) -> Option<String> {
    let exists = |member: &&Member| folder.join(&*member.name).exists();
    archive.members.iter().find(exists)?;
    archive
        .members
        .iter()
        .find(|member| !exists(member))
        .map(|member| member.name.to_string())
}

/// Verifies the member files of `data_dir` without keeping them.
pub(crate) fn verify_folder(archive: &KnownArchive, data_dir: &Path) -> bool {
    has_all_members(archive, data_dir)
        && Cifar10::from_folder(archive, data_dir.join(&*archive.folder)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_sample_is_balanced_and_whole() {
        let sample = Cifar10::sample().unwrap();
        assert_eq!(sample.name(), "cifar-10-sample");
        assert_eq!(sample.source(), &Source::Embedded);
        for (view, count) in [(sample.train(), 200), (sample.test(), 50)] {
            let mut counts = [0; crate::NUM_CLASSES];
            (0..view.len()).for_each(|position| counts[usize::from(view.label(position))] += 1);
            assert_eq!(counts, [count; crate::NUM_CLASSES]);
        }
    }

    #[test]
    fn an_empty_folder_names_what_is_expected_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let text = Cifar10::load(folder.path()).unwrap_err().to_string();
        for expected in [
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            "cargo xtask download",
            "embedded sample",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_python_version_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("cifar-10-batches-py");
        fs::create_dir(&python).unwrap();
        fs::write(python.join("data_batch_1"), b"\x80\x02}").unwrap();
        let error = Cifar10::load(folder.path()).unwrap_err();
        assert!(matches!(error, Error::PythonVersion { .. }), "{error}");
    }
}
