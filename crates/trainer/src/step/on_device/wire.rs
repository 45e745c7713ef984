//! How the sums of a step get from rank to rank: from GPU to GPU by NCCL, or through the hosts by MPI.

use std::ops::Range;

use vae_device_step::{DeviceStep, DeviceVector};

use super::checked::checked;
use crate::ranks::piecewise_sum::Wire;
use crate::ranks::{Message, Ranks, RanksError};

/// The way between the GPUs of a run's ranks.
pub(super) struct Link {
    #[cfg(feature = "cuda")]
    nccl: Option<vae_device_step::nccl::Communicator>,
    name: String,
}

impl Link {
    /// By NCCL where all ranks have it, and through the hosts otherwise.
    ///
    /// # Errors
    /// Where another rank is lost.
    #[cfg(feature = "cuda")]
    pub(super) fn between(ranks: &Ranks, step: &DeviceStep) -> Result<Self, RanksError> {
        let (nccl, name) = match nccl::joined(ranks, step)? {
            Ok((communicator, version)) => (Some(communicator), format!("NCCL {version}")),
            Err(reason) => (None, format!("MPI, through the hosts ({reason})")),
        };
        Ok(Self { nccl, name })
    }

    /// Through the hosts.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "cuda"))]
    pub(super) fn between(_: &Ranks, _: &DeviceStep) -> Result<Self, RanksError> {
        let name = "MPI, through the hosts".to_owned();
        Ok(Self { name })
    }

    /// What moves the sums.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The way between these ranks' vectors.
    pub(super) fn wire<'a>(&'a self, ranks: &'a Ranks) -> Box<dyn Wire + 'a> {
        #[cfg(feature = "cuda")]
        if let Some(communicator) = &self.nccl {
            return Box::new(nccl::Direct(communicator, ranks));
        }
        Box::new(ThroughHosts(ranks))
    }

    /// Does what waits for the GPUs of other ranks, and ends the waiting where one of them is lost: only the hosts see that, and a call that
    /// waits for a GPU does not look up.
    ///
    /// # Errors
    /// What `work` gives, or the rank that is lost.
    #[cfg(feature = "cuda")]
    pub(super) fn watched<T>(
        &self,
        ranks: &Ranks,
        work: impl FnOnce() -> Result<T, RanksError>,
    ) -> Result<T, RanksError> {
        let Some(communicator) = &self.nccl else {
            return work();
        };
        nccl::watched(communicator, ranks, work)
    }

    /// Does it: hosts that wait for each other look up by themselves.
    ///
    /// # Errors
    /// What `work` gives.
    #[cfg(not(feature = "cuda"))]
    pub(super) fn watched<T>(
        &self,
        _: &Ranks,
        work: impl FnOnce() -> Result<T, RanksError>,
    ) -> Result<T, RanksError> {
        work()
    }
}

struct ThroughHosts<'a>(&'a Ranks);

impl Wire for ThroughHosts<'_> {
    fn exchange(
        &mut self,
        partner: usize,
        (from, sent): (&DeviceVector, Range<usize>),
        (into, received): (&DeviceVector, Range<usize>),
    ) -> Result<(), RanksError> {
        let message = Message {
            values: checked(from.read(sent)),
            ..Message::default()
        };
        let answer = self.0.exchange(partner, message)?;
        assert_eq!(answer.values.len(), received.len(), "values of a piece");
        into.write(received.start, &answer.values);
        Ok(())
    }
}

#[cfg(feature = "cuda")]
mod nccl {
    use std::ops::Range;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::{Duration, Instant};

    use run_files::checkpoint::hex;
    use vae_device_step::nccl::{Communicator, Id, Joining, version};
    use vae_device_step::{DeviceStep, DeviceVector};

    use crate::ranks::piecewise_sum::Wire;
    use crate::ranks::{Ranks, RanksError, Spent};

    /// How often the other ranks are looked after.
    const LOOKING: Duration = Duration::from_millis(100);
    /// How long all ranks together may take to find each other's GPUs.
    const JOINING: Duration = Duration::from_secs(120);

