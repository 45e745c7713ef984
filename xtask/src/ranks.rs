//! Starts the trainer as several ranks on this machine: `--ranks N`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, bail};

/// Where Open MPI ends ranks, as when another one was killed: seconds between SIGTERM and SIGKILL, in which rank 0 writes a checkpoint.
const SECONDS_TO_SAVE: &str = "8";
const INSTALL: &str =
    "install Open MPI (Debian: `apt-get install libopenmpi-dev openmpi-bin libclang-dev`)";

/// The commands that several ranks divide among themselves; of any other each rank would do all, and all would write the same files.
const COMMANDS: [&str; 2] = ["train", "bench-step"];

/// The number of `--ranks N` or `--ranks=N` of a command, and its other flags; none for 1.
pub(crate) fn taken(
    command: &str,
    flags: &[OsString],
) -> anyhow::Result<(Option<usize>, Vec<OsString>)> {
    let mut number = None;
    let mut others = Vec::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let text = flag.to_string_lossy();
        let given = if text == "--ranks" {
            flags
                .next()
                .map(|given| given.to_string_lossy().into_owned())
        } else if let Some(given) = text.strip_prefix("--ranks=") {
            Some(given.to_owned())
        } else {
            others.push(flag.clone());
            continue;
        };
        let given = given.context("`--ranks` needs a number")?;
        match given.parse::<usize>() {
            Ok(ranks) if ranks.is_power_of_two() => number = Some(ranks),
            _ => bail!("`--ranks {given}`: expected a power of two, such as 2, 4 or 8"),
        }
        if !COMMANDS.contains(&command) {
            bail!(
                "`--ranks {given}`: {command} runs on one rank; only {} use several",
                COMMANDS.join(" and ")
            );
        }
    }
    Ok((number.filter(|ranks| *ranks > 1), others))
}

/// `mpirun` for so many ranks, which share the processor evenly.
pub(crate) fn launcher(ranks: usize) -> anyhow::Result<Command> {
    let version = Command::new("mpirun").arg("--version").output();
    let version = version.with_context(|| format!("mpirun could not be started; {INSTALL}"))?;
    let is_open_mpi = String::from_utf8_lossy(&version.stdout).contains("Open MPI");
    let mut command = Command::new("mpirun");
    command.arg("-n").arg(ranks.to_string());
    if is_open_mpi {
        // Bound to one core, a rank would have no use of its other threads.
        command.args(["--bind-to", "none", "--oversubscribe"]);
        command.args(["--mca", "odls_base_sigkill_timeout", SECONDS_TO_SAVE]);
    }
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors / ranks).max(1);
        command.env("RAYON_NUM_THREADS", threads.to_string());
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_of(flags: &[&str]) -> anyhow::Result<(Option<usize>, Vec<OsString>)> {
        taken_by("train", flags)
    }

    fn taken_by(command: &str, flags: &[&str]) -> anyhow::Result<(Option<usize>, Vec<OsString>)> {
        let flags = flags.iter().map(OsString::from).collect::<Vec<_>>();
        taken(command, &flags)
    }

    #[test]
    fn a_command_that_ranks_do_not_divide_is_refused() {
        let flags = ["--run-dir", "run", "--ranks", "2"];
        for command in ["report", "evaluate", "bench-depths"] {
            let error = taken_by(command, &flags).expect_err(command);
            assert!(
                error.to_string().contains("train and bench-step"),
                "{error}"
            );
        }
        let (ranks, _) = taken_by("bench-step", &flags).expect("a number");
        assert_eq!(ranks, Some(2));
    }

    #[test]
    fn the_number_of_ranks_is_for_the_launcher_and_the_rest_for_the_trainer() {
        let others = |flags: &[&str]| flags.iter().map(OsString::from).collect::<Vec<_>>();
        for given in [&["--ranks", "4", "--json"][..], &["--json", "--ranks=4"]] {
            let (ranks, flags) = taken_of(given).expect("a number");
            assert_eq!((ranks, flags), (Some(4), others(&["--json"])));
        }
        let (ranks, flags) = taken_of(&["--depth", "28", "--ranks", "1"]).expect("a number");
        assert_eq!((ranks, flags), (None, others(&["--depth", "28"])));
        for given in [
            &["--ranks", "3"][..],
            &["--ranks"],
            &["--ranks=0"],
            &["--ranks=x"],
        ] {
            assert!(taken_of(given).is_err(), "{given:?}");
        }
    }
}
