//! Two hosts whose network is cut: two network namespaces of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end_tests::Bench;
use end_to_end_tests::faults::{Draws, cases, passed, skipped};

use super::{LIMIT, MISSING, ROW, TINY, errors, program, train, wait_for_start};

/// Two network namespaces of this machine with their own addresses and a cable between them, as two hosts.
struct TwoHosts {
    names: [String; 2],
    agent: PathBuf,
}

impl TwoHosts {
    /// None where this process may not make them.
    fn new(bench: &Bench) -> Option<Self> {
        let number = std::process::id();
        let names = ["a", "b"].map(|host| format!("rv{number}{host}"));
        let [first, second] = &names;
        let commands = [
            format!("netns add {first}"),
            format!("netns add {second}"),
            format!("link add c{first} type veth peer name c{second}"),
            format!("link set c{first} netns {first}"),
            format!("link set c{second} netns {second}"),
            format!("-n {first} addr add 10.77.0.1/24 dev c{first}"),
            format!("-n {second} addr add 10.77.0.2/24 dev c{second}"),
            format!("-n {first} link set c{first} up"),
            format!("-n {second} link set c{second} up"),
            format!("-n {first} link set lo up"),
            format!("-n {second} link set lo up"),
        ];
        let agent = bench.path("agent");
        let hosts = Self { names, agent };
        let script = format!(
            "#!/bin/sh\nshift\nexec ip netns exec {second} unshare --uts sh -c \"hostname second; $*\"\n",
            second = hosts.names[1],
        );
        fs::write(&hosts.agent, script).expect("written");
        let made = Command::new("chmod").arg("+x").arg(&hosts.agent).status();
        assert!(made.is_ok_and(|status| status.success()));
        let are_made = commands.iter().all(|command| ip(command));
        are_made.then_some(hosts)
    }

    /// The run on one rank of each host.
    fn start(&self, bench: &Bench, program: &Path, run_dir: &str) -> Child {
        let mut command = bench.command("ip");
        command
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("RAYON_NUM_THREADS", "1")
            .args([
                "netns",
                "exec",
                &self.names[0],
                "unshare",
                "--uts",
                "sh",
                "-c",
            ])
            .arg("hostname first; exec \"$@\"")
            .args([
                "sh",
                "mpirun",
                "-n",
                "2",
                "--host",
                "10.77.0.1,10.77.0.2",
                "--bind-to",
                "none",
            ])
            .args(["--mca", "plm_rsh_agent", self.agent.to_str().expect("text")])
            .args([
                "--mca",
                "btl",
                "self,tcp",
                "--mca",
                "btl_tcp_if_include",
                "10.77.0.0/24",
            ])
            .args([
                "--mca",
                "oob_tcp_if_include",
                "10.77.0.0/24",
                "-x",
                "RAYON_NUM_THREADS",
            ])
            .arg(program)
            .args(TINY)
            .arg(run_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("it starts")
    }

    /// The trainers on one of the hosts.
    fn trainers(&self, host: usize, program: &Path) -> Vec<u32> {
        let output = Command::new("ip")
            .args(["netns", "pids", &self.names[host]])
            .output();
        let output = output.expect("ip is there");
        let processes = String::from_utf8_lossy(&output.stdout).into_owned();
        let processes = processes
            .lines()
            .filter_map(|line| line.trim().parse().ok());
        let is_trainer = |process: &u32| {
            fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|exe| exe == program)
        };
        processes.filter(is_trainer).collect()
    }

    fn set_cable(&self, state: &str) {
        assert!(ip(&format!("-n {0} link set c{0} {state}", self.names[0])));
    }

    /// Ends what a launcher has left on either host.
    fn clear(&self) {
        for name in &self.names {
            let script = format!("for p in $(ip netns pids {name}); do kill -9 $p; done");
            let _ = Command::new("sh")
                .args(["-c", &script])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        self.clear();
        for name in &self.names {
            ip(&format!("netns del {name}"));
        }
    }
}

fn ip(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn faults_ranks_of_two_hosts_whose_network_is_cut() {
    let Some(program) = program() else {
        skipped(ROW, MISSING);
        return;
    };
    let bench = Bench::new();
    let Some(hosts) = TwoHosts::new(&bench) else {
        skipped(ROW, "network namespaces: this process may not make them");
        return;
    };
    train(&bench, program, 1, "whole");
    let whole = hosts
        .start(&bench, program, "of-two-hosts")
        .wait_with_output();
    let whole = whole.expect("ended");
    let stderr = String::from_utf8_lossy(&whole.stderr);
    assert!(whole.status.success(), "{stderr}");
    bench.assert_same_run("whole", "of-two-hosts");
    let wanted = cases(1, 2, 10);
    let mut draws = Draws::new(9);
    let (mut done, mut attempt) = (0, 0);
    while done < wanted {
        attempt += 1;
        assert!(attempt < 20 + 3 * wanted, "runs are over too early");
        let run_dir = format!("cut-{attempt}");
        let mut child = hosts.start(&bench, program, &run_dir);
        let further = Duration::from_millis(draws.below(1_000));
        if !wait_for_start(&bench, &mut child, &run_dir, further) {
            continue;
        }
        let there = [0, 1].map(|host| hosts.trainers(host, program).len());
        if there != [1, 1] {
            // The run was over by then.
            let output = child.wait_with_output().expect("ended");
            assert!(output.status.success(), "{there:?}: {:?}", errors(&output));
            continue;
        }
        hosts.set_cable("down");
        let began = Instant::now();
        let are_left = || [0, 1].map(|host| hosts.trainers(host, program).len()) != [0, 0];
        while are_left() && began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(!are_left(), "a rank is left after {LIMIT:?}");
        // The launcher itself may wait for the other host for longer.
        hosts.clear();
        let output = child.wait_with_output().expect("ended");
        hosts.set_cable("up");
        let errors = errors(&output);
        if output.status.success() {
            continue;
        }
        assert!(errors.len() <= 1, "{errors:?}");
        bench
            .trainer(&["verify-run", "--run-dir", &run_dir])
            .success();
        train(
            &bench,
            program,
            [1, 2, 4][draws.below(3) as usize],
            &run_dir,
        );
        bench.assert_same_run("whole", &run_dir);
        done += 1;
    }
    passed(ROW, done);
}
