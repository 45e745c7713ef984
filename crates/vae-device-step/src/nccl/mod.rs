//! Pieces of vectors from GPU to GPU by NVIDIA's NCCL, on the stream of the step's kernels.
//!
//! NCCL only moves them: each rank adds by itself, in an order that depends neither on the library's version nor on how the machines are wired. This
//! has never run between real GPUs; a stand-in for the library shows that what is sent and what is received fit together.

mod library;

use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use resnet_blocks::cube::{DeviceThread, FirstFailure, OnStream};

use self::library::{FLOAT32, IN_PROGRESS, UniqueId, library};
use crate::step::DeviceStep;
use crate::vector::DeviceVector;

/// The version of the library, such as `2.27.3`.
///
/// # Errors
/// Why it cannot be opened.
pub fn version() -> Result<String, String> {
    let library = library()?;
    let mut number = 0;
    // SAFETY: an out pointer to a local.
    library.checked("ncclGetVersion", unsafe {
        (library.get_version)(&mut number)
    })?;
    Ok(format!(
        "{}.{}.{}",
        number / 10_000,
        number / 100 % 100,
        number % 100
    ))
}

/// What the ranks find each other by: one of them makes it and tells the others.
#[derive(Clone, Copy)]
pub struct Id(UniqueId);

impl Id {
    /// A new one.
    ///
    /// # Errors
    /// What the library says.
    pub fn new() -> Result<Self, String> {
        let library = library()?;
        let mut id = UniqueId([0; 128]);
        // SAFETY: an out pointer to a local.
        library.checked("ncclGetUniqueId", unsafe {
            (library.get_unique_id)(&mut id)
        })?;
        Ok(Self(id))
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; 128] {
        self.0.0
    }

    /// With these bytes.
    pub fn from_bytes(bytes: [u8; 128]) -> Self {
        Self(UniqueId(bytes))
    }
}

/// Ranks that exchange vectors, seen from one of them. The library is never told that it is over: what it holds goes with the program.
pub struct Communicator {
    shared: Arc<Shared>,
    thread: DeviceThread,
}

/// A communicator that waits for the other ranks.
pub struct Joining {
    joined: Receiver<Result<Communicator, String>>,
}

struct Shared {
    /// Null once it was aborted.
    communicator: AtomicPtr<c_void>,
    failure: FirstFailure,
    /// Held by whoever calls the library with the communicator, and by whoever takes it away.
    in_use: Mutex<()>,
}

/// How long a call of the library is waited for before the communicator is taken away from it.
const GRACE: Duration = Duration::from_secs(1);

impl Joining {
    /// Has the step's device join `size` ranks as `rank`.
    ///
    /// # Errors
    /// If the device is none of CUDA's, or the library cannot be opened.
    pub fn start(step: &DeviceStep, id: Id, rank: usize, size: usize) -> Result<Self, String> {
        let library = library()?;
        let index = step.cuda_index().ok_or("NCCL joins CUDA's devices alone")?;
        let thread = DeviceThread::of(index);
        let (reply, joined) = channel();
        let of_communicator = thread.clone();
        // Having asked for a buffer makes the card's context current on that thread.
        let any = step.new_vector().handle(0..DeviceVector::ALIGNMENT);
        thread.submit([any], move |placed| {
            let mut communicator = std::ptr::null_mut();
            let joined = match placed {
                Err(report) => Err(format!("CubeCL's stream is not to be had: {report}")),
                // SAFETY: an out pointer to a local.
                Ok(_) => library.checked("ncclCommInitRank", unsafe {
                    (library.init_rank)(&mut communicator, size as i32, id.0, rank as i32)
                }),
            };
            let _ = reply.send(joined.map(|()| Communicator {
                shared: Arc::new(Shared {
                    communicator: AtomicPtr::new(communicator),
                    failure: FirstFailure::default(),
                    in_use: Mutex::new(()),
                }),
                thread: of_communicator,
            }));
        });
        thread.begin();
        Ok(Self { joined })
    }

