use std::io::sink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::conclusion;
use super::error::TrainerError;
use crate::commands::output::print;
use crate::device::auto_batch;
use crate::device::{open_device_for, with_failures_as_errors};
use crate::experiment::in_parts::largest_step_buffer;
use crate::process::progress::{LOG_INTERVAL, Progress, ProgressMode, at_terminal};
use crate::process::stop_request::{StopRequest, StopSignal};
use crate::ranks::agreement::Fact;
use crate::ranks::{Ranks, launcher};
use crate::train::{TrainError, TrainOptions, train};
use run_files::atomic_file::write_atomically;
use run_files::run_folder::{
    CONFIG, RunFolderError, default_run_dir, read_config, restore_config, was_begun,
};
use run_files::settings::{Key, Resolved, Resume, SettingsError, Source, TrainFlags, resolve};

pub(super) fn run(flags: &TrainFlags) -> Result<(), TrainerError> {
    let stop = StopRequest::on_signals().map_err(|source| RunFolderError::File {
        path: flags
            .run_dir
            .as_ref()
            .map_or_else(PathBuf::new, PathBuf::from),
        source,
    })?;
    let ranks = if flags.print_config {
        Ranks::alone()
    } else {
        let timeout = Duration::from_secs(flags.rank_timeout);
        Ranks::of_launcher(timeout, &stop).map_err(conclusion::unconnected)?
    };
    let made = run_on(&ranks, flags, &stop);
    conclusion::conclude(&ranks, made)
}

/// What this rank does.
fn run_on(ranks: &Ranks, flags: &TrainFlags, stop: &StopRequest) -> Result<(), TrainerError> {
    if let Some(given) = flags.ranks.filter(|given| *given != ranks.size()) {
        return Err(TrainerError::UnfittingFlag {
            flag: "--ranks",
            given: given.to_string(),
            reason: format!(
                "this program starts no others; `cargo xtask train --ranks {given}` does, and so does `mpirun -n {given}`"
            ),
        });
    }
    let (flags, copy) = with_first_ranks_config(ranks, flags)?;
    let flags = &flags;
    let environment = |name: &str| std::env::var(name).ok();
    check_environment_is_text()?;
    let mut resolved = resolve(flags, &environment)?;
    drop(copy);
    let run_dir = match &resolved.settings.run_dir {
        Some(folder) => folder.clone(),
        None => default_run_dir(Path::new(""), &resolved.settings, flags.resume.is_some()),
    };
    let recorded = run_dir.join(CONFIG);
    let is_restored = flags.resume.is_some()
        && !flags.print_config
        && ranks.is_first()
        && restore_config(&run_dir)?;
    let is_recorded = flags.resume.is_some() && recorded.is_file();
    let is_unread = is_restored || resolved.settings.run_dir.is_none();
    if is_recorded && flags.config.is_none() && is_unread {
        // The run's own settings, as where its folder is named.
        let flags = TrainFlags {
            config: Some(recorded),
            ..flags.clone()
        };
        resolved = resolve(&flags, &environment)?;
    }
    if flags.print_config {
        return print(&resolved.print_config(flags.json));
    }
    if flags.resume == Some(Resume::Existing) && !was_begun(&run_dir) && ranks.is_first() {
        return Err(RunFolderError::NothingToResume { path: run_dir }.into());
    }
    let from_environment = if is_recorded {
        changed_by_environment(&resolved, &run_dir)
    } else {
        Vec::new()
    };
    let is_one_shard_given = *resolved.provenance.source(Key::Shards) != Source::Default;
    let mut settings = resolved.settings;
    if ranks.are_several() && settings.shards == 1 && is_one_shard_given {
        return Err(TrainerError::UnfittingFlag {
            flag: "--shards",
            given: "1".to_owned(),
            reason: format!(
                "{} ranks divide each batch into as many shards at least; leave it out, or start one rank",
                ranks.size()
            ),
        });
    }
    let local_rank = ranks.local_rank(settings.device.count());
    settings.device = settings.device.of_local_rank(local_rank);
    let device = open_device_for(settings.device.main(), settings.precision)?;
    // Ranks without the run folder do as the one that has it.
    let is_recorded = ranks
        .gathered(f64::from(u8::from(is_recorded)))
        .map_err(TrainError::Ranks)?;
    let chooses = flags.auto_batch && is_recorded[0] == 0.0;
    let choice = match chooses {
        true => {
            let largest = largest_step_buffer(&device);
            auto_batch::choose(&settings, flags.memory_limit, largest, ranks.size())?
        }
        false => None,
    };
    // All take what the machine with the least memory can.
    let choices = ranks.gathered(choice.map_or(f64::INFINITY, |most| most as f64));
    let least = choices.map_err(TrainError::Ranks)?;
    let least = least.into_iter().fold(f64::INFINITY, f64::min);
    if chooses {
        settings.micro_batch_size = least.is_finite().then_some(least as usize);
    }
    let mode = ProgressMode::choose(flags.json, at_terminal(), &environment);
    crate::process::lifeline::hold({
        let stop = stop.clone();
        move || stop.request(StopSignal::Terminate)
    });
    let options = TrainOptions {
        run_dir: &run_dir,
        resume: flags.resume.is_some(),
        allow_config_change: flags.allow_config_change,
        from_best: flags.from_best,
        stop,
        ranks: Some(ranks),
    };
    let mut progress = if ranks.is_first() {
        Progress::new(mode)
    } else {
        Progress::with_writers(ProgressMode::Plain, Box::new(sink()), Box::new(sink()))
    };
    if ranks.size() > 1 {
        progress.notice(&format!("{} ranks share each batch", ranks.size()));
    } else if let Some(tasks) = launcher::tasks_on_their_own(&environment) {
        progress.notice(&format!(
            "this is one of {tasks} tasks of a Slurm step, and trains alone: `srun --mpi=pmix` makes them ranks that share each batch"
        ));
    }
    progress.breaks_silence_after(log_interval(&environment)?);
    if is_restored {
        progress.notice(&format!(
            "{CONFIG} was missing, and is written anew from the newest checkpoint"
        ));
    }
    for change in from_environment {
        progress.notice(&change);
    }
    if chooses {
        let most = settings.micro_batch_size;
        progress.notice(&match most {
            Some(most) => format!("micro-batches of at most {most} images, to fit the memory"),
            None => "the whole batch fits the memory".to_owned(),
        });
    }
    // Here, so that the other ranks are told.
    let trained = with_failures_as_errors(|| train(&settings, options, &device, &mut progress));
    Ok(trained?)
}

