//! Where a run goes that names no folder.

use std::path::{Path, PathBuf};

use crate::settings::Settings;

/// `runs/PRESET-seed-N`, or the first of `runs/PRESET-seed-N-2`, `-3`, ... that is free, in a working folder. A resumed run is the last one that is
/// there, also where an earlier one is gone.
pub fn default_run_dir(working_folder: &Path, settings: &Settings, resume: bool) -> PathBuf {
    let model = match settings.preset {
        Some(preset) => preset.to_string(),
        None => format!("depth{}", settings.depth),
    };
    let runs = Path::new("runs");
    let name = format!("{model}-seed-{}", settings.seed);
    let numbered = |number: u32| match number {
        1 => runs.join(&name),
        _ => runs.join(format!("{name}-{number}")),
    };
    if resume {
        let there = std::fs::read_dir(working_folder.join(runs))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let found = entry.file_name().into_string().ok()?;
                let rest = found.strip_prefix(&name)?;
                let number = match rest.strip_prefix('-') {
                    None => 1,
                    Some(number) => number.parse().ok().filter(|number| *number > 1)?,
                };
                (numbered(number) == runs.join(&found)).then_some(number)
            });
        return numbered(there.max().unwrap_or(1));
    }
    let free = (1..).find(|number| !working_folder.join(numbered(*number)).exists());
    numbered(free.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_takes_the_first_free_name_and_a_resumed_one_is_the_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            depth: 28,
            seed: 1,
            ..Settings::default()
        };
        let of = |resume| {
            let path = default_run_dir(folder.path(), &settings, resume);
            path.to_str().expect("text").to_owned()
        };
        assert_eq!([of(false), of(true)], ["runs/depth28-seed-1"; 2]);
        // Neither another seed's, nor what merely looks like one.
        for name in [
            "depth28-seed-1-3",
            "depth28-seed-17",
            "depth28-seed-1-03x",
            "depth28-seed-1-007",
        ] {
            std::fs::create_dir_all(folder.path().join("runs").join(name)).expect("created");
        }
        assert_eq!(of(false), "runs/depth28-seed-1");
        assert_eq!(of(true), "runs/depth28-seed-1-3");
        std::fs::create_dir(folder.path().join("runs/depth28-seed-1")).expect("created");
        assert_eq!(of(false), "runs/depth28-seed-1-2");
    }
}
