//! Every kernel of a step is compiled by NVIDIA's NVRTC for cards of three generations, without a card: a driver that stands in for NVIDIA's
//! (`stand_in/driver.c`) loads the kernels and runs none.
//!
//! Needs a C compiler, and NVRTC with its headers in the folder that `NVIDIA_WHEELS` names:
//! `pip install --no-deps --target FOLDER nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12`.
#![cfg(feature = "cuda")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn wheels() -> PathBuf {
    let folder = std::env::var_os("NVIDIA_WHEELS").unwrap_or_else(|| {
        panic!(
            "NVIDIA_WHEELS names no folder with NVRTC; pip install --no-deps --target FOLDER nvidia-cuda-nvrtc-cu12 \
             nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12, and set NVIDIA_WHEELS=FOLDER"
        )
    });
    PathBuf::from(folder).join("nvidia")
}

/// A folder with the stand-in as `libcuda.so.1`, and the headers of all wheels as a toolkit has them.
fn prepare(folder: &Path) {
    std::fs::create_dir_all(folder.join("include")).expect("a folder");
    compile("driver.c", &folder.join("libcuda.so.1"));
    symlink("libcuda.so.1", folder.join("libcuda.so")).expect("a link");
    for wheel in ["cuda_runtime", "cuda_cccl"] {
        let headers = wheels().join(wheel).join("include");
        for entry in std::fs::read_dir(&headers)
            .unwrap_or_else(|error| panic!("{}: {error}", headers.display()))
        {
            let entry = entry.expect("an entry");
            // Both have an `__init__.py`.
            let _ = symlink(entry.path(), folder.join("include").join(entry.file_name()));
        }
    }
}

fn compile(source: &str, library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("stand_in")
        .join(source);
    let status = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(library)
        .arg(source)
        .status();
    assert!(status.expect("a C compiler").success());
}

/// Runs a program on the stand-in driver in `folder`; what it printed.
fn run(program: &str, arguments: &[&str], folder: &Path, capability: &str) -> String {
    let libraries = std::env::join_paths([folder.to_owned(), wheels().join("cuda_nvrtc/lib")])
        .expect("no colon in a path");
    let output = Command::new(program)
        .args(arguments)
        .env("LD_LIBRARY_PATH", libraries)
        .env("CUDA_PATH", folder)
        .env("STAND_IN_CAPABILITY", capability)
        .env("STAND_IN_REPORT", folder.join("report"))
        .current_dir(folder)
        .output()
        .expect("the program");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "capability {capability}, {arguments:?}: {text}"
    );
    text
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kernel-tests-{}-{name}", std::process::id()));
    prepare(&folder);
    folder
}

/// What a step on the stand-in printed, and how many kernels it compiled.
fn step(capability: &str, arguments: &[&str]) -> (String, usize) {
    let folder = folder(&format!("{capability}-{}", arguments.join("-")));
    let arguments = [&["cuda"], arguments].concat();
    let text = run(env!("CARGO_BIN_EXE_step"), &arguments, &folder, capability);
    let report = std::fs::read_to_string(folder.join("report"));
    let report = report.expect("the stand-in's report");
    let modules = report
        .split(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .expect("a number of modules");
    println!("capability {capability}, {arguments:?}: {report}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    (text, modules)
}

#[test]
fn a_step_of_operations_compiles_for_cards_of_three_generations() {
    for (capability, precision) in [("6.1", "f32"), ("8.0", "f32"), ("9.0", "bf16")] {
        let (text, modules) = step(capability, &[precision]);
        assert!(text.contains("gradients"), "{text}");
        assert!(modules > 20, "{modules} kernels are not a step's");
    }
}

#[test]
fn the_devices_own_step_compiles_for_cards_of_three_generations_and_has_few_kernels() {
    for (capability, precision) in [("6.1", "f32"), ("8.0", "f32"), ("9.0", "bf16")] {
        let (text, modules) = step(capability, &[precision, "own"]);
        assert!(
            text.contains("step 2: ") && text.contains("captured: true"),
            "{text}"
        );
        assert!(modules > 20, "{modules} kernels are not a step's");
        assert!(modules < 100, "{modules} kernels take long to compile");
    }
}

#[test]
fn cublaslt_is_told_how_matrices_lie_in_memory() {
    let folder = folder("products");
    compile("cublaslt.c", &folder.join("libcublasLt.so"));
    let text = run(env!("CARGO_BIN_EXE_products"), &[], &folder, "9.0");
    assert_eq!(text.matches("is right").count(), 2, "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
