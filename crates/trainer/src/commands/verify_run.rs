use std::path::PathBuf;

use serde::Serialize;

use super::error::TrainerError;
use crate::commands::output::{print, print_json};
use crate::commands::path_argument::path;
use crate::device::open_device;
use crate::experiment::verify_run::{Finding, newest_intact, verify_run};
use run_files::settings::DeviceChoice;

#[derive(clap::Args)]
pub(super) struct VerifyRunFlags {
    /// Folder of the run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &VerifyRunFlags) -> Result<(), TrainerError> {
    let device = open_device(DeviceChoice::Flex)?;
    let findings = verify_run(&flags.run_dir, &device)?;
    let newest = newest_intact(&findings);
    if flags.json {
        print_json(&Verification {
            findings: &findings,
            newest_intact_checkpoint: newest.map(|position| position.folder_name()),
        })?;
    } else {
        let lines = findings.iter().map(|finding| match &finding.problem {
            None => format!("ok   {}\n", finding.name),
            Some(problem) => format!("BAD  {}: {problem}\n", finding.name),
        });
        print(&lines.collect::<String>())?;
    }
    match findings.iter().find(|finding| finding.problem.is_some()) {
        None => Ok(()),
        Some(first) => Err(TrainerError::RunDamaged {
            path: flags.run_dir.clone(),
            problems: findings
                .iter()
                .filter(|finding| finding.problem.is_some())
                .count(),
            newest: newest.map(|position| position.to_string()),
            exit_code: first.exit_code,
        }),
    }
}

/// What is printed for programs.
#[derive(Serialize)]
struct Verification<'a> {
    findings: &'a [Finding],
    newest_intact_checkpoint: Option<String>,
}
