//! Archives with every bit flipped, and cut at any length.

use std::fs;
use std::path::Path;

use cifar_loader::{
    Cifar10, Error, KnownArchive, Member, PublishedSplit, RECORD_BYTES, SAMPLE, import_file,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::faults::{cases, passed};
use crate::fixture::{Tar, gzip, listing};

const SAMPLE_CONTAINER: &[u8] = include_bytes!("../../data/cifar-10-sample.tar.gz");

/// Two training records and a test record, of few different bytes, so that the container has few bits.
fn contents() -> [(&'static str, PublishedSplit, Vec<u8>); 2] {
    let records = |count: usize| {
        let mut bytes: Vec<u8> = (0..count * RECORD_BYTES)
            .map(|offset| (offset / 97 % 11 * (offset % 5)) as u8)
            .collect();
        bytes
            .iter_mut()
            .step_by(RECORD_BYTES)
            .for_each(|label| *label %= 10);
        bytes
    };
    [
        ("a.bin", PublishedSplit::Train, records(2)),
        ("b.bin", PublishedSplit::Test, records(1)),
    ]
}

fn miniature() -> KnownArchive {
    let member = |(name, split, bytes): (&'static str, PublishedSplit, Vec<u8>)| Member {
        name: name.into(),
        split,
        bytes: bytes.len() as u64,
        sha256: None,
    };
    KnownArchive {
        name: "miniature".into(),
        file_name: "miniature.tar.gz".into(),
        folder: "m".into(),
        members: contents().map(member).to_vec().into(),
        container: None,
    }
}

fn miniature_tar() -> Vec<u8> {
    contents()
        .into_iter()
        .fold(Tar::default(), |tar, (name, _, bytes)| {
            tar.file(&format!("m/{name}"), &bytes)
        })
        .finish()
}

/// All bytes of both splits.
fn bytes_of(data: &Cifar10) -> Vec<u8> {
    let mut bytes = Vec::new();
    for view in [data.train(), data.test()] {
        for position in 0..view.len() {
            bytes.push(view.label(position));
            bytes.extend_from_slice(view.image(position));
        }
    }
    bytes
}

/// A folder whose syncs cost nothing, where the system has one.
fn quick_folder() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        tempfile::tempdir_in(shared_memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Imports what the reader has judged, and checks what lies on the disk afterwards.
fn check_files(container: &[u8], is_accepted: bool, folder: &Path) {
    let file = folder.join("container");
    fs::write(&file, container).unwrap();
    let data_dir = folder.join("data");
    let outcome = import_file(&miniature(), &data_dir, &file, &mut |_| {});
    if is_accepted {
        assert_eq!(listing(&data_dir), ["m", "m/a.bin", "m/b.bin"]);
        for (name, _, bytes) in contents() {
            let length = fs::metadata(data_dir.join("m").join(name)).unwrap().len();
            assert_eq!(length, bytes.len() as u64);
        }
    } else {
        // What was refused in memory for its labels is published, for want of a hash, but never loaded.
        if outcome.is_err() {
            assert_eq!(listing(&data_dir), [""; 0]);
        }
        assert!(Cifar10::load_archive(&miniature(), &data_dir).is_err());
    }
    let beside: Vec<_> = listing(folder)
        .into_iter()
        .filter(|name| !name.starts_with("data"))
        .collect();
    assert_eq!(beside, ["container"]);
    fs::remove_dir_all(&data_dir).unwrap();
}

/// Flips each bit, or every `step`th, and returns how many.
fn flip_bits(container: &[u8], step: usize, check: impl Fn(usize, &Cifar10)) -> usize {
    let archive = miniature();
    let folder = quick_folder();
    let mut damaged = container.to_vec();
    let mut count = 0;
    for bit in (0..container.len() * 8).step_by(step) {
        damaged[bit / 8] ^= 1 << (bit % 8);
        let outcome = Cifar10::from_reader(&archive, Path::new("x"), &damaged[..]);
        if let Ok(data) = &outcome {
            assert_eq!((data.train().len(), data.test().len()), (2, 1));
            check(bit, data);
        }
        // Files cost more, so they are made of a share of the refused ones, and of a share of the accepted ones.
        if bit % 101 == 0 {
            check_files(&damaged, outcome.is_ok(), folder.path());
        }
        damaged[bit / 8] ^= 1 << (bit % 8);
        count += 1;
    }
    count
}

#[test]
fn faults_of_every_bit_of_an_archive_are_refused_or_harmless() {
    let step = cases(61, 1, 1);
    let tar = miniature_tar();
    let whole: Vec<u8> = contents()
        .into_iter()
        .flat_map(|(_, _, bytes)| bytes)
        .collect();
    // gzip's own checksum sees every bit of the members, so what passes is exact.
    let compressed = flip_bits(&gzip(&tar), step, |bit, data| {
        assert!(bytes_of(data) == whole, "bit {bit} changed the images");
    });
    // A plain tar file has a checksum for headers only: what passes differs in no more than the bit.
    let plain = flip_bits(&tar, step, |bit, data| {
        let found = bytes_of(data);
        let changed: u32 = found
            .iter()
            .zip(&whole)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert!(changed <= 1, "bit {bit} changed {changed} bits");
    });
    passed("damaged archive", compressed + plain);
}

#[test]
fn faults_of_a_hashed_archive_are_refused_or_harmless() {
    let count = cases(6, 50, 1000);
    let fingerprint = Cifar10::sample().unwrap().fingerprint();
    let mut generator = ChaCha8Rng::seed_from_u64(11);
    let mut damaged = SAMPLE_CONTAINER.to_vec();
    let mut harmless = 0;
    for case in 0..count {
        let place = (generator.next_u64() % SAMPLE_CONTAINER.len() as u64) as usize;
        let outcome = if case % 4 == 3 {
            Cifar10::from_reader(&SAMPLE, Path::new("x"), &damaged[..place])
        } else {
            let bit = 1 << (generator.next_u32() % 8);
            damaged[place] ^= bit;
            let outcome = Cifar10::from_reader(&SAMPLE, Path::new("x"), &damaged[..]);
            damaged[place] ^= bit;
            outcome
        };
        match outcome {
            Ok(data) => {
                assert_eq!(data.fingerprint(), fingerprint);
                harmless += 1;
            }
            Err(error) => assert!(
                matches!(
                    error,
                    Error::TruncatedArchive { .. }
                        | Error::CorruptArchive { .. }
                        | Error::ChecksumMismatch { .. }
                        | Error::MissingMember { .. }
                        | Error::WrongSize { .. }
                        | Error::NotARegularFile { .. }
                        | Error::NotGzip { .. }
                        | Error::ArchiveLimit { .. }
                ),
                "{error}"
            ),
        }
    }
    println!("{harmless} of {count} damages touched no image");
    passed("damaged archive", count);
}
