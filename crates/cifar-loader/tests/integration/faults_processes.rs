//! Downloads in processes of their own: killed at random times, and many at once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::child::{Task, ended, start};
use crate::faults::{cases, passed};
use crate::fixture::{FOLDER, assert_published, contents, gzip, tar};
use crate::server::{Answer, Server};

/// Whatever a kill leaves, a file under its own name is whole.
fn assert_no_wrong_member(data_dir: &Path) {
    for (name, _, bytes) in contents() {
        if let Ok(found) = fs::read(data_dir.join(FOLDER).join(name)) {
            assert!(found == bytes, "{name} is wrong after a kill");
        }
    }
}

/// Where a kill landed, told from what it left.
fn phase(data_dir: &Path) -> &'static str {
    let folder = data_dir.join(FOLDER);
    let has = |end: &str| {
        fs::read_dir(&folder).is_ok_and(|entries| {
            let mut names = entries.flatten().map(|entry| entry.file_name());
            names.any(|name| name.to_string_lossy().ends_with(end))
        })
    };
    let part = data_dir.join("cifar-10-binary.tar.gz.part");
    match () {
        () if has(".bin") => "after publishing",
        () if has(".tmp") => "while writing members",
        () if part.exists() => "while receiving",
        () => "before the first byte",
    }
}

#[cfg(unix)]
#[test]
fn faults_of_killed_downloads_leave_nothing_that_the_next_one_cannot_use() {
    let count = cases(4, 10, 100);
    let container = gzip(&tar());
    let mut generator = ChaCha8Rng::seed_from_u64(7);
    let mut phases = std::collections::BTreeMap::new();
    let mut kills = 0;
    while kills < count {
        let folder = tempfile::tempdir().unwrap();
        // About 130 milliseconds of transfer, and as many of writing.
        let trickle = Answer::Trickle(6000, Duration::from_millis(5));
        let server = Server::start(container.clone(), vec![trickle]);
        let task = Task::Download {
            url: server.url(),
            pause: Duration::from_millis(20),
        };
        for _ in 0..=generator.next_u32() % 3 {
            let mut child = start(&task, folder.path());
            std::thread::sleep(Duration::from_millis(u64::from(generator.next_u32() % 400)));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert_no_wrong_member(folder.path());
            // One that was done before is no kill.
            if status.code().is_none() {
                kills += 1;
                *phases.entry(phase(folder.path())).or_insert(0) += 1;
            }
        }
        let outcome = ended(&start(&task, folder.path()).wait_with_output().unwrap());
        assert_eq!(outcome.code, Some(0), "{}", outcome.messages);
        assert_published(folder.path());
    }
    println!("kills landed {phases:?}");
    passed("killed downloads", kills);
}

#[test]
fn faults_of_many_downloads_at_once_cost_one_download() {
    const PROCESSES: usize = 16;
    let rounds = cases(1, 5, 50);
    let container = gzip(&tar());
    for _ in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let trickle = Answer::Trickle(20_000, Duration::from_millis(10));
        let server = Server::start(container.clone(), vec![trickle]);
        let task = Task::Download {
            url: server.url(),
            pause: Duration::ZERO,
        };
        let children: Vec<_> = (0..PROCESSES)
            .map(|_| start(&task, folder.path()))
            .collect();
        for child in children {
            let outcome = ended(&child.wait_with_output().unwrap());
            assert_eq!(outcome.code, Some(0), "{}", outcome.messages);
        }
        assert!(server.trickled() <= 2 * container.len());
        assert_published(folder.path());
    }
    passed("parallel downloads", rounds);
}
