//! Run folders that were edited, that hold links, and that lie on file systems which cannot do everything.

use std::fs;
use std::path::{Path, PathBuf};

use end_to_end_tests::faults::{cases, passed, skipped};
use end_to_end_tests::{Bench, Ended};

const TINY: [&str; 13] = [
    "train",
    "--preset",
    "demo",
    "--width",
    "0.02",
    "--latent-dim",
    "4",
    "--limit-train",
    "60",
    "--limit-test",
    "10",
    "--json",
    "--run-dir",
];

fn train(bench: &Bench, run_dir: &str, more: &[&str]) -> Ended {
    bench.trainer(&[&TINY[..], &[run_dir], more].concat())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("listed").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn edit(bench: &Bench, name: &str, before: &str, after: &str) {
    let text = String::from_utf8(bench.read(name)).expect("text");
    assert!(text.contains(before), "no {before} in {name}");
    fs::write(bench.path(name), text.replace(before, after)).expect("written");
}

/// Everything that `--resume` and every command on a run must say of an edited `config.json`: the checkpoint decides.
#[test]
fn faults_edited_run_is_refused_by_what_its_checkpoint_recorded() {
    let bench = Bench::new();
    // No float64 holds it: what a tool makes of it that knows no other numbers is ...808.
    let seed = "9223372036854775809";
    train(&bench, "r", &["--epochs", "1", "--seed", seed]).success();
    let edits = [
        (format!("\"seed\": {seed}"), "\"seed\": 7", "seed"),
        (
            format!("\"seed\": {seed}"),
            "\"seed\": 9223372036854775808",
            "seed",
        ),
        (
            "\"latent_dim\": 4".to_owned(),
            "\"latent_dim\": 5",
            "latent_dim",
        ),
        (
            "\"batch_size\": 25".to_owned(),
            "\"batch_size\": 20",
            "batch_size",
        ),
        (
            "\"limit_test\": 10".to_owned(),
            "\"limit_test\": 9",
            "limit_test",
        ),
        (
            "\"activation\": \"sigmoid\"".to_owned(),
            "\"activation\": \"relu\"",
            "activation",
        ),
        (
            "\"learning_rate\": 0.001".to_owned(),
            "\"learning_rate\": 0.002",
            "learning_rate",
        ),
    ];
    let count = cases(4, 7, 7);
    for (before, after, key) in &edits[..count] {
        let checkpoints = || {
            fs::read_dir(bench.path("r/checkpoints"))
                .expect("listed")
                .count()
        };
        let there = checkpoints();
        let config = bench.read("r/config.json");
        edit(&bench, "r/config.json", before, after);
        bench
            .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "2"])
            .failure(2, &[key, "checkpoint"]);
        if *key != "learning_rate" && *key != "activation" {
            // What was trained with other images or sizes cannot go on as this.
            let insist = [
                "train",
                "--run-dir",
                "r",
                "--resume",
                "--allow-config-change",
            ];
            bench.trainer(&insist).failure(2, &[key]);
        }
        for command in [
            &["evaluate", "--run-dir", "r"][..],
            &["sample", "--run-dir", "r", "--out", "s.png"],
            &["report", "--run-dir", "r"],
        ] {
            let ended = bench.trainer(command).failure(2, &["config.json", key]);
            assert!(!ended.stderr.contains("delete"), "{}", ended.stderr);
        }
        let verified = bench.trainer(&["verify-run", "--run-dir", "r"]);
        assert_eq!(verified.code, Some(2), "{}", verified.stderr);
        assert!(
            verified.stdout.contains("BAD  config.json"),
            "{}",
            verified.stdout
        );
        assert_eq!(checkpoints(), there, "nothing was removed");
        fs::write(bench.path("r/config.json"), config).expect("restored");
    }
    // Undone, the run goes on.
    bench
        .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "2"])
        .success();
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    passed("edited run", count);
}

