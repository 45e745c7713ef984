//! How and where a run is made.

use std::path::Path;

use crate::process::stop_request::StopRequest;
use crate::ranks::Ranks;

/// How and where a run is made, which no number of it depends on.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions<'a> {
    /// The run folder.
    pub run_dir: &'a Path,
    /// Continue the run in that folder, or begin one where there is none.
    pub resume: bool,
    /// Continue although the settings differ from those the run was begun with.
    pub allow_config_change: bool,
    /// Go back to the checkpoint of the best epoch and forget the newer ones; where there is none yet, to the newest.
    pub from_best: bool,
    /// Looked at before every step.
    pub stop: &'a StopRequest,
    /// Who shares each batch with this process; rank 0 alone uses the run folder.
    pub ranks: Option<&'a Ranks>,
}

impl<'a> TrainOptions<'a> {
    /// A new run in a folder that holds none.
    pub fn new(run_dir: &'a Path, stop: &'a StopRequest) -> Self {
        Self {
            run_dir,
            resume: false,
            allow_config_change: false,
            from_best: false,
            stop,
            ranks: None,
        }
    }
}
