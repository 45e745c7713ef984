//! Ranks of the trainer's program whose cards add their gradients by a stand-in for NCCL.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::runs::on_stand_in;
use super::{compile, folder};

/// `mpirun` of so many ranks of the trainer's program, each on the stand-in driver, with a stand-in for NCCL between them.
fn ranks(folder: &Path, count: usize, arguments: &str) -> Command {
    compile("nccl.c", &folder.join("libnccl.so.2"));
    let count = count.to_string();
    let mut command = Command::new("mpirun");
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .args(["-n", count.as_str(), "--bind-to", "none", "--oversubscribe"])
        // The stand-in has one card, which all take.
        .args(["sh", "-c"])
        .arg("export OMPI_COMM_WORLD_LOCAL_RANK=0; exec \"$@\"")
        .arg("sh")
        .arg(env!("CARGO_BIN_EXE_program"))
        .args(arguments.split_whitespace());
    on_stand_in(&mut command, folder);
    command
}

/// What each rank sends fits what the others receive, and no rank sends more than twice the vector.
#[test]
fn sums_of_ranks_go_from_card_to_card_by_nccl() {
    let folder = folder("nccl");
    let arguments = "bench-step --device cuda:0 --precision bf16 --depth 28 --width 0.02 --latent-dim 4 --batch-size 8 --shards 4 \
                     --steps 2 --warmup 1";
    let output = ranks(&folder, 4, arguments).output().expect("mpirun");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let groups = report.lines().filter_map(|line| {
        let values = line.strip_prefix("nccl ")?.split(' ');
        let values: Vec<usize> = values.map(|value| value.parse().expect("values")).collect();
        Some((values[0], values[1]))
    });
    let groups: Vec<(usize, usize)> = groups.collect();
    // Two levels down and up, on four ranks, in three steps.
    assert_eq!(groups.len(), 4 * 4 * 3, "{groups:?}");
    let [sent, received] = [0, 1].map(|side| {
        let of_side = |group: &(usize, usize)| if side == 0 { group.0 } else { group.1 };
        groups.iter().map(of_side).sum::<usize>()
    });
    assert_eq!(sent, received);
    // Halves and quarters of one vector, each half as often as it is there: the whole one is exchanged on the first level and on the last.
    let whole = groups.iter().map(|(sent, received)| sent + received).max();
    let whole = whole.expect("a group");
    assert!(whole > 10_000, "{whole} values are not a model's");
    let of_whole = groups
        .iter()
        .filter(|(sent, received)| sent + received == whole);
    assert_eq!(of_whole.count(), groups.len() / 2);
    // A sum over four ranks sends three quarters of the vector on the way down and as much on the way back.
    assert_eq!(sent, 4 * 3 * whole * 3 / 2);
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// The library may tell of what went wrong only where it is asked, and keep the card waiting.
#[test]
fn an_error_of_the_library_between_cards_ends_the_run() {
    let folder = folder("broken");
    let arguments = "train --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --batch-size 8 --limit-train 32 --limit-test 8 \
                     --epochs 1 --data sample --device cuda:0 --precision bf16 --run-dir run --shards 2";
    let mut command = ranks(&folder, 2, arguments);
    let output = command.env("STAND_IN_NCCL_FAILS", "1:3").output();
    let output = output.expect("mpirun");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(32), "{text}");
    assert!(text.contains("the sums of the ranks failed"), "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// The card of rank 0 then waits for ever, and with it every call that waits for the card.
#[test]
fn a_rank_that_stops_while_cards_wait_for_it_ends_the_run() {
    let folder = folder("stopped");
    let arguments = "train --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --batch-size 8 --limit-train 32 --limit-test 8 \
                     --epochs 2 --data sample --device cuda:0 --precision bf16 --run-dir run --shards 2 --rank-timeout 5";
    let mut command = ranks(&folder, 2, arguments);
    let began = std::time::Instant::now();
    // In the third step, on the way back.
    let output = command.env("STAND_IN_NCCL_STOPS", "1:5").output();
    let output = output.expect("mpirun");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(33), "{text}");
    assert!(
        text.contains("rank 1 of 2 has given no sign of life"),
        "{text}"
    );
    let seconds = began.elapsed().as_secs();
    assert!(seconds < 120, "{seconds} s, compilation included");
    let checkpoints = std::fs::read_dir(folder.join("run/checkpoints")).expect("checkpoints");
    assert!(checkpoints.count() > 0);
    // It has what is on the card: the weights, and both moments of as many values.
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let reads = report.lines().filter_map(|line| line.strip_prefix("read "));
    let mut times = BTreeMap::<usize, usize>::new();
    for bytes in reads {
        *times.entry(bytes.parse().expect("bytes")).or_default() += 1;
    }
    // A row of ten pictures is larger here.
    times.remove(&(4 * 10 * 3 * 32 * 32));
    // Both moments at least, and nothing as large is read twice besides.
    let largest = times.iter().rfind(|(_, times)| **times > 1);
    assert_eq!(largest.map(|(_, times)| *times), Some(3), "{times:?}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