#[test]
fn an_allowed_change_is_the_runs_from_then_on_and_stays_recorded() {
    let bench = Bench::new();
    train(&bench, "r", &["--epochs", "1"]).success();
    let change = ["--allow-config-change", "--learning-rate", "0.0005"];
    // No step is made, and the change counts all the same.
    let resume = ["train", "--run-dir", "r", "--resume", "--epochs", "1"];
    bench.trainer(&[&resume[..], &change].concat()).success();
    bench.trainer(&resume).success();
    bench
        .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "2"])
        .success();
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    let environment: serde_json::Value =
        serde_json::from_slice(&bench.read("r/environment.json")).expect("JSON");
    assert_eq!(
        environment["resumed"][0]["changed_settings"][0],
        "learning_rate: 0.001 -> 0.0005"
    );
    let first = environment["command"].as_array().expect("a command");
    assert!(first.iter().all(|word| word != "--resume"), "{first:?}");
    // The seed is not among what can change: the held-out images would be others.
    bench
        .trainer(&[&resume[..], &["--allow-config-change", "--seed", "2"]].concat())
        .failure(2, &["seed: 1 -> 2"]);
}

#[cfg(unix)]
#[test]
fn faults_links_in_a_run_folder_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    train(&bench, "whole", &["--epochs", "1"]).success();
    let names = [
        "lock",
        "metrics.jsonl",
        "checkpoints",
        // With other settings its manifest would be written anew.
        "checkpoints/epoch-0001-batch-00000",
        "metrics.csv",
        "timing.jsonl",
        "samples",
        "reconstructions",
    ];
    let count = cases(4, 8, 8);
    for name in &names[..count] {
        let flat = name.replace('/', "-");
        let run_dir = format!("linked-{flat}");
        copy_folder(&bench.path("whole"), &bench.path(&run_dir));
        let inside = bench.path(&format!("{run_dir}/{name}"));
        let victim = bench.path(&format!("victim-{flat}"));
        fs::rename(&inside, &victim).expect("moved");
        if victim.is_dir() {
            fs::create_dir(victim.join("photos.old")).expect("created");
        } else {
            fs::write(&victim, "keep me\n").expect("written");
        }
        symlink(&victim, &inside).expect("linked");
        bench
            .trainer(&["train", "--run-dir", &run_dir, "--resume", "--epochs", "2"])
            .failure(2, &[name, "symbolic link"]);
        if victim.is_dir() {
            assert!(victim.join("photos.old").is_dir(), "{name}");
        } else {
            assert_eq!(
                fs::read_to_string(&victim).expect("text"),
                "keep me\n",
                "{name}"
            );
        }
    }
    // A pipe in place of a file is one on which a run would wait for ever.
    for name in ["lock", "metrics.jsonl", "timing.jsonl"] {
        let run_dir = format!("pipe-{name}");
        copy_folder(&bench.path("whole"), &bench.path(&run_dir));
        let inside = bench.path(&format!("{run_dir}/{name}"));
        fs::remove_file(&inside).expect("removed");
        let made = bench.command("mkfifo").arg(&inside).status();
        assert!(made.expect("mkfifo is there").success());
        bench
            .trainer(&["train", "--run-dir", &run_dir, "--resume", "--epochs", "2"])
            .failure(2, &[name, "not a regular file"]);
    }
    // Commands that read do not wait there either, nor read a device without end.
    for name in ["environment.json", "summary.json", "metrics.jsonl"] {
        let run_dir = format!("device-{name}");
        copy_folder(&bench.path("whole"), &bench.path(&run_dir));
        let inside = bench.path(&format!("{run_dir}/{name}"));
        fs::remove_file(&inside).expect("removed");
        symlink("/dev/zero", &inside).expect("linked");
        bench
            .trainer(&["report", "--run-dir", &run_dir])
            .failure(21, &[name, "not a regular file"]);
    }
    // The folder itself may be one, and a sweep's lock may not.
    symlink(bench.path("whole"), bench.path("link")).expect("linked");
    bench
        .trainer(&["train", "--run-dir", "link", "--resume", "--epochs", "2"])
        .success();
    fs::create_dir_all(bench.path("sweep")).expect("created");
    fs::write(bench.path("victim"), "keep me\n").expect("written");
    symlink("../victim", bench.path("sweep/lock")).expect("linked");
    bench
        .trainer(&["bench-depths", "--preset", "demo", "--out", "sweep"])
        .failure(2, &["symbolic link"]);
    assert_eq!(bench.read("victim"), b"keep me\n");
    passed("links", count + 8);
}

