//! What can go wrong between ranks.

/// What can go wrong between ranks, with the next step in its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RanksError {
    /// A launcher started several ranks of a program that cannot reach the others.
    #[error(
        "this is one of several ranks, and the program was built without MPI: install an MPI library and libclang (Debian: `apt-get \
         install libopenmpi-dev openmpi-bin libclang-dev`) and build with `--features mpi`, as `cargo xtask train --ranks N` does"
    )]
    NotBuilt,
    /// MPI does not start.
    #[error("MPI does not start: {reason}; does `mpirun -n 2 hostname` work here?")]
    NotStarted {
        /// What it says.
        reason: String,
    },
    /// The launcher has started ranks that the program's MPI library does not hear of.
    #[error(
        "the launcher has started {ranks} ranks, and this program's MPI library knows of one. Under Slurm, `srun --mpi=pmix` tells it; \
         otherwise it is another library than the launcher's: start the ranks with its own launcher (Debian: `mpirun.openmpi` or \
         `mpirun.mpich`), or build the program again with the launcher's library (`MPICC=mpicc.mpich cargo build --package trainer \
         --features mpi`)"
    )]
    OtherLibrary {
        /// How many the launcher has started.
        ranks: usize,
    },
    /// Shards are halved again and again.
    #[error("{size} ranks: their number has to be a power of two, as that of the shards is")]
    NoPowerOfTwo {
        /// How many there are.
        size: usize,
    },
    /// The shards cannot be divided evenly.
    #[error(
        "{shards} shards cannot be divided over {ranks} ranks with {devices} devices each: {}",
        cure(*.shards, .ranks * .devices)
    )]
    Indivisible {
        /// Shards of each batch.
        shards: usize,
        /// How many ranks there are.
        ranks: usize,
        /// Devices of each.
        devices: usize,
    },
    /// A shard would have too few images.
    #[error(
        "a batch of {batch_size} images has no {shards} shards of at least two images: give `--batch-size` {least} or more, or fewer \
         shards or ranks"
    )]
    TooManyShards {
        /// Shards of each batch.
        shards: usize,
        /// Images of a batch.
        batch_size: usize,
        /// Images that a batch needs.
        least: usize,
    },
    /// Norms cannot be shared between shards.
    #[error(
        "`--sync-norm` needs {needed}; leave it out, and each shard is normalised with its own statistics"
    )]
    NoSharedNorms {
        /// What it works with.
        needed: &'static str,
    },
    /// The ranks would not train the same model.
    #[error(
        "rank {rank} of {size} has another {what} than rank 0: {found}, not {expected}; {cure}"
    )]
    Differs {
        /// The first that differs.
        rank: usize,
        /// How many there are.
        size: usize,
        /// What differs.
        what: Box<str>,
        /// What rank 0 has.
        expected: Box<str>,
        /// What the rank has.
        found: Box<str>,
        /// What to do.
        cure: &'static str,
    },
    /// Another rank gives no sign of life.
    #[error(
        "rank {rank} of {size} has given no sign of life for {seconds} s: it was killed or stopped, or the network to it is down; where \
         it was only busy, give `--rank-timeout` more"
    )]
    Lost {
        /// Which one.
        rank: usize,
        /// How many there are.
        size: usize,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another rank has ended with an error, which it has printed itself.
    #[error("rank {rank} of {size} has ended with exit code {code}")]
    Ended {
        /// Which one.
        rank: usize,
        /// How many there are.
        size: usize,
        /// Its exit code.
        code: u8,
    },
}

impl RanksError {
    /// The exit code of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotBuilt
            | Self::OtherLibrary { .. }
            | Self::NoPowerOfTwo { .. }
            | Self::NotStarted { .. }
            | Self::Indivisible { .. }
            | Self::TooManyShards { .. }
            | Self::NoSharedNorms { .. }
            | Self::Differs { .. } => 2,
            Self::Lost { .. } => 33,
            Self::Ended { code, .. } => *code,
        }
    }

    /// Whether the ranks can no longer part in order.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Ended { .. })
    }
}
/// What to do where so many units cannot divide the shards.
fn cure(shards: usize, units: usize) -> String {
    let fewer = format!("as many ranks and devices as divide {shards}");
    if units.is_power_of_two() {
        format!("give `--shards` a power of two that is a multiple of {units}, or {fewer}")
    } else {
        format!("give {fewer}")
    }
}
