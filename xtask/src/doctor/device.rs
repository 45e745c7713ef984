//! Whether the device that runs are to use is there.

use std::path::{Path, PathBuf};

use run_files::settings::DeviceChoice;

use super::Finding;
use super::checks::first_line;

pub(super) fn check(device: DeviceChoice) -> Vec<Finding> {
    match device {
        DeviceChoice::Cuda(index) => vec![driver(index), compiler()],
        DeviceChoice::Vulkan(index) => vec![loader(index)],
        other if other.gpu_index().is_none() => {
            vec![Finding::ok("device", format!("{other}, on processors"))]
        }
        // A GPU that somebody adds.
        #[allow(unreachable_patterns)]
        other => vec![Finding::warn(
            "device",
            format!("what {other} needs is not known here"),
            "start a short run: it says what is missing",
        )],
    }
}

/// Vulkan's loader and a driver for it.
fn loader(index: usize) -> Finding {
    let install =
        "install a driver for Vulkan (on Debian `mesa-vulkan-drivers`), or use --device flex";
    let library = find(
        &["libvulkan.so.1", "libvulkan.so", "libMoltenVK.dylib"],
        &driver_folders(),
    );
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let has_driver = drivers
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .any(|mut files| files.next().is_some());
    match library {
        Some(library) if has_driver || std::env::var_os("VK_ICD_FILENAMES").is_some() => {
            Finding::ok("device", format!("vulkan:{index} by {}", library.display()))
        }
        Some(_) => Finding::red("device", 32, "Vulkan without a driver", install),
        None => Finding::red(
            "device",
            32,
            "no loader for Vulkan (libvulkan.so.1)",
            install,
        ),
    }
}

/// The driver, by its own program or else by its library.
fn driver(index: usize) -> Finding {
    let install =
        "install NVIDIA's driver, then see that `nvidia-smi` lists the card; or use --device flex";
    let arguments = [
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader",
    ];
    let card = first_line(
        "nvidia-smi",
        &[&arguments[..], &["-i", &index.to_string()]].concat(),
    );
    match card {
        Some(card) => Finding::ok("device", format!("cuda:{index} is {card}")),
        None if first_line("nvidia-smi", &["-L"]).is_some() => Finding::red(
            "device",
            32,
            format!("there is no cuda:{index}"),
            "`nvidia-smi -L` lists the cards there are",
        ),
        None if find(&["libcuda.so.1", "libcuda.so"], &driver_folders()).is_some() => {
            Finding::warn(
                "device",
                "the driver's library is here, and nvidia-smi is not: no card could be listed",
                install,
            )
        }
        None => Finding::red("device", 32, "no NVIDIA driver", install),
    }
}

/// The compiler of kernels, and the headers that it reads.
fn compiler() -> Finding {
    let fix = "install CUDA's NVRTC and headers (cuda-nvrtc and cuda-cudart-dev, version 12), and set CUDA_PATH";
    let library = find(
        &[
            "libnvrtc.so",
            "libnvrtc.so.12",
            "libnvrtc.so.13",
            "libnvrtc.so.11.2",
        ],
        &toolkit_folders("lib64"),
    );
    let header = find(&["cuda_runtime.h"], &toolkit_folders("include"));
    match (library, header) {
        (Some(library), Some(_)) => Finding::ok("kernel compiler", library.display().to_string()),
        (None, _) => Finding::red("kernel compiler", 32, "no NVRTC", fix),
        (_, None) => Finding::red("kernel compiler", 32, "NVRTC without CUDA's headers", fix),
    }
}

fn find(names: &[&str], folders: &[PathBuf]) -> Option<PathBuf> {
    let paths = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    paths.into_iter().find(|path| path.exists())
}

/// Where the loader looks for libraries.
fn driver_folders() -> Vec<PathBuf> {
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/wsl/lib",
    ];
    std::env::split_paths(&listed)
        .chain(usual.map(PathBuf::from))
        .collect()
}

/// `subfolder` of every toolkit that may be installed.
fn toolkit_folders(subfolder: &str) -> Vec<PathBuf> {
    let named = ["CUDA_PATH", "CUDA_HOME"].map(std::env::var_os);
    let mut folders: Vec<PathBuf> = named
        .into_iter()
        .flatten()
        .map(|folder| Path::new(&folder).join(subfolder))
        .collect();
    folders.push(Path::new("/usr/local/cuda").join(subfolder));
    if subfolder == "include" {
        folders.push("/usr/include".into());
    } else {
        folders.extend(driver_folders());
    }
    folders
}
