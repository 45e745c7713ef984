//! Messages through the MPI library of the system.
//!
//! One thread makes all calls of MPI, so that the others may wait with a limit: it polls operations that do not block, answers
//! the question of other ranks whether this one is alive, also while the model computes, and asks the rank that it waits for.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, StaticScope, scope};
use mpi::topology::{Process, SimpleCommunicator};
use mpi::traits::{Communicator, Destination, Equivalence, MatchedReceiveVec, Source};

use super::{Message, RanksError, Spent, Transport};
use crate::process::stop_request::StopRequest;

/// Tags of messages.
const NUMBERS: i32 = 1;
const VALUES: i32 = 2;
const TEXT: i32 = 3;
const IS_ALIVE: i32 = 4;
const ALIVE: i32 = 5;
const FAILED: i32 = 6;

/// How often the thread looks for questions where nothing is asked of it.
const IDLE: Duration = Duration::from_millis(100);
/// How often it asks the rank that it waits for whether it is alive.
const ASKING: Duration = Duration::from_secs(1);
/// How long that rank may be silent where this one was asked to stop: launchers do so when a rank has died, and kill soon after.
const SILENCE_AT_STOP: Duration = Duration::from_secs(4);
/// How long the end may take once all ranks have come to it.
const FINALIZE: Duration = Duration::from_secs(10);

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

enum Command {
    Exchange(usize, Message, Sender<Result<Message, RanksError>>),
    Watch(Sender<Result<(), RanksError>>),
    Fail(u8, Sender<()>),
    Hear(Duration, Sender<bool>),
    End(Sender<()>),
    Abort(u8),
}

/// The way to the other ranks.
pub(super) struct Mpi {
    rank: usize,
    size: usize,
    commands: Sender<Command>,
    spent: Arc<Mutex<Spent>>,
}

impl Mpi {
    /// Starts MPI. `timeout` is how long a rank that is waited for may give no sign of life.
    pub(super) fn start(timeout: Duration, stop: &StopRequest) -> Result<Self, RanksError> {
        let (commands, received) = channel();
        let (started, start) = channel();
        let spent = Arc::new(Mutex::new(Spent::default()));
        let (of_thread, stop) = (spent.clone(), stop.clone());
        std::thread::spawn(move || {
            let Some((universe, _)) = mpi::initialize_with_threading(Threading::Serialized) else {
                return;
            };
            let world = universe.world();
            let _ = started.send((world.rank() as usize, world.size() as usize));
            let thread = MpiThread {
                universe: Some(universe),
                world,
                commands: received,
                spent: of_thread,
                timeout,
                stop,
                watched: Vec::new(),
                signs: Signs::default(),
            };
            thread.work();
        });
        let (rank, size) = start.recv().map_err(|_| RanksError::NotStarted {
            reason: "it has been started already".to_owned(),
        })?;
        Ok(Self {
            rank,
            size,
            commands,
            spent,
        })
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&mut self, other: usize, message: Message) -> Result<Message, RanksError> {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Exchange(other, message, reply));
        replied.recv().unwrap_or(Err(RanksError::Lost {
            rank: other,
            size: self.size,
            seconds: 0,
        }))
    }

    fn watch(&mut self) -> Result<(), RanksError> {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Watch(reply));
        // A thread that does not answer waits for the end itself.
        replied.recv_timeout(FINALIZE).unwrap_or(Ok(()))
    }

    fn fail(&mut self, code: u8) {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Fail(code, reply));
        let _ = replied.recv_timeout(FINALIZE);
    }

    fn hears_of_end(&mut self, within: Duration) -> bool {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::Hear(within, reply));
        replied.recv_timeout(within + FINALIZE).unwrap_or(false)
    }

    fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self) {
        let (reply, replied) = channel();
        let _ = self.commands.send(Command::End(reply));
        let _ = replied.recv_timeout(FINALIZE);
    }

    fn abort(&self, code: u8) {
        let _ = self.commands.send(Command::Abort(code));
        std::thread::sleep(FINALIZE);
        // The library did not manage it.
        std::process::exit(i32::from(code));
    }
}

/// The thread that makes all calls.
struct MpiThread {
    universe: Option<Universe>,
    world: SimpleCommunicator,
    commands: Receiver<Command>,
    spent: Arc<Mutex<Spent>>,
    timeout: Duration,
    stop: StopRequest,
    /// Those that are waited for outside of MPI, by the GPU; none where nobody has asked for a while.
    watched: Vec<Waiting>,
    signs: Signs,
}

