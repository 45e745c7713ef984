//! Archives made to escape from the folder, to fill memory, or to be read differently by different programs.
//!
//! Each is imported by a process of its own, whose peak of memory is read when it is done.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::child::{Task, command, run};
use crate::faults::{cases, passed};
use crate::fixture::{FOLDER, Tar, assert_published, contents, gzip, listing, tar};

/// What the peak of memory may grow by.
const MOST_MEMORY: u64 = 64 << 20;
const MOST_TIME: Duration = Duration::from_secs(30);
const GIGABYTE: u64 = 1 << 30;

/// What must become of an archive.
enum Fate {
    /// The members are in it once and right, whatever stands around them.
    Published,
    /// Refused with this exit code.
    Refused(i32),
}
use Fate::{Published, Refused};

/// A record of a PAX header: its length, a key and a value.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (rest.len()..)
        .find(|length| length.to_string().len() + rest.len() == *length)
        .unwrap();
    format!("{length}{rest}").into_bytes()
}

fn member(index: usize) -> (String, Vec<u8>) {
    let (name, _, bytes) = contents().remove(index);
    (format!("{FOLDER}/{name}"), bytes)
}

/// An entry before the members.
fn with(path: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    gzip(
        &Tar::default()
            .entry(path, kind, body.len() as u64, body)
            .members_from(0)
            .finish(),
    )
}

/// The first member in another form, then the others.
fn first_as(kind: u8, size: u64, body: &[u8]) -> Vec<u8> {
    let (path, _) = member(0);
    gzip(
        &Tar::default()
            .entry(&path, kind, size, body)
            .members_from(1)
            .finish(),
    )
}

/// The archives that fit in memory, by name.
fn small() -> Vec<(&'static str, Fate, Vec<u8>)> {
    let (path, bytes) = member(0);
    let size = bytes.len() as u64;
    let long = vec![b'a'; 100_000];
    let smuggled = Tar::default().file("../smuggled", b"evil").finish();
    let many = (0..5000).fold(Tar::default(), |tar, index| {
        tar.file(&format!("f{index}"), b"")
    });
    let mut all_headers = Tar::default();
    for key in [
        "path",
        "linkpath",
        "size",
        "GNU.sparse.realsize",
        "GNU.sparse.name",
    ] {
        let record = pax(key, "../../escape");
        all_headers = all_headers.entry("h", b'x', record.len() as u64, &record);
    }
    let mut unchecked = tar();
    unchecked[148..156].copy_from_slice(b"000000\0 ");
    let mut negative = tar();
    negative[124..136].copy_from_slice(&[0xff; 12]);
    vec![
        ("parent path", Published, with("../escape", b'0', b"evil")),
        (
            "absolute path",
            Published,
            with("/tmp/escape", b'0', b"evil"),
        ),
        (
            "path back and forth",
            Published,
            with("a/../../escape", b'0', b"evil"),
        ),
        (
            "symbolic link in place of the folder",
            Published,
            with(FOLDER, b'2', b""),
        ),
        ("folder outside", Published, with("../escape/", b'5', b"")),
        ("named pipe", Published, with("pipe", b'6', b"")),
        (
            "PAX path",
            Published,
            with("h", b'x', &pax("path", "../../escape")),
        ),
        (
            "PAX size of zero",
            Published,
            with("h", b'x', &pax("size", "0")),
        ),
        (
            "PAX size of a smuggled archive",
            Published,
            with("h", b'x', &pax("size", "99999999999")),
        ),
        (
            "global PAX header",
            Published,
            with("h", b'g', &pax("size", "5")),
        ),
        (
            "PAX records without end",
            Published,
            with("h", b'x', b"999999999999999999999 size=5"),
        ),
        (
            "every extended header",
            Published,
            gzip(&all_headers.members_from(0).finish()),
        ),
        (
            "archive inside a file",
            Published,
            with("inner.tar", b'0', &smuggled),
        ),
        (
            "GNU long name",
            Published,
            with("././@LongLink", b'L', &long),
        ),
        (
            "GNU long link",
            Published,
            with("././@LongLink", b'K', &long),
        ),
        (
            "symbolic link as member",
            Refused(12),
            first_as(b'2', 0, b""),
        ),
        ("hard link as member", Refused(12), first_as(b'1', 0, b"")),
        (
            "hard link with a body",
            Refused(12),
            first_as(b'1', size, &bytes),
        ),
        ("sparse member", Refused(12), first_as(b'S', size, &bytes)),
        (
            "device as member",
            Refused(12),
            first_as(b'3', size, &bytes),
        ),
        ("member of size 0", Refused(12), first_as(b'0', 0, b"")),
        (
            "member of size 2^63",
            Refused(12),
            first_as(b'0', 1 << 63, &bytes),
        ),
        (
            "member that is twice there",
            Refused(12),
            with(&path, b'0', &bytes),
        ),
        (
            "five thousand entries",
            Refused(12),
            gzip(&many.members_from(0).finish()),
        ),
        ("wrong header checksum", Refused(12), gzip(&unchecked)),
        ("header of a negative size", Refused(12), gzip(&negative)),
        ("only the end", Refused(12), gzip(&[0; 1024])),
        (
            "two archives one after the other",
            Published,
            [gzip(&tar()), gzip(&smuggled)].concat(),
        ),
        (
            "junk behind the archive",
            Published,
            [gzip(&tar()), long].concat(),
        ),
        ("cut into hundreds of gzip members", Published, {
            tar().chunks(512).flat_map(gzip).collect()
        }),
    ]
}

