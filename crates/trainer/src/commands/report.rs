use std::path::PathBuf;

use super::error::TrainerError;
use run_files::run_record::RunRecord;
use run_report::report::{REPORT, write_run_report};

#[derive(clap::Args)]
pub(super) struct ReportFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R")]
    run_dir: PathBuf,
    /// The page to write; default: report.html in the run's folder
    #[arg(long, value_name = "F.html")]
    out: Option<PathBuf>,
}

pub(super) fn run(flags: &ReportFlags) -> Result<(), TrainerError> {
    let record = RunRecord::read(&flags.run_dir)?;
    let out = match &flags.out {
        Some(out) => out.clone(),
        None => flags.run_dir.join(REPORT),
    };
    write_run_report(&out, &record)?;
    println!("{}", out.display());
    Ok(())
}