/// A file that goes when this does.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The flags, where a run is resumed with a copy of its `config.json` as rank 0 reads it: the run folder need not be there on other machines.
fn with_first_ranks_config(
    ranks: &Ranks,
    flags: &TrainFlags,
) -> Result<(TrainFlags, Option<Passing>), TrainerError> {
    let mut flags = flags.clone();
    // What follows is said to all or to none.
    let given = |flag: &str, is_given: bool| {
        let value = if is_given { "present" } else { "absent" };
        Fact::new(format!("`{flag}`"), value, "give all ranks the same flags")
    };
    let facts = [
        given("--resume", flags.resume.is_some()),
        given("--config", flags.config.is_some()),
    ];
    ranks.agree(&facts).map_err(TrainError::Ranks)?;
    if ranks.size() == 1 || flags.resume.is_none() || flags.config.is_some() {
        return Ok((flags, None));
    }
    let mut copy = None;
    let environment = |name: &str| std::env::var(name).ok();
    let mut text = String::new();
    if ranks.is_first() {
        let settings = resolve(&flags, &environment)?.settings;
        let run_dir = settings
            .run_dir
            .clone()
            .unwrap_or_else(|| default_run_dir(Path::new(""), &settings, true));
        restore_config(&run_dir)?;
        text = std::fs::read_to_string(run_dir.join(CONFIG)).unwrap_or_default();
    }
    let text = ranks.first_ranks_text(text).map_err(TrainError::Ranks)?;
    if !ranks.is_first() && !text.is_empty() {
        let name = format!(
            "resnet-vae-config-of-rank-{}-{}.json",
            ranks.rank(),
            std::process::id()
        );
        let path = std::env::temp_dir().join(name);
        write_atomically(&path, text.as_bytes()).map_err(|source| RunFolderError::File {
            path: path.clone(),
            source,
        })?;
        flags.config = Some(path.clone());
        copy = Some(Passing(path));
    }
    Ok((flags, copy))
}

/// Seconds between two lines of a log, by the variable LOG_INTERVAL.
fn log_interval(environment: &dyn Fn(&str) -> Option<String>) -> Result<Duration, TrainerError> {
    const NAME: &str = "LOG_INTERVAL";
    let Some(value) = environment(NAME).filter(|value| !value.is_empty()) else {
        return Ok(LOG_INTERVAL);
    };
    let seconds = value.parse::<f64>().ok();
    match seconds.filter(|seconds| (0.1..=86_400.0).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => Err(SettingsError::InvalidValue {
            key: NAME,
            value,
            given_by: format!("environment variable {NAME}"),
            allowed: "seconds from 0.1 to 86400".to_owned(),
            nearest: None,
        }
        .into()),
    }
}

/// The settings' environment variables, which a path that is no UTF-8 would otherwise drop without a word.
fn check_environment_is_text() -> Result<(), TrainerError> {
    for key in Key::ALL {
        let Some(name) = key.environment() else {
            continue;
        };
        let value = std::env::var_os(name).unwrap_or_default();
        if value.to_str().is_none() {
            return Err(SettingsError::InvalidValue {
                key: key.name(),
                value: value.to_string_lossy().into_owned(),
                given_by: format!("environment variable {name}"),
                allowed: "text in UTF-8".to_owned(),
                nearest: None,
            }
            .into());
        }
    }
    Ok(())
}

/// What variables of the environment change of a run that is resumed, where nobody may have thought of them.
fn changed_by_environment(resolved: &Resolved, run_dir: &Path) -> Vec<String> {
    let Ok(before) = read_config(run_dir) else {
        return Vec::new();
    };
    let (before, after) = (before.recorded(), resolved.settings.recorded());
    let changed = Key::ALL.into_iter().filter_map(|key| {
        let Source::Environment(name) = resolved.provenance.source(key) else {
            return None;
        };
        let (before, after) = (before.get(key.name())?, after.get(key.name())?);
        (before != after).then(|| {
            format!(
                "{name} in the environment changes {} of this run: {before} -> {after}",
                key.name()
            )
        })
    });
    changed.collect()
}
