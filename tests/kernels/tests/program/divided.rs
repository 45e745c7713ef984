//! Runs whose batches are divided, over shards, devices and ranks.

#[cfg(feature = "mpi")]
use std::process::Command;

use super::{Folder, contents, must_run, train};

#[test]
fn a_run_in_shards_is_that_of_as_many_micro_batches() {
    let folder = Folder::new("micro-batches");
    let run = |run_dir: &str, flags: [&str; 2]| {
        let mut arguments = train(run_dir, "vulkan:0");
        arguments.extend(flags.map(str::to_owned));
        arguments.extend(["--free-bits", "0.02"].map(str::to_owned));
        must_run(&folder.0, &arguments);
        contents(&folder.0, run_dir)
    };
    let shards = run("shards", ["--shards", "2"]);
    let micro_batches = run("micro-batches", ["--micro-batch-size", "3"]);
    assert!(shards == micro_batches);
}

/// Two devices in one process share the shards of a batch; here both are the same. A batch of five images has shards for the first alone.
#[test]
fn a_run_on_two_devices_has_the_bytes_of_one() {
    let folder = Folder::new("devices");
    for images in ["20", "5"] {
        let run = |name: &str, device: &str| {
            let run_dir = format!("{name}-{images}");
            let mut arguments = train(&run_dir, device);
            let flags =
                "--shards 4 --batch-size 8 --epochs 1 --free-bits 0.02 --ema 0.9 --limit-train";
            arguments.extend(flags.split(' ').chain([images]).map(str::to_owned));
            must_run(&folder.0, &arguments);
            contents(&folder.0, &run_dir)
        };
        let expected = run("one", "vulkan:0");
        assert!(
            run("two", "vulkan:0,vulkan:0") == expected,
            "{images} images"
        );
    }
}

/// Four processes that share each batch: their sums go through MPI. A batch of five images has shards for two of them. Each would take a device of its
/// own; here all are told that they are the first of their machine, and take the same.
#[cfg(feature = "mpi")]
#[test]
fn four_ranks_give_the_bytes_of_one() {
    let folder = Folder::new("ranks");
    for images in ["20", "5"] {
        let arguments = |run_dir: &str| {
            let mut arguments = train(run_dir, "vulkan:0");
            let flags = "--shards 4 --batch-size 8 --epochs 1 --limit-train";
            arguments.extend(flags.split(' ').chain([images]).map(str::to_owned));
            arguments
        };
        let [one, four] = ["one", "four"].map(|name| format!("{name}-{images}"));
        must_run(&folder.0, &arguments(&one));
        let mut command = Command::new("mpirun");
        command
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .args(["-n", "4", "--bind-to", "none", "--oversubscribe"])
            .args(["sh", "-c"])
            .arg("export OMPI_COMM_WORLD_LOCAL_RANK=0; exec \"$@\"")
            .arg("sh")
            .arg(env!("CARGO_BIN_EXE_program"))
            .args(arguments(&four))
            .current_dir(&folder.0);
        let output = command.output().expect("mpirun");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(
            contents(&folder.0, &one) == contents(&folder.0, &four),
            "{images} images"
        );
    }
}
