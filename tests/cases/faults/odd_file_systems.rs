//! Run folders on file systems that cannot do everything.

use std::fs;
use std::path::{Path, PathBuf};

use end_to_end_tests::faults::{cases, passed, skipped};
use end_to_end_tests::{Bench, tiny};

use super::run_folders::{TINY, copy_folder, train};

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
            .args([&tiny(TINY)[..], &[run_dir.as_str(), "--epochs", "5"]].concat())
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