#[test]
fn what_users_put_beside_checkpoints_stays() {
    let bench = Bench::new();
    train(&bench, "r", &["--epochs", "1"]).success();
    fs::create_dir(bench.path("r/checkpoints/backup.old")).expect("created");
    fs::write(bench.path("r/checkpoints/x.tmp"), "mine").expect("written");
    bench
        .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "4"])
        .success();
    assert!(bench.path("r/checkpoints/backup.old").is_dir());
    assert_eq!(bench.read("r/checkpoints/x.tmp"), b"mine");
}

/// A library that makes calls fail as odd file systems do, loaded before the C library.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int is_on(const char *name) { return getenv(name) != NULL; }

int flock(int fd, int operation) {
    if (is_on("SHIM_LOCKS")) { errno = atoi(getenv("SHIM_LOCKS")); return -1; }
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    return real(fd, operation);
}

int fsync(int fd) {
    struct stat status;
    if (is_on("SHIM_FOLDER_SYNC") && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        errno = atoi(getenv("SHIM_FOLDER_SYNC"));
        return -1;
    }
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    return real(fd);
}

int rename(const char *from, const char *to) {
    struct stat status;
    /* A folder of a lower layer: not one that this process has just made. */
    if (is_on("SHIM_RENAME") && strstr(from, ".tmp") == NULL
        && stat(from, &status) == 0 && S_ISDIR(status.st_mode)) {
        errno = EXDEV;
        return -1;
    }
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    return real(from, to);
}

