//! The thread that makes all calls of MPI: what it is asked for, and messages.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Equivalence, Source};

use super::signs::{Signs, Waiting};
use crate::process::stop_request::StopRequest;
use crate::ranks::error::RanksError;
use crate::ranks::transport::{Message, Spent};

/// Tags of messages.
const NUMBERS: i32 = 1;
const VALUES: i32 = 2;
const TEXT: i32 = 3;

/// How often the thread looks for questions where nothing is asked of it.
pub(super) const IDLE: Duration = Duration::from_millis(100);

pub(super) enum Command {
    Exchange(usize, Message, Sender<Result<Message, RanksError>>),
    Watch(Sender<Result<(), RanksError>>),
    Fail(u8, Sender<()>),
    Hear(Duration, Sender<bool>),
    End(Sender<()>),
    Abort(u8),
}

/// The thread that makes all calls.
pub(super) struct MpiThread {
    pub(super) universe: Option<Universe>,
    pub(super) world: SimpleCommunicator,
    pub(super) commands: Receiver<Command>,
    pub(super) spent: Arc<Mutex<Spent>>,
    pub(super) timeout: Duration,
    pub(super) stop: StopRequest,
    /// Those that are waited for outside of MPI, by the GPU; none where nobody has asked for a while.
    pub(super) watched: Vec<Waiting>,
    pub(super) signs: Signs,
}

impl MpiThread {
    pub(super) fn work(mut self) {
        loop {
            match self.commands.recv_timeout(IDLE) {
                Ok(Command::Exchange(other, message, reply)) => {
                    self.exchange(other, &message, &reply);
                }
                Ok(Command::Watch(reply)) => {
                    let _ = reply.send(self.watch());
                }
                Ok(Command::Fail(code, reply)) => self.tell_end(code, &reply),
                Ok(Command::Hear(within, reply)) => self.listen(within, &reply),
                Ok(Command::End(reply)) => {
                    // Finalizes.
                    drop(self.universe.take());
                    let _ = reply.send(());
                    return;
                }
                Ok(Command::Abort(code)) => self.world.abort(i32::from(code)),
                Err(RecvTimeoutError::Timeout) => self.answer(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Sends a message and receives one. After a failure operations are left that can neither end nor be taken back, so the thread
    /// then waits for the end of the process.
    fn exchange(
        &mut self,
        other: usize,
        message: &Message,
        reply: &Sender<Result<Message, RanksError>>,
    ) {
        self.watched.clear();
        let process = self.world.process_at_rank(other as i32);
        let mut waiting = Waiting::new(other);
        let began = Instant::now();
        let lengths = [message.values.len() as f64, message.text.len() as f64];
        let head: Vec<f64> = lengths
            .into_iter()
            .chain(message.numbers.iter().copied())
            .collect();
        let values = message.values.as_slice();
        let text = message.text.as_bytes();
        let received = scope(|sends| {
            let mut of_head = Some(process.immediate_send_with_tag(sends, &head[..], NUMBERS));
            let mut of_values = (!values.is_empty())
                .then(|| process.immediate_send_with_tag(sends, values, VALUES));
            let mut of_text =
                (!text.is_empty()).then(|| process.immediate_send_with_tag(sends, text, TEXT));

            let found_head = loop {
                if let Some(head) = process.immediate_matched_probe_with_tag(NUMBERS) {
                    break head;
                }
                self.look(&mut waiting, reply);
            };
            let arrived = Instant::now();
            let mut found = vec![0.0_f64; found_head.1.count(f64::equivalent_datatype()) as usize];
            scope(|receives| {
                let found = found.as_mut_slice();
                let mut awaited =
                    Some(found_head.0.immediate_matched_receive_into(receives, found));
                while awaited.is_some() {
                    poll(&mut awaited);
                    self.look(&mut waiting, reply);
                }
            });
            let mut values = vec![0.0_f32; found[0] as usize];
            let mut text = vec![0_u8; found[1] as usize];
            scope(|receives| {
                let values = values.as_mut_slice();
                let mut awaited = (!values.is_empty()).then(|| {
                    process.immediate_receive_into_with_tag(receives, &mut *values, VALUES)
                });
                let text = text.as_mut_slice();
                let mut awaited_text = (!text.is_empty())
                    .then(|| process.immediate_receive_into_with_tag(receives, &mut *text, TEXT));
                loop {
                    poll(&mut awaited);
                    poll(&mut awaited_text);
                    poll(&mut of_head);
                    poll(&mut of_values);
                    poll(&mut of_text);
                    let are_there = awaited.is_none() && awaited_text.is_none();
                    if are_there && of_head.is_none() && of_values.is_none() && of_text.is_none() {
                        break;
                    }
                    self.look(&mut waiting, reply);
                }
            });
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.waiting += arrived - began;
            spent.transfer += arrived.elapsed();
            spent.bytes += (8 * head.len() + 4 * message.values.len() + message.text.len()) as u64;
            Message {
                numbers: found[2..].to_vec(),
                values,
                text: String::from_utf8_lossy(&text).into_owned(),
            }
        });
        let _ = reply.send(Ok(received));
    }

    /// Does what is due while another rank is waited for; does not return where that is in vain.
    fn look(&self, waiting: &mut Waiting, reply: &Sender<Result<Message, RanksError>>) {
        waiting.looks += 1;
        if waiting.looks < 2_000 {
            std::thread::yield_now();
            if !waiting.looks.is_multiple_of(64) {
                return;
            }
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
        self.answer();
        let Some(error) = self.told_end().or_else(|| self.silence(waiting)) else {
            return;
        };
        let _ = reply.send(Err(error));
        loop {
            match self.commands.recv_timeout(IDLE) {
                Ok(Command::Fail(code, reply)) => self.tell_end(code, &reply),
                Ok(Command::Hear(within, reply)) => self.listen(within, &reply),
                Ok(Command::Abort(code)) => self.world.abort(i32::from(code)),
                // Nothing else is possible any more.
                Ok(Command::Exchange(..) | Command::Watch(_) | Command::End(_)) => {}
                // Nobody has to blame this rank too while it writes a checkpoint.
                Err(RecvTimeoutError::Timeout) => self.answer(),
                Err(RecvTimeoutError::Disconnected) => std::thread::park(),
            }
        }
    }
}

/// Takes a request away once it is complete.
fn poll<'a, D: ?Sized, S: Scope<'a>>(request: &mut Option<Request<'a, D, S>>) {
    if let Some(pending) = request.take() {
        *request = pending.test().err();
    }
}
