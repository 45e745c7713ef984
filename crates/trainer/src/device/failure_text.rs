//! What a device reports, in one line.
//!
//! CubeCL's errors are several lines: what was asked for, what was skipped because of it, and at the end the cause, which is what users need.

/// Lines that say nothing of the cause.
const HEADINGS: [&str; 8] = [
    "caused by:",
    "backtrace:",
    "backtrace",
    "no backtrace available",
    "asked at:",
    "stack backtrace:",
    "[compilation error]",
    "several failures at once",
];
/// What CubeCL says of every error of a kind, and of everything that came after one.
const KINDS: [&str; 11] = [
    "an error happened during execution",
    "an io error happened",
    "a launch error happened",
    "a compilation error happened during launch",
    "an error caused the compilation to fail",
    "the bytes were never written",
    "the work was skipped",
    // Burn's own, which goes on in the next line.
    "error while reading data",
    "skipped `",
    "the device's step failed: several failures at once",
    "the device's step failed: an ",
];
/// Lines of a cause that are told, and characters of each.
const MOST_LINES: usize = 3;
const MOST_CHARACTERS: usize = 300;

/// The causes in a report, in one line; the report's first line where it names none.
pub(crate) fn causes(report: &str) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut is_source = false;
    for line in report.lines().map(str::trim) {
        let lower = line.to_lowercase();
        // NVRTC's report ends with the kernel.
        is_source = lower.starts_with("[source]")
            || is_source && !HEADINGS.iter().any(|heading| lower == *heading);
        // What a compiler shows of the source, with a mark below it.
        let is_shown = line.starts_with('#') || line == "^";
        if is_source || is_shown || line.is_empty() || is_frame(line) {
            continue;
        }
        let says_nothing = HEADINGS.iter().any(|heading| lower == *heading)
            || KINDS.iter().any(|kind| lower.starts_with(kind))
            || lower.ends_with("the walk may stop before the root)");
        if says_nothing || told.iter().any(|other| other == line) {
            continue;
        }
        told.push(line.to_owned());
        if told.len() == MOST_LINES {
            break;
        }
    }
    if told.is_empty() {
        told.extend(report.lines().next().map(str::to_owned));
    }
    let told = told.iter().map(|line| shortened(line));
    told.collect::<Vec<_>>().join(": ")
}

/// That a GPU launches what it should replay, and why.
pub(crate) fn launched(what: &str, reason: &str) -> String {
    format!(
        "{what} are launched kernel by kernel, because they cannot be captured as a graph: {}",
        causes(reason)
    )
}

/// Of a stack: `12: function`, or `at file`.
fn is_frame(line: &str) -> bool {
    let number = line.split_once(": ").map(|(number, _)| number);
    let is_numbered = number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_numbered || line.starts_with("at ")
}

/// The line up to where a library goes on to list names and to give advice.
fn shortened(line: &str) -> String {
    let line = [" - searched", ". "]
        .iter()
        .fold(line, |line, end| line.split(end).next().unwrap_or(line))
        .trim()
        .trim_end_matches(':');
    line.chars().take(MOST_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_told_and_not_what_came_of_it() {
        // By cubecl-runtime 0.11.3, where memory ran out below a step.
        let memory = "the device's step failed: Several failures at once\nCaused by:\n  The bytes were never written (failure #396, still \
            claiming 23 buffer(s))\n  skipped `Decide`: it needed memory ManagedMemoryId { value: 984 }, which carried the failure\n  (19 older \
            skip record(s) were dropped; the walk may stop before the root)\nCaused by:\n  An IO error happened\nCaused by:\n  out of device \
            memory allocating 209715200 bytes\nNo backtrace available\nAsked at:\nNo backtrace available";
        assert_eq!(
            causes(memory),
            "out of device memory allocating 209715200 bytes"
        );
        let header = "A launch error happened\nCaused by:\n  A compilation error happened during launch\nCaused by:\n  An error caused the \
            compilation to fail\nCaused by:\n  [Compilation Error] \n    default_program(1): catastrophic error: cannot open source file \
            \"cuda_bf16.h\"\n      #include <cuda_bf16.h>\n[Source]  \n#include <cuda_bf16.h>\nextern \"C\" void f() {}\nBacktrace:\n   0: main\n";
        assert!(
            causes(header).contains("cannot open source file \"cuda_bf16.h\""),
            "{}",
            causes(header)
        );
        assert!(!causes(header).contains("void f") && !causes(header).contains('#'));
    }

    #[test]
    fn a_report_without_causes_is_its_first_line() {
        assert_eq!(
            causes("cublasLtMatmul: cuBLAS status 13"),
            "cublasLtMatmul: cuBLAS status 13"
        );
        assert_eq!(causes("a fault\n  stack backtrace:\n  0: f"), "a fault");
        let only_kinds = "An error happened during execution\nCaused by:\n";
        assert_eq!(causes(only_kinds), "An error happened during execution");
        assert_eq!(causes(""), "");
    }
}
