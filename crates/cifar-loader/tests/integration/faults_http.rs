//! Random faults of one to three mirrors, drawn from a seed, on real sockets.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cifar_loader::{DownloadOptions, Error, download};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::faults::{cases, passed};
use crate::fixture::{archive, assert_published, gzip, listing, tar};
use crate::server::{Answer, Server};

const PART: &str = "cifar-10-binary.tar.gz.part";
/// Tries at a mirror; a mirror that is to deliver fails less often.
const ATTEMPTS: u32 = 4;

/// What a mirror ends with, after its passing faults.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    Delivers,
    /// Fails for good, with nothing to say about the content.
    Fails,
    /// Fails, after it has sent all that a later mirror needs.
    MayDeliver,
    /// Sends something that is not the archive: the exit code for that.
    SendsOther(u8),
}

#[derive(Clone, Debug)]
struct Mirror {
    passing: Vec<Answer>,
    last: Answer,
    nature: Nature,
}

struct Draw {
    generator: ChaCha8Rng,
    /// The container's length.
    length: usize,
}

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        (self.generator.next_u64() % bound as u64) as usize
    }

    /// A fault that another try gets over, and that never delivers.
    fn passing(&mut self) -> Answer {
        // Three mirrors with three of these receive less than the whole.
        let bytes = self.below(self.length / 12);
        let retry_after = ["0", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-1"][self.below(4)];
        match self.below(9) {
            0 => status(500 + self.below(5) as u16),
            1 => status(408),
            2 => Answer::Status(429, format!("Retry-After: {retry_after}\r\n"), "slow down"),
            3 => Answer::StallAfter(bytes),
            4 => Answer::NoLength(bytes.max(512)),
            5 => Answer::OtherObject(bytes.max(2)),
            _ => Answer::ResetAfter(bytes),
        }
    }

    fn mirror(&mut self) -> Mirror {
        let mut passing: Vec<Answer> = (0..self.below(ATTEMPTS as usize))
            .map(|_| self.passing())
            .collect();
        let page = b"\n<!DOCTYPE html><title>503</title>".to_vec();
        let (last, nature) = match self.below(18) {
            0..=4 => (Answer::File, Nature::Delivers),
            5 => (Answer::IgnoreRange, Nature::Delivers),
            6 => (Answer::Chunked, Nature::Delivers),
            7 => (Answer::NoLength(usize::MAX), Nature::Delivers),
            8 => (status([403, 404, 410][self.below(3)]), Nature::Fails),
            9 => (status(500), Nature::Fails),
            10 => (circle(), Nature::Fails),
            11 => (Answer::ResetAfter(0), Nature::Fails),
            12 => (Answer::Endless, Nature::Fails),
            13 => (Answer::WrongLength(1000), Nature::MayDeliver),
            14 => (Answer::WrongLength(-2000), Nature::SendsOther(12)),
            15 => (Answer::Body(page), Nature::SendsOther(12)),
            16 => (Answer::Body(Vec::new()), Nature::SendsOther(12)),
            _ => (Answer::Body(wrong_member()), Nature::SendsOther(11)),
        };
        // These may deliver, so they stand only where delivering is expected.
        if nature == Nature::Delivers && passing.len() + 1 < ATTEMPTS as usize {
            match self.below(6) {
                0 => passing.push(Answer::WrongRange),
                1 => passing.push(Answer::WrongTotal),
                2 => passing.push(Answer::NoSuchRange),
                _ => {}
            }
        }
        Mirror {
            passing,
            last,
            nature,
        }
    }
}

fn status(code: u16) -> Answer {
    Answer::Status(code, String::new(), "no")
}

fn circle() -> Answer {
    Answer::Status(302, "Location: /again\r\n".into(), "")
}

/// The archive with one wrong byte in its last member.
fn wrong_member() -> Vec<u8> {
    let mut bytes = tar();
    let last = bytes.len() - 2000;
    bytes[last] ^= 1;
    gzip(&bytes)
}

/// Patience where nobody falls silent.
const PATIENCE: Duration = Duration::from_secs(10);

fn options(servers: &[Server], stall_timeout: Duration) -> DownloadOptions {
    DownloadOptions {
        mirrors: servers.iter().map(Server::url).collect(),
        attempts: ATTEMPTS,
        backoff: Duration::from_millis(2),
        stall_timeout,
        ..Default::default()
    }
}

/// A download of which nobody falls silent.
fn deliver(data_dir: &Path, servers: &[Server]) {
    let options = options(servers, PATIENCE);
    download(&archive(), data_dir, &options, &mut |_| {}).unwrap();
}