    /// Waits so long for the other ranks; none where they have not all come.
    pub fn wait(&self, time: Duration) -> Option<Result<Communicator, String>> {
        match self.joined.recv_timeout(time) {
            Ok(joined) => Some(joined),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err("the thread of the device has ended".to_owned()))
            }
        }
    }
}

impl Communicator {
    /// Sends a piece of `from` to another rank and receives one of `into` from it, behind everything that this thread has launched. Does not wait; the
    /// other rank calls it with the same pieces exchanged.
    ///
    /// # Panics
    /// If a piece is not one of its vector's, or does not begin at a multiple of [`DeviceVector::ALIGNMENT`].
    pub fn exchange(
        &self,
        partner: usize,
        (from, sent): (&DeviceVector, Range<usize>),
        (into, received): (&DeviceVector, Range<usize>),
    ) {
        let lengths = [sent.len(), received.len()];
        let shared = self.shared.clone();
        // An empty piece is not looked at, but a handle has to have a value.
        let handle = |vector: &DeviceVector, piece: Range<usize>| match piece.is_empty() {
            true => vector.handle(0..DeviceVector::ALIGNMENT.min(vector.len())),
            false => vector.handle(piece),
        };
        let handles = [handle(from, sent), handle(into, received)];
        self.thread.submit(handles, move |placed| {
            let done = placed.and_then(|placed| shared.exchange(partner, &placed, lengths));
            if let Err(text) = done {
                shared.failure.note(text);
            }
        });
    }

    /// What has gone wrong, on this rank or on the way to another.
    pub fn failure(&self) -> Option<String> {
        let library = library().ok()?;
        if let Some(text) = self.shared.failure.text() {
            return Some(text);
        }
        let communicator = self.shared.communicator.load(Ordering::Relaxed);
        if communicator.is_null() {
            return Some("NCCL was given up".to_owned());
        }
        let mut status = 0;
        // SAFETY: the communicator is alive, and the library lets any thread ask.
        let asked = unsafe { (library.async_error)(communicator, &mut status) };
        let status = if asked == 0 { status } else { asked };
        (status != IN_PROGRESS)
            .then(|| library.checked("NCCL", status).err())
            .flatten()
    }

    /// Gives up what is under way, so that the device no longer waits for a rank that is lost.
    pub fn abort(&self) {
        let began = Instant::now();
        // A call that is about to begin may not use what is taken away; one that waits for a rank that is lost ends only thereby.
        let mut in_use = self.shared.in_use.try_lock();
        while matches!(in_use, Err(TryLockError::WouldBlock)) && began.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(1));
            in_use = self.shared.in_use.try_lock();
        }
        let communicator = self
            .shared
            .communicator
            .swap(std::ptr::null_mut(), Ordering::Relaxed);
        if let (Ok(library), false) = (library(), communicator.is_null()) {
            // SAFETY: nobody else has it any more but calls that the library lets be aborted.
            unsafe { (library.abort)(communicator) };
        }
    }
}

impl Shared {
    fn exchange(
        &self,
        partner: usize,
        placed: &OnStream,
        [sent, received]: [usize; 2],
    ) -> Result<(), String> {
        let library = library()?;
        let _in_use = self.in_use.lock();
        let communicator = self.communicator.load(Ordering::Relaxed);
        if communicator.is_null() {
            return Ok(());
        }
        let [from, into] = std::array::from_fn(|index| placed.addresses[index]);
        let peer = partner as i32;
        let status = |status| library.checked("NCCL", status);
        // SAFETY: the addresses are those of live allocations of these lengths, which stay in place meanwhile, and the stream is the one that
        // they are used on.
        unsafe {
            status((library.group_start)())?;
            let mut done = Ok(());
            if sent > 0 {
                let from = from as *const c_void;
                let sending =
                    (library.send)(from, sent, FLOAT32, peer, communicator, placed.stream);
                done = done.and(status(sending));
            }
            if received > 0 {
                let into = into as *mut c_void;
                let receiving =
                    (library.receive)(into, received, FLOAT32, peer, communicator, placed.stream);
                done = done.and(status(receiving));
            }
            // A group that was begun is ended.
            let ended = status((library.group_end)());
            done.and(ended)
        }
    }
}
