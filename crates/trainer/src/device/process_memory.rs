//! How much memory this process may take: that of the machine, of its control group, and of its own limits, whichever ends first.

use std::fs;
use std::path::Path;

/// Memory in bytes: all of it, and what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) available: u64,
}

/// What this process may take, where the system tells (Linux).
pub(crate) fn memory() -> Option<Memory> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = machine_memory(&read("/proc/meminfo")?)?;
    let groups = read("/proc/self/cgroup").map_or_else(Vec::new, |groups| {
        control_groups(&groups, Path::new("/sys/fs/cgroup"))
    });
    let own = own_limits(&read("/proc/self/limits")?, &read("/proc/self/status")?);
    let narrowest = |first: Memory, second: Memory| Memory {
        total: first.total.min(second.total),
        available: first.available.min(second.available),
    };
    Some(groups.into_iter().chain(own).fold(machine, narrowest))
}

fn machine_memory(meminfo: &str) -> Option<Memory> {
    Some(Memory {
        total: amount_in(meminfo, "MemTotal:")?,
        available: amount_in(meminfo, "MemAvailable:")?,
    })
}

/// An amount in kibibytes behind its name, as `/proc` writes it.
fn amount_in(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The limits of the control groups that the process is in, those above it included: version 2, or the memory controller of version 1.
fn control_groups(groups: &str, root: &Path) -> Vec<Memory> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, limit, usage) = match controllers {
            "" => (root.to_owned(), "memory.max", "memory.current"),
            _ if controllers.split(',').any(|name| name == "memory") => (
                root.join("memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            _ => continue,
        };
        // In a container the path may be that of the host: then the group's files lie at the root.
        let group = root.join(path.trim_start_matches('/'));
        for folder in group
            .ancestors()
            .take_while(|folder| folder.starts_with(&root))
        {
            let number = |name: &str| {
                let text = fs::read_to_string(folder.join(name)).ok()?;
                text.trim().parse::<u64>().ok()
            };
            if let (Some(limit), Some(usage)) = (number(limit), number(usage)) {
                // Files that were read and can be read again are counted, and given up when memory is short.
                let files = fs::read_to_string(folder.join("memory.stat"))
                    .map_or(0, |stat| field_in(&stat, "inactive_file").unwrap_or(0));
                found.push(Memory {
                    total: limit,
                    available: limit.saturating_sub(usage.saturating_sub(files)),
                });
            }
        }
    }
    found
}

fn field_in(stat: &str, name: &str) -> Option<u64> {
    let mut lines = stat.lines();
    lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The limits of the process itself (`ulimit -v` and `-d`) beside what it has taken of them.
fn own_limits(limits: &str, status: &str) -> Vec<Memory> {
    let limit = |name: &str| -> Option<u64> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let pairs = [
        (limit("Max address space"), amount_in(status, "VmSize:")),
        (limit("Max data size"), amount_in(status, "VmData:")),
    ];
    let known = pairs
        .into_iter()
        .filter_map(|(limit, taken)| Some((limit?, taken?)));
    known
        .map(|(limit, taken)| Memory {
            total: limit,
            available: limit.saturating_sub(taken),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_bytes() {
        let meminfo = "MemTotal:       24000 kB\nMemFree: 1 kB\nMemAvailable: 200 kB\n";
        let memory = machine_memory(meminfo).expect("both");
        assert_eq!((memory.total, memory.available), (24_576_000, 204_800));
        assert_eq!(machine_memory("MemTotal: many kB"), None);
        if cfg!(target_os = "linux") {
            let memory = super::memory().expect("told");
            assert!(memory.available > 1 << 20 && memory.available <= memory.total);
        }
    }

    #[test]
    fn limits_of_the_process_leave_what_it_has_not_taken() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max data size             unlimited            unlimited            bytes     \n\
                      Max address space         1536000000           unlimited            bytes     \n";
        let status = "VmPeak:\t  9 kB\nVmSize:\t  1000 kB\nVmData:\t 500 kB\n";
        let expected = Memory {
            total: 1_536_000_000,
            available: 1_536_000_000 - 1_024_000,
        };
        assert_eq!(own_limits(limits, status), [expected]);
    }

    #[test]
    fn control_groups_of_both_versions_count_with_those_above() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, text).expect("written");
        };
        write("jobs/memory.max", "1000000\n");
        write("jobs/memory.current", "600000\n");
        write(
            "jobs/memory.stat",
            "anon 5\ninactive_file 100000\nother 1\n",
        );
        write("jobs/mine/memory.max", "max\n");
        write("jobs/mine/memory.current", "5\n");
        write("memory/old/memory.limit_in_bytes", "2000\n");
        write("memory/old/memory.usage_in_bytes", "500\n");
        let groups = "3:cpu,cpuacct:/x\n2:memory:/old\n0::/jobs/mine\n";
        let found = control_groups(groups, root.path());
        let memory = |total, available| Memory { total, available };
        assert_eq!(found, [memory(2000, 1500), memory(1_000_000, 500_000)]);
    }
}
