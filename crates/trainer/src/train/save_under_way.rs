//! A checkpoint that is written while a GPU goes on training.

use std::thread::{self, JoinHandle};

use run_files::checkpoint::{Checkpoint, CheckpointError, CheckpointFolder};

/// A thread that writes a checkpoint, and has it until it is written. Whoever drops this waits for the thread.
pub(super) struct SaveUnderWay(Option<JoinHandle<Saved>>);

/// What of older checkpoints could not be removed; or why nothing was written, and what was to be.
pub(super) type Saved = Result<Vec<CheckpointError>, Box<(CheckpointError, Checkpoint)>>;

impl SaveUnderWay {
    /// Begins to write.
    pub(super) fn begin(folder: CheckpointFolder, checkpoint: Checkpoint) -> Self {
        Self(Some(thread::spawn(move || {
            let saved = folder.save(&checkpoint);
            saved.map_err(|error| {
                // What is half written would take the room that the run's other files need.
                let _ = folder.remove_unfinished();
                Box::new((error, checkpoint))
            })
        })))
    }

    /// Whether nobody would have to wait.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What became of it.
    pub(super) fn wait(mut self) -> Saved {
        let thread = self.0.take().expect("taken here and at the end alone");
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for SaveUnderWay {
    fn drop(&mut self) {
        // The run ends for another reason, which is told.
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}
