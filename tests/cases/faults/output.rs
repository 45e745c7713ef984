//! Output that cannot be written, or goes elsewhere than into a file.

use std::fs::{self, File};
use std::process::Stdio;

use end_to_end_tests::faults::{cases, passed};
use end_to_end_tests::{Bench, tiny};

const TINY: &str = "--limit-train 50 --limit-test 10 --epochs 1 --run-dir r";

#[cfg(target_os = "linux")]
#[test]
fn faults_unwritable_output_ends_with_a_code_of_its_own() {
    let bench = Bench::new();
    bench.trainer(&tiny(TINY)).success();
    image::RgbImage::new(40, 30)
        .save(bench.path("photo.png"))
        .expect("saved");
    let commands: [&[&str]; 17] = [
        &[
            "traverse",
            "--run-dir",
            "r",
            "--columns",
            "2",
            "--out",
            "t.png",
        ],
        &[
            "interpolate",
            "--run-dir",
            "r",
            "--columns",
            "2",
            "--out",
            "i.png",
        ],
        &["sample-statistics", "--run-dir", "r", "--images", "10"],
        &["self-test", "--data", "20"],
        &["evaluate", "--run-dir", "r"],
        &["sample", "--run-dir", "r", "--out", "s.png"],
        &["verify-run", "--run-dir", "r"],
        &["train", "--preset", "demo", "--print-config"],
        &["evaluate", "--run-dir", "r", "--json"],
        &[
            "reconstruct",
            "--run-dir",
            "r",
            "--image",
            "photo.png",
            "--out",
            "g.png",
        ],
        &["self-test", "--data", "20", "--json"],
        &[
            "sample-statistics",
            "--run-dir",
            "r",
            "--images",
            "10",
            "--json",
        ],
        &["report", "--run-dir", "r"],
        &["verify-run", "--run-dir", "r", "--json"],
        &["summary", "--depth", "28"],
        &["summary", "--depth", "28", "--json"],
        &[
            "bench-step",
            "--width",
            "0.02",
            "--steps",
            "1",
            "--warmup",
            "0",
        ],
    ];
    let count = cases(8, 17, 17);
    for command in &commands[..count] {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("a device");
        let output = bench
            .trainer_command()
            .args(*command)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .expect("ended");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(21), "{command:?}: {stderr}");
        assert!(
            stderr.contains("standard output cannot be written") && !stderr.contains("panicked"),
            "{stderr}"
        );
    }
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("a device");
    let output = bench
        .xtask_command()
        .args(["doctor", "--offline"])
        .stdout(full)
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(21), "doctor: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    // A run's files are fine whatever becomes of its progress.
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("a device");
    let status = bench
        .trainer_command()
        .args(tiny(TINY))
        .args(["--run-dir", "full"])
        .stdout(full)
        .status()
        .expect("ended");
    assert!(status.success());
    bench
        .trainer(&["verify-run", "--run-dir", "full"])
        .success();
    passed("unwritable output", count + 2);
}

#[cfg(unix)]
#[test]
fn results_go_through_links_and_into_pipes_and_leave_them_what_they_are() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let bench = Bench::new();
    bench.trainer(&tiny(TINY)).success();
    let sample =
        |out: &str| ["sample", "--run-dir", "r", "--rows", "1", "--out", out].map(str::to_owned);
    bench.trainer(&sample("plain.png")).success();
    let expected = bench.read("plain.png");

    fs::create_dir(bench.path("elsewhere")).expect("created");
    fs::write(bench.path("elsewhere/target.png"), "old").expect("written");
    symlink("elsewhere/target.png", bench.path("link.png")).expect("linked");
    bench.trainer(&sample("link.png")).success();
    assert!(bench.path("link.png").is_symlink());
    assert!(bench.read("elsewhere/target.png") == expected);

    let traverse = |out: &str| {
        ["traverse", "--run-dir", "r", "--columns", "2", "--out", out].map(str::to_owned)
    };
    bench.trainer(&traverse("plain-rows.png")).success();
    bench.trainer(&traverse("link.png")).success();
    assert!(bench.path("link.png").is_symlink());
    assert!(bench.read("elsewhere/target.png") == bench.read("plain-rows.png"));

    let status = bench
        .command("mkfifo")
        .arg("pipe")
        .status()
        .expect("mkfifo is there");
    assert!(status.success());
    let reader = {
        let path = bench.path("pipe");
        std::thread::spawn(move || fs::read(path).expect("read"))
    };
    bench.trainer(&sample("pipe")).success();
    assert!(reader.join().expect("ended") == expected);
    let kind = fs::symlink_metadata(bench.path("pipe"))
        .expect("there")
        .file_type();
    assert!(kind.is_fifo(), "{kind:?}");

    // Standard output, which here is a pipe without a name: the picture and nothing else.
    let output = bench
        .trainer_command()
        .args(sample("/dev/stdout"))
        .output()
        .expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(output.stdout == expected, "{} bytes", output.stdout.len());

    // A device of one's own, where this process may make one.
    let made = bench
        .command("mknod")
        .args(["null", "c", "1", "3"])
        .status();
    if made.is_ok_and(|status| status.success()) {
        bench.trainer(&sample("null")).success();
        bench.trainer(&traverse("null")).success();
        bench
            .trainer(&["interpolate", "--run-dir", "r", "--out", "null"])
            .success();
        bench
            .trainer(&["report", "--run-dir", "r", "--out", "null"])
            .success();
        let kind = fs::symlink_metadata(bench.path("null"))
            .expect("there")
            .file_type();
        assert!(kind.is_char_device(), "{kind:?}");
    }
    let strays = fs::read_dir(bench.path(".")).expect("listed").flatten();
    for entry in strays {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!name.ends_with(".tmp"), "{name}");
    }
}