/// Messages of one byte, which nobody waits for: a rank that is stopped or cut off, or was never connected to, takes none.
#[derive(Default)]
struct Signs(RefCell<Vec<Request<'static, [u8], StaticScope>>>);

impl Signs {
    fn send(&self, process: &Process, code: u8, tag: i32) {
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
struct Waiting {
    other: usize,
    /// Time in which this process ran itself: one that was stopped blames nobody.
    silence: Duration,
    looked: Instant,
    asked: Instant,
    looks: u32,
}

impl MpiThread {
    fn work(mut self) {
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

    /// Looks after all other ranks, since the first call after a message.
    fn watch(&mut self) -> Result<(), RanksError> {
        if self.watched.is_empty() {
            let own = self.world.rank() as usize;
            let all = 0..self.world.size() as usize;
            let others = all.filter(|other| *other != own);
            self.watched = others.map(Waiting::new).collect();
        }
        self.answer();
        let mut watched = std::mem::take(&mut self.watched);
        let lost = watched.iter_mut().find_map(|waiting| self.silence(waiting));
        self.watched = watched;
        match self.told_end().or(lost) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Another rank's word that it has ended with an error.
    fn told_end(&self) -> Option<RanksError> {
        let any = self.world.any_process();
        let found = any.immediate_matched_probe_with_tag(FAILED)?;
        Some(RanksError::Ended {
            rank: found.1.source_rank() as usize,
            size: self.world.size() as usize,
            code: found.matched_receive_vec::<u8>().0[0],
        })
    }

    /// Asks a rank whether it is alive, and counts how long it has not been; an error where that is too long.
    fn silence(&self, waiting: &mut Waiting) -> Option<RanksError> {
        let process = self.world.process_at_rank(waiting.other as i32);
        while let Some(found) = process.immediate_matched_probe_with_tag(ALIVE) {
            drop(found.matched_receive_vec::<u8>());
            waiting.silence = Duration::ZERO;
        }
        waiting.silence += waiting.looked.elapsed().min(ASKING);
        waiting.looked = Instant::now();
        if waiting.asked.elapsed() > ASKING {
            self.signs.send(&process, 0, IS_ALIVE);
            waiting.asked = Instant::now();
        }
        let limit = match self.stop.requested() {
            Some(_) => self.timeout.min(SILENCE_AT_STOP),
            None => self.timeout,
        };
        (waiting.silence > limit).then(|| RanksError::Lost {
            rank: waiting.other,
            size: self.world.size() as usize,
            seconds: waiting.silence.as_secs(),
        })
    }

    /// Tells all others with which exit code this rank ends, and waits for none of them: one that was stopped or cut off takes no message.
    fn tell_end(&self, code: u8, reply: &Sender<()>) {
        for other in 0..self.world.size() {
            if other != self.world.rank() {
                let process = self.world.process_at_rank(other);
                self.signs.send(&process, code, FAILED);
            }
        }
        let began = Instant::now();
        while began.elapsed() < IDLE {
            // Calls are what moves messages.
            self.answer();
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = reply.send(());
    }

    /// Whether another rank has told its end, or does so within some time.
    fn listen(&self, within: Duration, reply: &Sender<bool>) {
        let began = Instant::now();
        let any = self.world.any_process();
        let mut hears = any.immediate_probe_with_tag(FAILED).is_some();
        while !hears && began.elapsed() < within {
            self.answer();
            std::thread::sleep(Duration::from_millis(10));
            hears = any.immediate_probe_with_tag(FAILED).is_some();
        }
        let _ = reply.send(hears);
    }

    /// Tells those who ask that this process is alive.
    fn answer(&self) {
        let any = self.world.any_process();
        while let Some(found) = any.immediate_matched_probe_with_tag(IS_ALIVE) {
            let from = found.1.source_rank();
            drop(found.matched_receive_vec::<u8>());
            let process = self.world.process_at_rank(from);
            self.signs.send(&process, 0, ALIVE);
        }
    }
}

impl Waiting {
    fn new(other: usize) -> Self {
        Self {
            other,
            silence: Duration::ZERO,
            looked: Instant::now(),
            asked: Instant::now(),
            looks: 0,
        }
    }
}

/// Takes a request away once it is complete.
fn poll<'a, D: ?Sized, S: Scope<'a>>(request: &mut Option<Request<'a, D, S>>) {
    if let Some(pending) = request.take() {
        *request = pending.test().err();
    }
}
