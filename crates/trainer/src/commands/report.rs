use std::path::PathBuf;

use super::error::TrainerError;
use crate::commands::output::print_place;
use crate::commands::path_argument::path;
use run_files::run_record::RunRecord;
use run_report::report::{REPORT, write_run_report, write_run_report_to};

#[derive(clap::Args)]
pub(super) struct ReportFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// The page to write; default: report.html in the run's folder
    #[arg(long, value_name = "F.html", value_parser = path())]
    out: Option<PathBuf>,
}

pub(super) fn run(flags: &ReportFlags) -> Result<(), TrainerError> {
    let record = RunRecord::read(&flags.run_dir)?;
    let out = match &flags.out {
        Some(out) => {
            write_run_report_to(out, &record)?;
            out.clone()
        }
        None => {
            let out = flags.run_dir.join(REPORT);
            write_run_report(&out, &record)?;
            out
        }
    };
    print_place(&out)
}
