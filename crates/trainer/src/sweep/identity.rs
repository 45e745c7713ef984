//! What makes a run the same run, wherever it lies: the settings that decide its numbers, and its data.

use sha2::{Digest, Sha256};

use run_files::checkpoint::hex;
use run_files::settings::{Settings, differences};

/// The identity of a run: a SHA-256 in hexadecimal digits.
///
/// It covers every setting that [`differences`] lists, which are those whose change would change a number; the number of
/// epochs, since a longer run is another run; and the hash of the data set. Neither `run_dir` nor `data_dir` nor the
/// index of a GPU is in it. Two settings are compared by one program, so it needs no form that outlives a version.
pub fn run_identity(settings: &Settings, data_hash: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("data {data_hash}\nepochs {}\n", settings.epochs));
    for difference in differences(&Settings::default(), settings) {
        hasher.update(format!("{} {}\n", difference.key, difference.after));
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use run_files::settings::{Change, DeviceChoice, Key};

    fn base() -> Settings {
        Settings {
            data_dir: Some("data".into()),
            run_dir: Some("runs/a".into()),
            device: DeviceChoice::Cuda(0).into(),
            ..Settings::default()
        }
    }

    #[test]
    fn every_setting_that_decides_a_number_changes_the_identity() {
        let mut identities = vec![run_identity(&base(), "a"), run_identity(&base(), "b")];
        for key in Key::ALL {
            let identity = run_identity(&base().with_another(key), "a");
            if key.change() == Change::Free && key != Key::Epochs {
                assert_eq!(identity, identities[0], "{}", key.name());
            } else {
                identities.push(identity);
            }
        }
        let all = identities.len();
        identities.sort();
        identities.dedup();
        assert_eq!(identities.len(), all, "two of them are equal");
    }

    #[test]
    fn places_do_not_change_the_identity() {
        let moved = Settings {
            data_dir: None,
            run_dir: Some("elsewhere".into()),
            device: DeviceChoice::Cuda(3).into(),
            ..base()
        };
        assert_eq!(run_identity(&moved, "a"), run_identity(&base(), "a"));
    }
}
