use std::path::PathBuf;

use super::error::TrainerError;
use super::latents::measure;
use crate::commands::output::print_place;
use crate::commands::path_argument::{file_path, path};
use crate::experiment::latent_record::USUAL_IMAGES;
use crate::process::progress::{Progress, ProgressMode};
use run_files::run_record::RunRecord;
use run_files::settings::DeviceChoice;
use run_report::report::{REPORT, write_run_report, write_run_report_to};

#[derive(clap::Args)]
pub(super) struct ReportFlags {
    /// Folder of a finished run
    #[arg(long, value_name = "R", value_parser = path())]
    run_dir: PathBuf,
    /// The page to write; default: report.html in the run's folder
    #[arg(long, value_name = "F.html", value_parser = file_path())]
    out: Option<PathBuf>,
    /// Folder of the data set, for traversals and interpolations that are not drawn yet; default: the run's
    #[arg(long, value_name = "D", value_parser = path())]
    data_dir: Option<PathBuf>,
    #[arg(long, help = format!("Where those are computed: {}", DeviceChoice::FORMS), value_name = "X", default_value = "flex")]
    device: DeviceChoice,
}

pub(super) fn run(flags: &ReportFlags) -> Result<(), TrainerError> {
    let mut record = RunRecord::read(&flags.run_dir)?;
    if record.latents.is_none() {
        // A report without them is worth having: the data may be elsewhere, or the folder not writable.
        match measure(
            &record,
            USUAL_IMAGES,
            flags.data_dir.as_deref(),
            flags.device,
        ) {
            Ok(found) => record.latents = Some(found),
            Err(error) => Progress::new(ProgressMode::Plain).notice(&format!(
                "the report is without traversals, interpolations and mutual information: {error}"
            )),
        }
    }
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
