//! Downloads and imports onto disks that are or become full.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cifar_loader::{DownloadOptions, Error, Event, download};

use crate::child::{Task, command_after, run};
use crate::faults::{cases, passed, skipped};
use crate::fixture::{archive, assert_published, gzip, listing, tar};
use crate::server::{Answer, Server};

const PART: &str = "cifar-10-binary.tar.gz.part";

/// Limits spread over the sizes at which the container or a member is being written.
fn limits(count: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| (index * most) / count)
}

#[cfg(unix)]
#[test]
fn faults_of_a_file_size_limit_end_with_the_code_for_disks() {
    let count = cases(2, 4, 20);
    let container = gzip(&tar());
    for limit in limits(count, container.len() / 512) {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(container.clone(), vec![Answer::File]);
        let task = Task::Download {
            url: server.url(),
            pause: Duration::ZERO,
        };
        // The signal would end the process before it could say anything; ignored, the write fails with EFBIG.
        let setup = format!("trap '' XFSZ; ulimit -f {limit}");
        let ended = run(command_after(&setup, &task, folder.path()));
        assert_eq!(ended.code, Some(21), "{limit}: {}", ended.messages);
        assert!(
            ended.messages.contains("cannot be written"),
            "{}",
            ended.messages
        );
        let left = listing(folder.path());
        assert!(left.iter().all(|name| name == PART), "{limit}: {left:?}");
        // Without the limit the next one continues.
        let ended = run(crate::child::command(&task, folder.path()));
        assert_eq!(ended.code, Some(0), "{limit}: {}", ended.messages);
        assert_published(folder.path());
    }
    passed("disk full", count);
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// One of `kilobytes`, where this user may mount.
    fn mount(kilobytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status
            .is_ok_and(|status| status.success())
            .then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn options(server: &Server) -> DownloadOptions {
    DownloadOptions {
        mirrors: vec![server.url()],
        ..Default::default()
    }
}

#[test]
fn faults_of_a_small_disk_are_told_before_anything_is_written() {
    let count = cases(1, 2, 10);
    // The container and its members; a tmpfs counts in pages of 4 kilobytes.
    let container = gzip(&tar());
    let needed = container.len() as u64 + archive().member_bytes();
    for limit in limits(count, needed as usize / 1024) {
        let Some(disk) = SmallDisk::mount(limit.max(8)) else {
            skipped(
                "disk full",
                "no file system of a limited size can be mounted here",
            );
            return;
        };
        let server = Server::start(container.clone(), vec![Answer::File]);
        let error = download(&archive(), disk.path(), &options(&server), &mut |_| {}).unwrap_err();
        let Error::DiskFull {
            needed: told, free, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(told, needed);
        assert!(free <= limit.max(8) as u64 * 1024, "{free} free of {limit}");
        assert_eq!(error.exit_code(), 21);
        assert!(server.requests().is_empty());
        assert_eq!(listing(disk.path()), [""; 0]);
    }
    passed("disk full", count);
}

#[test]
fn faults_of_a_disk_that_fills_up_meanwhile_keep_what_was_received() {
    let count = cases(1, 2, 10);
    let container = gzip(&tar());
    let needed = container.len() as u64 + archive().member_bytes();
    for case in 0..count {
        let Some(disk) = SmallDisk::mount(needed as usize / 1024 + 64) else {
            skipped(
                "disk full",
                "no file system of a limited size can be mounted here",
            );
            return;
        };
        // Somebody else fills it while the container arrives, or while the members are written.
        let filler = disk.path().join("filler");
        let is_late = case % 2 == 1;
        let trickle = Answer::Trickle(20_000, Duration::from_millis(120));
        let answer = if is_late { Answer::File } else { trickle };
        let server = Server::start(container.clone(), vec![answer]);
        let mut fill = |event: &Event<'_>| {
            let is_time = match event {
                Event::Transfer { bytes, .. } => !is_late && *bytes > 10_000 * case as u64,
                Event::Verifying { bytes, .. } => is_late && *bytes > 3000 * case as u64,
                _ => false,
            };
            if is_time && !filler.exists() {
                // Ends with an error, when nothing more fits.
                let _ = fs::write(&filler, vec![1; needed as usize * 2]);
            }
        };
        let error = download(&archive(), disk.path(), &options(&server), &mut fill).unwrap_err();
        assert_eq!(error.exit_code(), 21, "{error}");
        assert!(filler.exists());
        fs::remove_file(&filler).unwrap();
        let left = listing(disk.path());
        assert_eq!(left, [PART], "case {case}: {error}");
        let good = Server::start(container.clone(), vec![Answer::File]);
        download(&archive(), disk.path(), &options(&good), &mut |_| {}).unwrap();
        assert_published(disk.path());
    }
    passed("disk full", count);
}