/// Writes an entry that claims and holds 10 gigabytes of zeros: about ten megabytes, since gzip members may follow each
/// other and the same one does a hundred and sixty times.
fn write_bomb(file: &Path, header: Vec<u8>) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    std::io::copy(&mut std::io::repeat(0).take(64 << 20), &mut encoder).unwrap();
    let zeros = encoder.finish().unwrap();
    let mut out = BufWriter::new(File::create(file).unwrap());
    out.write_all(&gzip(&header)).unwrap();
    (0..160).for_each(|_| out.write_all(&zeros).unwrap());
    out.flush().unwrap();
}

/// Imports a container in a process of its own, below a folder that nothing may appear in.
fn check(name: &str, fate: &Fate, task: impl Fn(&Path) -> Task, write: impl Fn(&Path)) {
    let outside = tempfile::tempdir().unwrap();
    let container = outside.path().join("container");
    write(&container);
    let data_dir = outside.path().join("a").join("data");
    fs::create_dir_all(&data_dir).unwrap();
    let start = Instant::now();
    let ended = run(command(&task(&container), &data_dir));
    assert!(start.elapsed() < MOST_TIME, "{name}: {:?}", start.elapsed());
    assert!(
        !ended.messages.contains("panicked"),
        "{name}: {}",
        ended.messages
    );
    match fate {
        Published => {
            assert_eq!(ended.code, Some(0), "{name}: {}", ended.messages);
            assert_published(&data_dir);
        }
        Refused(code) => {
            assert_eq!(ended.code, Some(*code), "{name}: {}", ended.messages);
            assert_eq!(listing(&data_dir), [""; 0], "{name}");
        }
    }
    fs::remove_dir_all(&data_dir).unwrap();
    assert_eq!(listing(outside.path()), ["a", "container"], "{name}");
    assert!(!Path::new("/tmp/escape").exists(), "{name}");
    match ended.memory {
        Some(memory) => assert!(memory <= MOST_MEMORY, "{name}: {memory} bytes"),
        None if cfg!(target_os = "linux") => panic!("{name}: {}", ended.messages),
        None => {}
    }
}

#[test]
fn faults_of_hostile_archives_cost_little_and_reach_nothing() {
    let mut count = 0;
    for (name, fate, bytes) in small() {
        let write = |file: &Path| fs::write(file, &bytes).unwrap();
        check(name, &fate, |file| Task::Import(file.into()), write);
        count += 1;
    }
    // The limit of the whole data set, 185 megabytes, is the one that a bomb could hurt with.
    let kinds: &[(&str, u8, u64)] = &[
        ("bomb as a file", b'0', 10 * GIGABYTE),
        ("bomb as a long name", b'L', GIGABYTE),
        ("bomb as a PAX header", b'x', 10 * GIGABYTE),
        ("bomb as a sparse file", b'S', 10 * GIGABYTE),
    ];
    for (name, kind, size) in &kinds[..cases(1, kinds.len(), kinds.len())] {
        let mut header = Tar::default().entry("bomb", *kind, *size, &[]).finish();
        header.truncate(512);
        let task = |file: &Path| Task::ImportOfficial(file.into());
        check(name, &Refused(12), task, |file| {
            write_bomb(file, header.clone())
        });
        count += 1;
    }
    passed("hostile archive", count);
}
