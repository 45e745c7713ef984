//! Every kernel of a step is compiled by NVIDIA's NVRTC for cards of three generations, without a card: a driver that stands in for NVIDIA's
//! (`stand_in/driver.c`) loads the kernels and runs none.
//!
//! Needs a C compiler, and NVRTC with its headers in the folder that `NVIDIA_WHEELS` names:
//! `pip install --no-deps --target FOLDER nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12`.
#![cfg(feature = "cuda")]

mod checks;
mod finished;
#[cfg(feature = "mpi")]
mod ranks;
mod runs;
mod trainings;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use vae_core::{Depth, Precision, VaeConfig};
use vae_device_step::bytes_moved;

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

/// Of processor time, for all kernels of a step at full width.
const MOST_SECONDS_TO_COMPILE: f64 = 10.0;

/// What multiplies matrices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Products {
    /// The stand-in for cuBLASLt.
    Library,
    /// The project's own.
    Plain,
}

/// Runs a program on the stand-in driver in `folder`; what it printed. The library's products are counted and not made where `counts`.
fn run(
    program: &str,
    arguments: &[&str],
    folder: &Path,
    (capability, products): (&str, Products),
    counts: bool,
) -> String {
    let libraries = std::env::join_paths([folder.to_owned(), wheels().join("cuda_nvrtc/lib")])
        .expect("no colon in a path");
    let mut command = Command::new(program);
    // Whatever other tests are told to take.
    match products {
        Products::Library => {
            compile("cublaslt.c", &folder.join("libcublasLt.so"));
            command.env_remove("RESNET_VAE_PRODUCTS")
        }
        Products::Plain => command.env("RESNET_VAE_PRODUCTS", "plain"),
    };
    let output = command
        .args(arguments)
        .env("LD_LIBRARY_PATH", libraries)
        .env("CUDA_PATH", folder)
        .env("STAND_IN_CAPABILITY", capability)
        .env("STAND_IN_REPORT", folder.join("report"))
        .envs(counts.then_some(("STAND_IN_COUNTS", "1")))
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

/// What the driver was asked for between two marks of the program.
#[derive(Default)]
struct Asked {
    /// Of the processor for each kernel's compilation.
    compile_seconds: Vec<f64>,
    /// The kernels, in the same order.
    kernels: Vec<String>,
    launches: usize,
    graphs: usize,
    reads: usize,
    /// Allocated, less freed.
    bytes: i64,
    /// Where cuBLASLt's workspace has been.
    workspaces: Vec<String>,
}

/// What a program on the stand-in printed, and what it asked the driver for, by the last mark before.
fn step(
    capability: &str,
    arguments: &[&str],
    products: Products,
) -> (String, BTreeMap<String, Asked>) {
    let folder = folder(&format!("{capability}-{}", arguments.join("-")));
    let arguments = [&["cuda"], arguments].concat();
    let text = run(
        env!("CARGO_BIN_EXE_step"),
        &arguments,
        &folder,
        (capability, products),
        true,
    );
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    let mut all = BTreeMap::from([("start".to_owned(), Asked::default())]);
    let mut mark = "start".to_owned();
    for line in report.lines() {
        let asked: &mut Asked = all.entry(mark.clone()).or_default();
        let words: Vec<&str> = line.split(' ').collect();
        let bytes = || words[1].parse::<i64>().expect("a number of bytes");
        match words[0] {
            "module" => {
                let seconds = words[1].parse().expect("seconds");
                asked.compile_seconds.push(seconds);
                asked.kernels.push(words[2].to_owned());
            }
            "launch" => asked.launches += 1,
            "graph" => asked.graphs += 1,
            "read" => asked.reads += 1,
            "allocate" => asked.bytes += bytes(),
            "free" => asked.bytes -= bytes(),
            "workspace" => asked.workspaces.push(words[1].to_owned()),
            "write" | "capture" | "record" | "wait" => {}
            "asked" => mark += " asked",
            _ => mark = line.to_owned(),
        }
    }
    for (mark, asked) in &all {
        println!(
            "capability {capability}, {arguments:?}, {mark}: {} kernels compiled in {:.1} s, {} launches, {} graphs, {} reads, {:.1} MB more",
            asked.compile_seconds.len(),
            asked.compile_seconds.iter().sum::<f64>(),
            asked.launches,
            asked.graphs,
            asked.reads,
            asked.bytes as f64 / 1e6
        );
    }
    (text, all)
}

#[test]
fn a_step_of_operations_compiles_for_cards_of_three_generations() {
    for (capability, precision) in [("6.1", "f32"), ("8.0", "f32"), ("9.0", "bf16")] {
        let (text, asked) = step(capability, &[precision], Products::Plain);
        assert!(text.contains("gradients"), "{text}");
        let kernels: usize = asked
            .values()
            .map(|asked| asked.compile_seconds.len())
            .sum();
        assert!(kernels > 20, "{kernels} kernels are not a step's");
    }
}

#[test]
fn the_devices_own_step_compiles_for_cards_of_three_generations() {
    for (capability, precision) in [("6.1", "f32"), ("8.0", "f32"), ("9.0", "bf16")] {
        let (text, asked) = step(capability, &[precision, "own"], Products::Plain);
        // Of each likelihood.
        for found in ["step 2: ", "evaluation 2: ", "captured: true"] {
            assert_eq!(text.matches(found).count(), 7, "{found}{text}");
        }
        let kernels = asked["step 0"].compile_seconds.len();
        assert!(kernels > 20, "{kernels} kernels are not a step's");
        // Sigmoid and four others, forward and backward.
        for kernel in ["activate_f", "activate_gradient_f"] {
            let all = asked.values().flat_map(|asked| &asked.kernels);
            let names: std::collections::BTreeSet<&String> =
                all.filter(|name| name.starts_with(kernel)).collect();
            assert!(names.len() >= 5, "{names:?}");
        }
    }
}

/// What a machine without cuBLASLt multiplies with: at the sizes of the reference experiment's model.
#[test]
fn the_projects_own_products_compile_for_cards_of_three_generations() {
    for (capability, precision) in [
        ("6.1", "f32"),
        ("8.0", "f32"),
        ("8.0", "bf16"),
        ("9.0", "f32"),
        ("9.0", "bf16"),
    ] {
        let arguments = [precision, "28", "25"];
        let (text, asked) = step(capability, &arguments, Products::Plain);
        assert!(text.contains("captured: true"), "{text}");
        let kernels = asked["step 0"].compile_seconds.len();
        // Those of the library's step, and a product for each layout of the operands.
        assert!((40..60).contains(&kernels), "{kernels} kernels");
        // On a card without cuBLASLt the same holds as with it: the first step comes soon.
        let seconds: f64 = asked["step 0"].compile_seconds.iter().sum();
        assert!(seconds < 60.0, "{seconds} s to compile");
        assert_eq!(asked["step 2"].compile_seconds.len(), 0, "compiled late");
    }
}

/// The reference experiment's model at the batch size of its measurements: what bounds a step besides the card.
#[test]
fn a_step_of_full_width_has_few_kernels_and_launches_and_never_waits() {
    let (text, asked) = step("9.0", &["bf16", "28", "128"], Products::Library);
    assert!(text.contains("captured: true"), "{text}");
    let moved = bytes_moved(&VaeConfig::preset(Depth::Depth28), 128, Precision::Bf16);
    println!(
        "bytes moved a step by the formula: {:.2} GB",
        moved as f64 / 1e9
    );
    let launches = asked["step 0"].launches;
    assert!(launches > 200, "{launches} launches are not a step's");
    assert!(launches <= 450, "{launches} launches");
    let kernels = asked["step 0"].compile_seconds.len();
    // Two of them multiply what cuBLASLt has no fast kernel for.
    assert!(kernels <= 41, "{kernels} kernels take long to compile");
    // A replayed step: a graph, and the copies of its inputs.
    let replayed = &asked["step 2"];
    assert_eq!((replayed.graphs, replayed.bytes), (1, 0));
    assert!(replayed.launches <= 8, "{} launches", replayed.launches);
    assert_eq!(replayed.compile_seconds.len(), 0, "kernels compiled late");
    // Of the processor, by an NVRTC that compiles one after the other: a first step is to come soon.
    let seconds: f64 = asked["step 0"].compile_seconds.iter().sum();
    assert!(seconds < MOST_SECONDS_TO_COMPILE, "{seconds} s to compile");
    // PyTorch takes 4.2 GB for the same step.
    let of_steps = asked.iter().filter(|(mark, _)| *mark != "another size");
    let bytes: i64 = of_steps.map(|(_, asked)| asked.bytes).sum();
    assert!(bytes < 4_250_000_000, "{bytes} bytes on the device");
    // The step that is captured reads what it would begin again with: weights, moments, running statistics and the count of updates.
    for (number, most) in [(0, 1), (1, 1 + 5), (2, 1)] {
        let reads = asked[&format!("step {number}")].reads;
        assert!(reads <= most, "{reads} reads in step {number}");
    }
    // Graphs have its address.
    let workspaces = asked
        .values()
        .map(|asked| asked.workspaces.len())
        .sum::<usize>();
    assert_eq!(workspaces, 1, "cuBLASLt's workspace was moved");
    // A batch as large as training's is scored in its buffers; there are the batch itself and small vectors besides.
    let bytes: i64 = (0..3)
        .map(|number| asked[&format!("evaluation {number}")].bytes)
        .sum();
    assert!(bytes < 10_000_000, "{bytes} bytes more for evaluation");
    let launches = asked["evaluation 0"].launches;
    assert!((50..150).contains(&launches), "{launches} launches");
    // So is the end of a split, which has fewer images: by the same graph.
    let of_fewer = &asked["fewer images"];
    assert_eq!((of_fewer.graphs, of_fewer.compile_seconds.len()), (1, 0));
    assert!(of_fewer.bytes < 10_000_000, "{} bytes", of_fewer.bytes);
    let replayed = &asked["evaluation 2"];
    assert_eq!((replayed.graphs, replayed.reads), (1, 1));
    assert!(replayed.launches <= 8, "{} launches", replayed.launches);
}

#[test]
fn cublaslt_is_told_how_matrices_lie_in_memory() {
    let folder = folder("products");
    let program = env!("CARGO_BIN_EXE_products");
    let text = run(program, &[], &folder, ("9.0", Products::Library), false);
    assert_eq!(text.matches("is right").count(), 2, "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
