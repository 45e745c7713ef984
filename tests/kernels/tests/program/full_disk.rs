//! A disk that is full where a checkpoint is written while the GPU trains on.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Folder, contents, holds_checkpoint, must_run, program, train};

/// Half-kilobytes of a file: less than the optimizer's moments in a checkpoint have, and more than any other file of a run.
const LIMIT: &str = "ulimit -S -f 200; exec \"$@\"";

fn limited(folder: &Folder, arguments: &[String]) -> Command {
    let program = program(&folder.0, &[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", LIMIT, "sh"])
        .arg(program.get_program())
        .args(arguments)
        .current_dir(&folder.0);
    for variable in ["EPOCHS", "OUTDIR"] {
        command.env_remove(variable);
    }
    command
}

#[test]
fn a_full_disk_ends_the_run_and_what_is_half_written_is_no_checkpoint() {
    let folder = Folder::new("full-disk");
    must_run(&folder.0, &train("whole", "vulkan:0"));
    let mut arguments = train("run", "vulkan:0");
    let output = limited(&folder, &arguments).output().expect("started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(21), "{text}");
    assert!(
        text.contains("the disk is full at") && text.contains("--resume"),
        "{text}"
    );
    assert!(!holds_checkpoint(&folder.0.join("run/checkpoints")));
    arguments.push("--resume".to_owned());
    must_run(&folder.0, &arguments);
    assert!(contents(&folder.0, "whole") == contents(&folder.0, "run"));
}

#[test]
fn a_run_that_waits_for_room_goes_on_when_there_is_some() {
    let folder = Folder::new("room");
    must_run(&folder.0, &train("whole", "vulkan:0"));
    let mut arguments = train("run", "vulkan:0");
    arguments.extend(["--on-disk-full", "pause"].map(str::to_owned));
    let path = folder.0.join("log");
    let log = fs::File::create(&path).expect("a log");
    let mut command = limited(&folder, &arguments);
    let mut child = command.stderr(log).spawn().expect("started");
    let began = Instant::now();
    let text = || fs::read_to_string(&path).expect("a log");
    while !text().contains("waiting for room") {
        let is_over = child.try_wait().expect("a child").is_some();
        let is_late = began.elapsed() > Duration::from_secs(300);
        assert!(!is_over && !is_late, "{}", text());
        std::thread::sleep(Duration::from_millis(20));
    }
    let raised = Command::new("prlimit")
        .args(["--pid", &child.id().to_string(), "--fsize=unlimited"])
        .status();
    assert!(raised.expect("prlimit of util-linux").success());
    assert!(child.wait().expect("ended").success(), "{}", text());
    assert!(contents(&folder.0, "whole") == contents(&folder.0, "run"));
}
