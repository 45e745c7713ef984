//! Whether the mirrors can be reached, and how fast they are.

use std::time::Duration;

use cifar_loader::{OFFICIAL, Probe, mirrors_from_environment, probe};

use super::finding::{Finding, Status};

const NAME: &str = "mirror";
/// Time for each mirror; all are asked at once.
const LIMIT: Duration = Duration::from_secs(3);
/// Half an hour for the whole.
const SLOW: f64 = 100_000.0;

/// A line for each mirror.
pub(super) fn mirrors() -> Vec<Finding> {
    let urls = mirrors_from_environment();
    let probes: Vec<_> = urls
        .iter()
        .map(|url| {
            let url = url.clone();
            std::thread::spawn(move || probe(&url, LIMIT))
        })
        .collect();
    urls.iter()
        .zip(probes)
        .map(|(url, probe)| {
            let outcome = probe
                .join()
                .unwrap_or_else(|_| Err("the request failed in an unforeseen way".to_owned()));
            finding(url, outcome)
        })
        .collect()
}

fn finding(url: &str, outcome: Result<Probe, String>) -> Finding {
    let fix = "check network and proxy (HTTPS_PROXY and NO_PROXY count); CIFAR10_MIRRORS names other mirrors, and `cargo xtask download --from-file F` \
               takes a copy made elsewhere";
    match outcome {
        Err(reason) => Finding::warn(NAME, format!("{url}: {reason}"), fix),
        Ok(probe) => {
            let rate = probe.bytes_per_second;
            let bytes = OFFICIAL.container.map_or(0, |container| container.bytes);
            let message = format!(
                "{url}: first byte after {:.2} s, {:.2} MB/s, about {:.0} s for the whole",
                probe.delay.as_secs_f64(),
                rate / 1e6,
                bytes as f64 / rate
            );
            if rate < SLOW {
                Finding::warn(
                    NAME,
                    message,
                    "the download goes on to the next mirror by itself",
                )
            } else {
                Finding::ok(NAME, message)
            }
        }
    }
}

/// No mirror at all is red where the data is missing, too: it cannot be had then.
pub(super) fn judge(findings: &mut [Finding]) {
    let is_missing = |finding: &Finding| finding.check == "data" && finding.status != Status::Ok;
    let is_missing = findings.iter().any(is_missing);
    let is_reachable =
        |finding: &Finding| finding.status == Status::Ok || finding.message.contains("MB/s");
    let mirrors = || findings.iter().filter(|finding| finding.check == NAME);
    if is_missing && mirrors().count() > 0 && !mirrors().any(is_reachable) {
        for finding in findings.iter_mut().filter(|finding| finding.check == NAME) {
            finding.status = Status::Red;
            finding.code = 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fast() -> Finding {
        let probe = Probe {
            delay: Duration::ZERO,
            bytes_per_second: 1e6,
        };
        finding("https://a", Ok(probe))
    }

    fn codes(mut findings: Vec<Finding>) -> Vec<u8> {
        judge(&mut findings);
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn unreachable_mirrors_are_red_only_without_data_and_without_another() {
        let gone = || finding("https://b", Err("no route".to_owned()));
        let missing = || Finding::warn("data", "none", "download");
        let here = Finding::ok("data", "all");
        assert_eq!(codes(vec![missing(), gone(), gone()]), [0, 10, 10]);
        assert_eq!(codes(vec![missing(), gone(), fast()]), [0, 0, 0]);
        assert_eq!(codes(vec![here, gone()]), [0, 0]);
        assert!(
            fast().message.contains("170 s for the whole"),
            "{fast:?}",
            fast = fast()
        );
    }
}
