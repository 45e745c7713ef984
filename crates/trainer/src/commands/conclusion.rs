//! How the ranks of a run end: with one exit code, and one of them saying why.

use std::io::Write;
use std::time::Duration;

use super::error::TrainerError;
use crate::ranks::{Ranks, RanksError, launcher};
use crate::timing::TimingError;
use crate::train::TrainError;

/// How long a rank leaves the word, and the end of all, to another.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the others leave the end of all to rank 0, which writes a checkpoint first. Some schedulers kill all ranks at once where any of them ends all.
const SAVING: Duration = Duration::from_secs(20);
/// How long each rank that has noticed a loss leaves the word to those before it, and how many of them at most.
const TURN: Duration = Duration::from_secs(1);
const LAST_TURN: usize = 4;
/// How long a rank with an error of its own listens whether rank 0 has the same.
const LISTENING: Duration = Duration::from_secs(3);

/// The error of a rank that cannot reach the others: the first one says it for all, which have the same.
pub(crate) fn unconnected(error: RanksError) -> TrainerError {
    let exit_code = error.exit_code();
    match launcher::rank(&|name| std::env::var(name).ok()) {
        0 => TrainError::Ranks(error).into(),
        _ => TrainerError::Said { exit_code },
    }
}

/// Ends this rank's part in a run. A process on its own is left as it is.
pub(crate) fn conclude(ranks: &Ranks, made: Result<(), TrainerError>) -> Result<(), TrainerError> {
    if ranks.size() == 1 {
        return made;
    }
    let made = match made {
        // Whatever rank 0 still has to write, or the error that it ends with, decides.
        Ok(()) => ranks
            .meet()
            .map_err(|error| TrainError::Ranks(error).into()),
        Err(error) if is_everyones(&error) && !ranks.is_first() => match ranks.meet() {
            Err(RanksError::Ended { rank: 0, code, .. }) => {
                Err(TrainError::Ranks(RanksError::Ended {
                    rank: 0,
                    size: ranks.size(),
                    code,
                })
                .into())
            }
            _ => Err(error),
        },
        made => made,
    };
    let Err(error) = made else {
        ranks.end();
        return Ok(());
    };
    let code = error.exit_code();
    let of_ranks = match &error {
        TrainerError::Train(TrainError::Ranks(error))
        | TrainerError::Timing(TimingError::Ranks(error)) => Some(error),
        _ => None,
    };
    let patience = match of_ranks {
        Some(RanksError::Lost { rank: 0, .. }) => PATIENCE,
        _ if ranks.is_first() => PATIENCE,
        _ => SAVING,
    };
    match of_ranks {
        // That rank says why.
        Some(RanksError::Ended { .. }) => std::thread::sleep(patience),
        // Whoever notices says so, but for those whom another one has told meanwhile; the lower the rank, the sooner it speaks.
        Some(RanksError::Lost { rank, .. }) => {
            let before = ranks.rank() - usize::from(*rank < ranks.rank());
            let turn = TURN * u32::try_from(before.min(LAST_TURN)).unwrap_or(0);
            let is_said = ranks.hears_of_end(turn);
            if !is_said {
                ranks.fail(code);
                say(ranks, &error);
            }
            if is_said || !ranks.is_first() && *rank != 0 {
                std::thread::sleep(patience);
            }
        }
        _ if ranks.is_first() => {
            say(ranks, &error);
            ranks.fail(code);
        }
        _ => {
            ranks.fail(code);
            // Where all machines lack the same file, one rank says so.
            if !ranks.hears_of_end(LISTENING) {
                say(ranks, &error);
            }
            std::thread::sleep(patience);
        }
    }
    ranks.abort(code);
    Err(TrainerError::Said { exit_code: code })
}

/// Whether all ranks have the same error at the same time, so that rank 0 says it.
fn is_everyones(error: &TrainerError) -> bool {
    let TrainerError::Train(error) = error else {
        return false;
    };
    match error {
        TrainError::Stopped { .. } | TrainError::Diverged { .. } => true,
        TrainError::Ranks(error) => !error.is_loss(),
        _ => false,
    }
}

fn say(ranks: &Ranks, error: &TrainerError) {
    let rank = if ranks.is_first() {
        String::new()
    } else {
        format!("rank {} of {}: ", ranks.rank(), ranks.size())
    };
    let mut stderr = std::io::stderr();
    // In one piece: the launcher and other ranks write to the same terminal.
    let _ = stderr.write_all(format!("error: {rank}{error}\n").as_bytes());
    let _ = stderr.flush();
}
