//! Makes the n-th operation of this thread fail.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The device reports an error.
    InputOutput,
    /// The disk is full.
    NoSpace,
    /// Half of the bytes reach the file, then the disk is full; other operations fail at once.
    ShortWrite,
    /// The process dies.
    Abort,
}

struct Plan {
    remaining: usize,
    failure: Failure,
}

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    static COUNT: RefCell<usize> = const { RefCell::new(0) };
}

/// Runs `action` with its `index`-th operation, from 0, failing.
pub(crate) fn with_failure<T>(index: usize, failure: Failure, action: impl FnOnce() -> T) -> T {
    PLAN.with_borrow_mut(|plan| {
        *plan = Some(Plan {
            remaining: index,
            failure,
        })
    });
    let result = action();
    PLAN.with_borrow_mut(|plan| *plan = None);
    result
}

/// How many operations `action` makes.
pub(crate) fn count(action: impl FnOnce()) -> usize {
    COUNT.with_borrow_mut(|count| *count = 0);
    action();
    COUNT.with_borrow(|count| *count)
}

/// The failure that is due now, if one is; a failed operation stays the only one.
fn due() -> Option<Failure> {
    COUNT.with_borrow_mut(|count| *count += 1);
    PLAN.with_borrow_mut(|plan| match plan {
        Some(Plan {
            remaining: 0,
            failure,
        }) => {
            let failure = *failure;
            *plan = None;
            Some(failure)
        }
        Some(Plan { remaining, .. }) => {
            *remaining -= 1;
            None
        }
        None => None,
    })
}

fn error(failure: Failure) -> io::Error {
    match failure {
        Failure::InputOutput => io::Error::from_raw_os_error(5),
        Failure::NoSpace | Failure::ShortWrite => io::Error::from_raw_os_error(28),
        Failure::Abort => std::process::abort(),
    }
}

pub(crate) fn may_fail(_operation: &'static str) -> io::Result<()> {
    due().map_or(Ok(()), |failure| Err(error(failure)))
}

pub(crate) fn before_write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let Some(failure) = due() else { return Ok(()) };
    // A process that dies while it writes leaves a part, too.
    if matches!(failure, Failure::ShortWrite | Failure::Abort) {
        file.write_all(&bytes[..bytes.len() / 2])?;
    }
    Err(error(failure))
}