static int in_old(int folder) {
    char path[64], target[4096];
    extern int snprintf(char *, size_t, const char *, ...);
    extern ssize_t readlink(const char *, char *, size_t);
    snprintf(path, sizeof path, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return strstr(target, ".old") != NULL;
}

int unlinkat(int folder, const char *name, int flags) {
    if (is_on("SHIM_REMOVE") && (strstr(name, ".old") != NULL || in_old(folder))) {
        errno = EBUSY;
        return -1;
    }
    int (*real)(int, const char *, int) = dlsym(RTLD_NEXT, "unlinkat");
    return real(folder, name, flags);
}

int rmdir(const char *path) {
    if (is_on("SHIM_REMOVE") && strstr(path, ".old") != NULL) { errno = EBUSY; return -1; }
    int (*real)(const char *) = dlsym(RTLD_NEXT, "rmdir");
    return real(path);
}
"#;

/// Compiles the library; none where there is no C compiler.
#[cfg(target_os = "linux")]
fn shim(bench: &Bench) -> Option<PathBuf> {
    let source = bench.path("shim.c");
    let library = bench.path("shim.so");
    let source_text = SHIM.replace(
        "#include <errno.h>",
        "#include <errno.h>\n#include <sys/types.h>",
    );
    fs::write(&source, source_text).expect("written");
    let compiled = bench
        .command("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    compiled
        .is_ok_and(|status| status.success())
        .then_some(library)
}

#[cfg(target_os = "linux")]
#[test]
fn faults_odd_file_systems_cost_a_notice_and_no_run() {
    let bench = Bench::new();
    let Some(library) = shim(&bench) else {
        skipped("odd file systems", "there is no C compiler");
        return;
    };
    train(&bench, "whole", &["--epochs", "5"]).success();
    // ENOLCK, EOPNOTSUPP, ENOSYS; EINVAL, EOPNOTSUPP; EXDEV; EBUSY.
    let all = [
        ("SHIM_LOCKS", "37", Some("has no locks")),
        ("SHIM_FOLDER_SYNC", "22", Some("cannot sync folders")),
        ("SHIM_RENAME", "1", None),
        ("SHIM_REMOVE", "1", Some("could not be removed")),
        ("SHIM_LOCKS", "95", Some("has no locks")),
        ("SHIM_LOCKS", "38", Some("has no locks")),
        ("SHIM_FOLDER_SYNC", "95", Some("cannot sync folders")),
    ];
    let count = cases(4, 7, 7);
    for (case, (variable, value, notice)) in all[..count].iter().enumerate() {
        let run_dir = format!("odd-{case}");
        let mut command = bench.trainer_command();
        let output = command
            .args([&TINY[..], &[run_dir.as_str(), "--epochs", "5"]].concat())
            .env("LD_PRELOAD", &library)
            .env(variable, value)
            .output()
            .expect("ended");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{variable}={value}: {stderr}");
        if let Some(notice) = notice {
            let told = stdout.lines().filter(|line| line.contains(notice)).count();
            // Once for what a file system lacks, once for each folder that stays.
            let most = if *variable == "SHIM_REMOVE" { 10 } else { 1 };
            assert!(
                (1..=most).contains(&told),
                "{variable}: {told} times in {stdout}"
            );
        }
        for name in ["metrics.jsonl", "model.safetensors", "summary.json"] {
            let read = |run_dir: &str| bench.read(&format!("{run_dir}/{name}"));
            assert!(read("whole") == read(&run_dir), "{variable}: {name}");
        }
        bench
            .trainer(&["verify-run", "--run-dir", &run_dir])
            .success();
    }
    passed("odd file systems", count + lower_layer(&bench));
}

/// A run that lies in the lower layer of an overlay, as in a container's image: its folders cannot be renamed.
#[cfg(target_os = "linux")]
fn lower_layer(bench: &Bench) -> usize {
    struct Mounted(Vec<PathBuf>);
    impl Drop for Mounted {
        fn drop(&mut self) {
            for path in self.0.iter().rev() {
                let _ = std::process::Command::new("umount")
                    .arg("-l")
                    .arg(path)
                    .status();
            }
        }
    }
    let (layers, merged) = (bench.path("layers"), bench.path("merged"));
    for folder in [&layers, &merged] {
        fs::create_dir_all(folder).expect("created");
    }
    let mount = |arguments: &[&str], at: &Path| {
        let mut command = std::process::Command::new("mount");
        let command = command.args(arguments).arg(at);
        let status = command.stderr(std::process::Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let mut mounted = Mounted(Vec::new());
    // Upper and work folder must not lie on an overlay themselves.
    if !mount(&["-t", "tmpfs", "tmpfs"], &layers) {
        skipped("odd file systems", "this process may not mount an overlay");
        return 0;
    }
    mounted.0.push(layers.clone());
    for name in ["lower", "upper", "work"] {
        fs::create_dir(layers.join(name)).expect("created");
    }
    let layer = |name: &str| layers.join(name).display().to_string();
    copy_folder(&bench.path("whole"), &layers.join("lower/run"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off",
        layer("lower"),
        layer("upper"),
        layer("work")
    );
    if !mount(&["-t", "overlay", "overlay", "-o", &options], &merged) {
        skipped("odd file systems", "this process may not mount an overlay");
        return 0;
    }
    mounted.0.push(merged);
    bench
        .trainer(&[
            "train",
            "--run-dir",
            "merged/run",
            "--resume",
            "--epochs",
            "9",
        ])
        .success();
    bench
        .trainer(&["verify-run", "--run-dir", "merged/run"])
        .success();
    // Folders of the lower layer are gone, and none is left under another name.
    let left = fs::read_dir(bench.path("merged/run/checkpoints")).expect("listed");
    assert!(left.count() <= 4);
    1
}
