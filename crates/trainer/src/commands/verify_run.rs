use std::path::PathBuf;

use serde_json::json;

use super::error::TrainerError;
use crate::device::open_device;
use crate::experiment::verify_run::{newest_intact, verify_run};
use run_files::settings::DeviceChoice;

#[derive(clap::Args)]
pub(super) struct VerifyRunFlags {
    /// Folder of the run
    #[arg(long, value_name = "R")]
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
        let list: Vec<_> = findings
            .iter()
            .map(|finding| json!({ "name": finding.name, "problem": finding.problem }))
            .collect();
        let newest = newest.map(|position| position.folder_name());
        println!(
            "{:#}",
            json!({ "findings": list, "newest_intact_checkpoint": newest })
        );
    } else {
        for finding in &findings {
            match &finding.problem {
                None => println!("ok   {}", finding.name),
                Some(problem) => println!("BAD  {}: {problem}", finding.name),
            }
        }
    }
    match findings.iter().find(|finding| finding.problem.is_some()) {
        None => Ok(()),
        Some(first) => Err(TrainerError::RunDamaged {
            path: flags.run_dir.clone(),
            problems: findings
                .iter()
                .filter(|finding| finding.problem.is_some())
                .count(),
            newest: newest.map_or_else(|| "none".to_owned(), |position| position.to_string()),
            exit_code: first.exit_code,
        }),
    }
}
