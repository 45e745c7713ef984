//! Every kernel of a step is compiled by NVIDIA's NVRTC for cards of three generations, without a card: a driver that stands in for NVIDIA's
//! (`stand_in/driver.c`) loads the kernels and runs none.
//!
//! Needs a C compiler, and NVRTC with its headers in the folder that `NVIDIA_WHEELS` names:
//! `pip install --no-deps --target FOLDER nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12`.
#![cfg(feature = "cuda")]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    /// Of each kernel's compilation.
    compile_seconds: Vec<f64>,
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
            "module" => asked
                .compile_seconds
                .push(words[1].parse().expect("seconds")),
            "launch" => asked.launches += 1,
            "graph" => asked.graphs += 1,
            "read" => asked.reads += 1,
            "allocate" => asked.bytes += bytes(),
            "free" => asked.bytes -= bytes(),
            "workspace" => asked.workspaces.push(words[1].to_owned()),
            "write" | "capture" => {}
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
    }
}

/// What a machine without cuBLASLt multiplies with: at the sizes of the reference experiment's model.
#[test]
fn the_projects_own_products_compile_for_cards_of_three_generations() {
    for (capability, precision) in [("6.1", "f32"), ("8.0", "bf16"), ("9.0", "bf16")] {
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
    let launches = asked["step 0"].launches;
    assert!(launches > 200, "{launches} launches are not a step's");
    assert!(launches <= 450, "{launches} launches");
    let kernels = asked["step 0"].compile_seconds.len();
    assert!(kernels <= 40, "{kernels} kernels take long to compile");
    // A replayed step: a graph, and the copies of its inputs.
    let replayed = &asked["step 2"];
    assert_eq!((replayed.graphs, replayed.bytes), (1, 0));
    assert!(replayed.launches <= 8, "{} launches", replayed.launches);
    assert_eq!(replayed.compile_seconds.len(), 0, "kernels compiled late");
    // PyTorch takes 4.2 GB for the same step.
    let of_steps = asked.iter().filter(|(mark, _)| *mark != "another size");
    let bytes: i64 = of_steps.map(|(_, asked)| asked.bytes).sum();
    assert!(bytes < 4_250_000_000, "{bytes} bytes on the device");
    for number in 0..3 {
        let reads = asked[&format!("step {number}")].reads;
        assert!(reads <= 1, "{reads} reads in step {number}");
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

/// A run of steps of eight images.
fn train(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> Output {
    let usual = "train --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --batch-size 8 --limit-test 8 --epochs 1 --data sample \
                 --precision bf16 --run-dir run";
    program(folder, &format!("{usual} {arguments}"), variables)
}

/// The trainer's program on the stand-in.
fn program(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> Output {
    compile("cublaslt.c", &folder.join("libcublasLt.so"));
    let libraries = std::env::join_paths([folder.to_owned(), wheels().join("cuda_nvrtc/lib")])
        .expect("no colon in a path");
    Command::new(env!("CARGO_BIN_EXE_program"))
        .args(arguments.split_whitespace())
        .env_remove("RESNET_VAE_PRODUCTS")
        .env("LD_LIBRARY_PATH", libraries)
        .env("CUDA_PATH", folder)
        .env("STAND_IN_CAPABILITY", "9.0")
        .env("STAND_IN_REPORT", folder.join("report"))
        .env("STAND_IN_COUNTS", "1")
        // The program has 4 e computed before it trusts a card.
        .env("STAND_IN_FIRST_READ", "10.873127")
        .envs(variables.iter().copied())
        .current_dir(folder)
        .output()
        .expect("started")
}

/// Also where nothing is trained.
#[test]
fn a_card_that_fails_has_an_exit_code_of_its_own() {
    let folder = folder("failing");
    let arguments = "bench-step --depth 28 --width 0.02 --latent-dim 4 --batch-size 8 --device cuda:0 --steps 1 --warmup 1";
    for (variables, expected) in [(&[][..], 0), (&[("STAND_IN_PRODUCT_FAILS", "60")], 32)] {
        let output = program(&folder, arguments, variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{text}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// The last product of a step has none behind it in which its failure would show.
#[test]
fn a_step_without_one_of_its_products_is_not_saved() {
    let arguments = "--device cuda:0 --limit-train 24 --checkpoint-every 1";
    let whole = folder("whole-products");
    let output = train(&whole, arguments, &[]);
    assert!(output.status.success(), "{output:?}");
    let report = std::fs::read_to_string(whole.join("report")).expect("the stand-in's report");
    let of_first_step = report
        .lines()
        .take_while(|line| !line.starts_with("launch adam"));
    let products = of_first_step
        .filter(|line| *line == "launch cublaslt")
        .count();
    assert!(products > 50, "{products} products are not a step's");

    let folder = folder("missing-product");
    let last = (products - 1).to_string();
    let output = train(&folder, arguments, &[("STAND_IN_PRODUCT_FAILS", &last)]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(32), "{text}");
    assert!(text.contains("cublasLtMatmul"), "{text}");
    let checkpoints = std::fs::read_dir(folder.join("run/checkpoints"));
    let saved = checkpoints.map_or(0, |files| files.count());
    assert_eq!(saved, 0, "{text}");
    for folder in [whole, folder] {
        std::fs::remove_dir_all(folder).expect("the folder goes");
    }
}

/// Both cards make the same passes, and the first one alone the update.
#[test]
fn two_cards_of_a_process_share_a_step() {
    let folder = folder("two-cards");
    let arguments = "--device cuda:0,cuda:1 --limit-train 24";
    let output = train(&folder, arguments, &[("STAND_IN_CARDS", "2")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let launches = |kernel: &str, card: &str| {
        let of_card = report.lines().filter_map(|line| {
            let name = line.strip_prefix("launch ")?;
            let (name, on) = name.split_once(" on ").unwrap_or((name, "0"));
            (on == card).then_some(name)
        });
        of_card.filter(|name| name.starts_with(kernel)).count()
    };
    // Three batches, each in a shard a card.
    for (kernel, of_first, of_second) in [("weigh", 3, 3), ("adam", 3, 0)] {
        let found = [launches(kernel, "0"), launches(kernel, "1")];
        assert_eq!(found, [of_first, of_second], "{kernel}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// `mpirun` of so many ranks of the trainer's program, each on the stand-in driver, with a stand-in for NCCL between them.
#[cfg(feature = "mpi")]
fn ranks(folder: &Path, count: usize, arguments: &str) -> Command {
    compile("cublaslt.c", &folder.join("libcublasLt.so"));
    compile("nccl.c", &folder.join("libnccl.so.2"));
    let libraries = std::env::join_paths([folder.to_owned(), wheels().join("cuda_nvrtc/lib")])
        .expect("no colon in a path");
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
        .args(arguments.split_whitespace())
        .env_remove("RESNET_VAE_PRODUCTS")
        .env("LD_LIBRARY_PATH", libraries)
        .env("CUDA_PATH", folder)
        .env("STAND_IN_CAPABILITY", "9.0")
        .env("STAND_IN_REPORT", folder.join("report"))
        .env("STAND_IN_COUNTS", "1")
        // The program has 4 e computed before it trusts a card.
        .env("STAND_IN_FIRST_READ", "10.873127")
        .current_dir(folder);
    command
}

/// What each rank sends fits what the others receive, and no rank sends more than twice the vector.
#[cfg(feature = "mpi")]
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
#[cfg(feature = "mpi")]
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
#[cfg(feature = "mpi")]
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
    // Both moments at least, and nothing as large is read twice besides.
    let largest = times.iter().rfind(|(_, times)| **times > 1);
    assert_eq!(largest.map(|(_, times)| *times), Some(3), "{times:?}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
