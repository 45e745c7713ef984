//! What a machine needs for CUDA, and how it is told what is missing.

use super::failure_text::causes;

/// Where to get it all.
const NEEDED: &str = "CUDA needs NVIDIA's driver, and the toolkit's NVRTC library and headers (set CUDA_PATH where they \
                      are not in /usr/local/cuda; GTX 10 cards need a CUDA 12 toolkit); `--device flex` needs nothing";

/// How far an attempt to use a GPU came.
#[derive(Clone, Debug)]
pub(crate) enum CudaProblem {
    /// The driver's library cannot be loaded, or finds no card; with what was reported.
    NoDriver(String),
    /// The driver has fewer cards.
    NoCard {
        /// What was asked for.
        index: usize,
        /// How many it has.
        cards: usize,
    },
    /// A kernel could not be compiled or run; with what was reported.
    NoKernel(String),
    /// A kernel ran, and its result is wrong.
    WrongResult(f32),
}

impl CudaProblem {
    /// What is missing and where to get it, in one line.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::NoDriver(report) => {
                format!(
                    "NVIDIA's driver is missing or not working ({}); {NEEDED}",
                    causes(report)
                )
            }
            Self::NoCard { index, cards: 0 } => {
                format!("the driver finds no GPU, and number {index} was asked for; {NEEDED}")
            }
            Self::NoCard { index, cards } => format!(
                "there is no GPU {index}: the driver has {cards}, counted from 0 (CUDA_VISIBLE_DEVICES chooses among \
                 them); name another, or `--device flex`"
            ),
            Self::NoKernel(report) if is_too_new(report) => format!(
                "the driver refuses what the CUDA toolkit has compiled ({}), because the toolkit is newer than the driver: install a newer driver, or \
                 have LD_LIBRARY_PATH and CUDA_PATH name a toolkit no newer than the `CUDA Version` of `nvidia-smi`; `--device flex` needs neither",
                causes(report)
            ),
            Self::NoKernel(report) => format!(
                "the driver works, and a kernel could not be compiled or run ({}); {NEEDED}",
                causes(report)
            ),
            Self::WrongResult(sum) => format!("4 e came out as {sum}; {NEEDED}"),
        }
    }
}

/// Whether the driver does not know the version of a compiled kernel: error 222.
fn is_too_new(report: &str) -> bool {
    report.contains("UNSUPPORTED_PTX_VERSION")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceError;
    use run_files::settings::DeviceChoice;

    /// What cudarc 0.19.10 panics with where there is no driver; it lists 34 names.
    const NO_LIBRARY: &str = "Unable to dynamically load the \"cuda\" shared library - searched for library names: \
        [\"libcuda.so\", \"libcuda64.so\", \"libcuda.so.1\", \"libnvcuda.so.1\"]. Ensure that `LD_LIBRARY_PATH` has the \
        correct path to the installed library. If the shared library is present on the system under a different name \
        than one of those listed above, please open a GitHub issue.";

    /// What Burn says of a kernel that the driver refuses.
    const TOO_NEW: &str = "An error happened during execution\nCaused by:\n  A compilation error happened during launch\nCaused by:\n  Unable to \
        load the PTX: DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"the provided PTX was compiled with an unsupported toolchain.\")";

    fn message(problem: &CudaProblem) -> (String, u8) {
        let error = DeviceError::Unavailable {
            device: DeviceChoice::Cuda(0),
            reason: problem.reason(),
        };
        (error.to_string(), error.exit_code())
    }

    #[test]
    fn every_problem_is_one_line_with_the_next_step_and_the_code_of_a_device() {
        let nvrtc = "called `Result::unwrap()` on an `Err` value: cannot open cuda_fp16.h\n  stack backtrace:\n  0: f";
        for (problem, named) in [
            (CudaProblem::NoDriver(NO_LIBRARY.to_owned()), "driver"),
            (CudaProblem::NoDriver(String::new()), "driver"),
            (CudaProblem::NoCard { index: 0, cards: 0 }, "no GPU"),
            (CudaProblem::NoCard { index: 3, cards: 2 }, "no GPU 3"),
            (CudaProblem::NoKernel(nvrtc.to_owned()), "cuda_fp16.h"),
            (CudaProblem::NoKernel(TOO_NEW.to_owned()), "newer driver"),
            (CudaProblem::WrongResult(0.0), "0"),
        ] {
            let (message, code) = message(&problem);
            assert_eq!(code, 32, "{message}");
            assert!(message.starts_with("device `cuda:0` cannot be used: "));
            assert!(message.contains(named), "{message}");
            assert!(message.contains("--device flex"), "{message}");
            assert!(!message.contains('\n') && !message.contains("backtrace"));
        }
    }

    #[test]
    fn a_missing_driver_is_named_without_every_name_its_library_may_have() {
        let (message, _) = message(&CudaProblem::NoDriver(NO_LIBRARY.to_owned()));
        assert!(message.contains("\"cuda\" shared library"), "{message}");
        assert!(!message.contains("GitHub") && !message.contains("libnvcuda"));
        assert!(message.contains("NVRTC"), "{message}");
    }
}