    pub(super) struct Direct<'a>(pub(super) &'a Communicator, pub(super) &'a Ranks);

    impl Wire for Direct<'_> {
        fn exchange(
            &mut self,
            partner: usize,
            from: (&DeviceVector, Range<usize>),
            into: (&DeviceVector, Range<usize>),
        ) -> Result<(), RanksError> {
            self.1.add_spent(Spent {
                bytes: 4 * from.1.len() as u64,
                ..Spent::default()
            });
            self.0.exchange(partner, from, into);
            Ok(())
        }
    }

    pub(super) fn watched<T>(
        communicator: &Communicator,
        ranks: &Ranks,
        work: impl FnOnce() -> Result<T, RanksError>,
    ) -> Result<T, RanksError> {
        let began = Instant::now();
        let (working, ended) = channel::<()>();
        let watch = move || {
            while ended.recv_timeout(LOOKING) == Err(RecvTimeoutError::Timeout) {
                // After an error of its own the library may keep the GPU waiting for ever.
                if let Some(reason) = communicator.failure() {
                    communicator.abort();
                    return Ok(Some(reason));
                }
                ranks.watch().inspect_err(|_| communicator.abort())?;
            }
            Ok(communicator.failure())
        };
        std::thread::scope(|scope| {
            let watching = scope.spawn(watch);
            // What was given up may end in any way.
            let done = catch_unwind(AssertUnwindSafe(work));
            drop(working);
            let watched = watching.join();
            let failure = watched.unwrap_or_else(|panic| resume_unwind(panic))?;
            if let Some(reason) = failure {
                panic!("the sums of the ranks failed: {reason}");
            }
            ranks.add_spent(Spent {
                transfer: began.elapsed(),
                ..Spent::default()
            });
            done.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// The communicator of all ranks and the library's version, or why there is none.
    ///
    /// # Panics
    /// If NCCL keeps a rank waiting for [`JOINING`].
    pub(super) fn joined(
        ranks: &Ranks,
        step: &DeviceStep,
    ) -> Result<Result<(Communicator, String), String>, RanksError> {
        let other = || "not on every rank".to_owned();
        let version = match step.cuda_index() {
            Some(_) => version(),
            None => Err("NCCL joins CUDA's devices alone".to_owned()),
        };
        if !ranks.all(version.is_ok())? {
            return Ok(Err(version.err().unwrap_or_else(other)));
        }
        // Rank 0's, empty where it cannot make one.
        let id = if ranks.is_first() {
            Id::new().ok()
        } else {
            None
        };
        let text = id.map_or_else(String::new, |id| hex(&id.bytes()));
        let joining = match bytes(&ranks.first_ranks_text(text)?) {
            Some(id) => Joining::start(step, Id::from_bytes(id), ranks.rank(), ranks.size()),
            None => Err("rank 0 has made no id".to_owned()),
        };
        let joined = match joining {
            Err(reason) => Err(reason),
            Ok(joining) => {
                let began = Instant::now();
                loop {
                    if let Some(joined) = joining.wait(LOOKING) {
                        break joined;
                    }
                    ranks.watch()?;
                    // The thread of the device is in a call that nothing takes it out of.
                    assert!(
                        began.elapsed() < JOINING,
                        "NCCL has not joined the ranks' GPUs within {} s; with NCCL_DEBUG=INFO it says what it is about",
                        JOINING.as_secs()
                    );
                }
            }
        };
        if !ranks.all(joined.is_ok())? {
            return Ok(Err(joined.err().unwrap_or_else(other)));
        }
        Ok(joined.and_then(|communicator| Ok((communicator, version?))))
    }

    fn bytes(hex: &str) -> Option<[u8; 128]> {
        let pairs = hex.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
        bytes?.try_into().ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_id_is_the_same_behind_its_text() {
            let id = std::array::from_fn(|index| index as u8 * 2);
            assert_eq!(bytes(&hex(&id)), Some(id));
            assert_eq!(bytes(""), None);
        }
    }
}
