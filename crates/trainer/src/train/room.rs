//! What takes room beside the checkpoints of a run.

use crate::process::progress::Progress;
use run_files::checkpoint::CheckpointError;

/// Room for pictures, metrics and everything else that is small, in bytes.
pub(super) const SMALL_FILES: u64 = 16 << 20;

/// What could not be cleared away takes room, and harms nothing.
pub(super) fn tell_left(left: &[CheckpointError], progress: &mut Progress) {
    for error in left {
        if let CheckpointError::File { path, source } = error {
            let path = path.display();
            progress.notice_once(&format!(
                "{path} could not be removed ({source}); it is no part of the run, and can be removed by hand"
            ));
        }
    }
}
