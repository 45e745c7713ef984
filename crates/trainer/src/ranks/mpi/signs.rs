//! Signs of life, and of its end: messages of one byte, and how long there has been none.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use mpi::request::{Request, StaticScope};
use mpi::topology::Process;
use mpi::traits::Destination;

/// Tags of messages.
pub(super) const IS_ALIVE: i32 = 4;
pub(super) const ALIVE: i32 = 5;
pub(super) const FAILED: i32 = 6;

/// Every exit code, to be sent from.
static CODES: [u8; 256] = {
    let mut codes = [0; 256];
    let mut code = 0;
    while code < 256 {
        codes[code] = code as u8;
        code += 1;
    }
    codes
};

/// Messages of one byte, which nobody waits for: a rank that is stopped or cut off, or was never connected to, takes none.
#[derive(Default)]
pub(super) struct Signs(RefCell<Vec<Request<'static, [u8], StaticScope>>>);

impl Signs {
    pub(super) fn send(&self, process: &Process, code: u8, tag: i32) {
        let code = &CODES[usize::from(code)..=usize::from(code)];
        let mut sent = self.0.borrow_mut();
        let under_way = std::mem::take(&mut *sent).into_iter();
        sent.extend(under_way.filter_map(|sign| sign.test().err()));
        sent.push(process.immediate_send_with_tag(StaticScope, code, tag));
    }
}

impl Drop for Signs {
    fn drop(&mut self) {
        // What they send is there for good.
        self.0.take().into_iter().for_each(std::mem::forget);
    }
}

/// How long a rank has been waited for without a sign of life.
pub(super) struct Waiting {
    pub(super) other: usize,
    /// Time in which this process ran itself: one that was stopped blames nobody.
    pub(super) silence: Duration,
    pub(super) looked: Instant,
    pub(super) asked: Instant,
    pub(super) looks: u32,
}

impl Waiting {
    pub(super) fn new(other: usize) -> Self {
        Self {
            other,
            silence: Duration::ZERO,
            looked: Instant::now(),
            asked: Instant::now(),
            looks: 0,
        }
    }
}