/// The exit code where no mirror delivers: that of the content if all of them sent some, else that of the network.
fn expected_code(mirrors: &[Mirror]) -> u8 {
    mirrors.iter().fold(11, |code, mirror| match mirror.nature {
        Nature::SendsOther(found) if code != 10 => found,
        _ => 10,
    })
}

/// One download from random mirrors, with everything that must hold of it.
fn check(seed: u64, container: &[u8]) {
    let mut draw = Draw {
        generator: ChaCha8Rng::seed_from_u64(seed),
        length: container.len(),
    };
    let mirrors: Vec<Mirror> = (0..=draw.below(3)).map(|_| draw.mirror()).collect();
    let servers: Vec<Server> = mirrors
        .iter()
        .map(|mirror| {
            let answers = [&mirror.passing[..], std::slice::from_ref(&mirror.last)].concat();
            Server::start(container.to_vec(), answers)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    // Where nobody falls silent, a machine that stands still for a moment is no fault.
    let stalls = |mirror: &Mirror| {
        let mut answers = mirror.passing.iter().chain([&mirror.last]);
        answers.any(|answer| matches!(answer, Answer::StallAfter(_)))
    };
    let patience = if mirrors.iter().any(stalls) {
        600
    } else {
        PATIENCE.as_millis() as u64
    };
    let options_of_all = options(&servers, Duration::from_millis(patience));
    let outcome = download(&archive(), folder.path(), &options_of_all, &mut |_| {});
    let told = format!("seed {seed}: {outcome:?} from {mirrors:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "{told}");
    for (server, mirror) in servers.iter().zip(&mirrors) {
        // A wrong whole made of two halves is asked for once more, and a redirect is followed five times.
        let redirects = if matches!(mirror.last, Answer::Status(302, ..)) {
            5
        } else {
            0
        };
        let most = ATTEMPTS as usize + 2 + redirects;
        assert!(server.requests().len() <= most, "{told}");
    }
    let delivers = mirrors
        .iter()
        .any(|mirror| mirror.nature == Nature::Delivers);
    let may_deliver = mirrors
        .iter()
        .any(|mirror| mirror.nature == Nature::MayDeliver);
    assert!(outcome.is_ok() == delivers || may_deliver, "{told}");
    let Err(error) = outcome else {
        assert_published(folder.path());
        return;
    };
    assert_eq!(error.exit_code(), expected_code(&mirrors), "{told}");
    // Nothing is there but what was received, and that only where something can be made of it.
    let kept = fs::metadata(folder.path().join(PART)).map_or(0, |metadata| metadata.len());
    let expected: &[&str] = if kept > 0 { &[PART] } else { &[] };
    assert_eq!(listing(folder.path()), expected, "{told}");
    match &error {
        Error::DownloadFailed {
            received, failures, ..
        } => {
            assert_eq!(*received, kept, "{told}");
            assert_eq!(failures.len(), mirrors.len(), "{told}");
        }
        _ => assert_eq!(kept, 0, "{told}"),
    }
    // A later run with a good mirror succeeds, whatever it finds, and continues what is there.
    let good = [Server::start(container.to_vec(), vec![Answer::File])];
    deliver(folder.path(), &good);
    assert_published(folder.path());
    if (1..container.len() as u64).contains(&kept) {
        assert_eq!(good[0].requests()[0], kept.to_string(), "{told}");
    }
}

#[test]
fn faults_of_mirrors_never_publish_a_wrong_file() {
    let count = cases(12, 30, 300);
    let container = gzip(&tar());
    for seed in 0..count as u64 {
        check(seed, &container);
    }
    passed("http faults", count);
}

#[test]
fn a_length_that_is_missing_does_not_make_an_early_end_final() {
    let container = gzip(&tar());
    let answers = vec![Answer::NoLength(5000), Answer::NoLength(usize::MAX)];
    let servers = [Server::start(container, answers)];
    let folder = tempfile::tempdir().unwrap();
    deliver(folder.path(), &servers);
    assert_eq!(servers[0].requests(), ["-", "5000"]);
    assert_published(folder.path());
}

#[test]
fn a_mirror_that_asks_for_patience_gets_it() {
    let busy = Answer::Status(429, "Retry-After: 1\r\n".into(), "");
    let servers = [Server::start(gzip(&tar()), vec![busy, Answer::File])];
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    deliver(folder.path(), &servers);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn an_object_that_changed_is_not_mixed_with_its_predecessor() {
    let servers = [Server::start(
        gzip(&tar()),
        vec![Answer::OtherObject(5000), Answer::File],
    )];
    let folder = tempfile::tempdir().unwrap();
    deliver(folder.path(), &servers);
    // Asked for the rest of "two", this server sends the whole of "one".
    assert_eq!(servers[0].requests(), ["-", "5000"]);
    assert_published(folder.path());
}
