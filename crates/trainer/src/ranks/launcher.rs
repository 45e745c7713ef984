//! Whether, and as what, a launcher has started this process.

/// Variables that `mpirun` or `srun` set in the environment of a rank: Open MPI's, MPICH's and Slurm's PMI, and PMIx.
const OF_RANKS: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK"];

/// Whether a launcher of MPI has started this process, perhaps as the only one.
pub(crate) fn has_started_ranks(environment: &dyn Fn(&str) -> Option<String>) -> bool {
    let sizes = OF_RANKS.into_iter().filter_map(|name| {
        let value = environment(name)?;
        Some((name, value))
    });
    let mut is_launched = false;
    for (name, value) in sizes {
        if name.ends_with("_SIZE") && value.trim() == "1" {
            return false;
        }
        is_launched = true;
    }
    is_launched
}

/// How many ranks the launcher has started, where it says so.
#[cfg_attr(not(any(test, feature = "mpi")), expect(dead_code))]
pub(crate) fn started_ranks(environment: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    let sizes = OF_RANKS.into_iter().filter(|name| name.ends_with("_SIZE"));
    let sizes = sizes.filter_map(|name| environment(name)?.trim().parse().ok());
    sizes.max()
}

/// The tasks of the Slurm step that this process is one of, where no library of MPI was told of them: each of them then works on its own.
pub(crate) fn tasks_on_their_own(environment: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    if OF_RANKS.into_iter().any(|name| environment(name).is_some()) {
        return None;
    }
    // `srun` alone sets it; a batch script has the number of the job's tasks by another name.
    let tasks = environment("SLURM_STEP_NUM_TASKS")?.trim().parse().ok()?;
    (tasks > 1).then_some(tasks)
}

/// The number of this rank by its launcher, from 0; also where there is no MPI to ask.
pub(crate) fn rank(environment: &dyn Fn(&str) -> Option<String>) -> usize {
    let names = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"];
    let given = names.into_iter().find_map(environment);
    given
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// The number of this rank among those of its machine that see the same GPUs, from 0, where each uses so many of them.
pub(crate) fn local_rank(environment: &dyn Fn(&str) -> Option<String>, devices: usize) -> usize {
    // A scheduler that gives every rank GPUs of its own hides the others, and each begins to count from 0.
    let visible = environment("CUDA_VISIBLE_DEVICES");
    if visible.is_some_and(|visible| visible.split(',').count() <= devices) {
        return 0;
    }
    let names = [
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "MPI_LOCALRANKID",
        "SLURM_LOCALID",
    ];
    let given = names.into_iter().find_map(environment);
    given
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_known_by_their_variables() {
        let of = |set: &'static [(&'static str, &'static str)]| {
            move |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        assert!(!has_started_ranks(&of(&[])));
        // A batch script of Slurm is no rank.
        assert!(!has_started_ranks(&of(&[
            ("SLURM_NTASKS", "4"),
            ("SLURM_PROCID", "0")
        ])));
        assert!(!has_started_ranks(&of(&[
            ("OMPI_COMM_WORLD_SIZE", "1"),
            ("PMIX_RANK", "0")
        ])));
        assert!(has_started_ranks(&of(&[
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("PMIX_RANK", "0")
        ])));
        assert!(has_started_ranks(&of(&[
            ("PMI_SIZE", "16"),
            ("PMI_RANK", "3")
        ])));
        assert!(has_started_ranks(&of(&[
            ("PMIX_RANK", "3"),
            ("SLURM_LOCALID", "1")
        ])));
        assert_eq!(
            started_ranks(&of(&[("PMI_SIZE", "16"), ("PMI_RANK", "3")])),
            Some(16)
        );
        // PMIx tells by calls how many there are.
        assert_eq!(started_ranks(&of(&[("PMIX_RANK", "3")])), None);
        assert_eq!(tasks_on_their_own(&of(&[("SLURM_NTASKS", "4")])), None);
        assert_eq!(
            tasks_on_their_own(&of(&[("SLURM_STEP_NUM_TASKS", "4")])),
            Some(4)
        );
        assert_eq!(
            tasks_on_their_own(&of(&[("SLURM_STEP_NUM_TASKS", "1")])),
            None
        );
        assert_eq!(
            tasks_on_their_own(&of(&[("SLURM_STEP_NUM_TASKS", "4"), ("PMIX_RANK", "0")])),
            None
        );
        assert_eq!(local_rank(&of(&[("SLURM_LOCALID", "1")]), 1), 1);
        assert_eq!(local_rank(&of(&[]), 1), 0);
        assert_eq!(rank(&of(&[("PMI_SIZE", "4"), ("PMI_RANK", "3")])), 3);
        let hidden = [("SLURM_LOCALID", "1"), ("CUDA_VISIBLE_DEVICES", "3")];
        let found = local_rank(
            &|name| {
                hidden
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            },
            1,
        );
        assert_eq!(found, 0);
    }
}
