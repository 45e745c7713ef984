use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::error::TrainerError;
use crate::device::auto_batch;
use crate::device::memory::device_failure;
use crate::device::open_device;
use crate::process::progress::{Progress, ProgressMode, at_terminal};
use crate::process::stop_request::{StopRequest, StopSignal};
use crate::train::{TrainError, TrainOptions, train};
use run_files::run_folder::RunFolderError;
use run_files::settings::{Settings, TrainFlags, resolve};

pub(super) fn run(flags: &TrainFlags) -> Result<(), TrainerError> {
    let environment = |name: &str| std::env::var(name).ok();
    let resolved = resolve(flags, &environment)?;
    if flags.print_config {
        print!("{}", resolved.print_config(flags.json));
        return Ok(());
    }
    let mut settings = resolved.settings;
    let device = open_device(settings.device.main())?;
    let run_dir = match &settings.run_dir {
        Some(folder) => folder.clone(),
        None => default_run_dir(&settings, flags.resume),
    };
    let is_recorded = flags.resume && run_dir.join("config.json").is_file();
    let chooses = flags.auto_batch && !is_recorded;
    if chooses {
        settings.micro_batch_size = auto_batch::choose(&settings, flags.memory_limit)?;
    }
    let mode = ProgressMode::choose(flags.json, at_terminal(), &environment);
    let stop = StopRequest::on_signals().map_err(|source| RunFolderError::File {
        path: run_dir.clone(),
        source,
    })?;
    crate::process::lifeline::hold({
        let stop = stop.clone();
        move || stop.request(StopSignal::Terminate)
    });
    let options = TrainOptions {
        run_dir: &run_dir,
        resume: flags.resume,
        allow_config_change: flags.allow_config_change,
        from_best: flags.from_best,
        stop: &stop,
    };
    let mut progress = Progress::new(mode);
    if chooses {
        let most = settings.micro_batch_size;
        progress.notice(&match most {
            Some(most) => format!("micro-batches of at most {most} images, to fit the memory"),
            None => "the whole batch fits the memory".to_owned(),
        });
    }
    if !settings.device.are_cuda() {
        return Ok(train(&settings, options, &device, &mut progress)?);
    }
    // Where memory runs out or a kernel fails, the backend panics; nothing in this process can use the device again.
    let trained = catch_unwind(AssertUnwindSafe(|| {
        train(&settings, options, &device, &mut progress)
    }));
    let trained = trained.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        Err(TrainError::Device(device_failure(
            settings.device.main(),
            text.unwrap_or("it failed without a reason"),
        )))
    });
    Ok(trained?)
}

/// `runs/PRESET-seed-N`, or the first of `runs/PRESET-seed-N-2`, `-3`, ... that is free. A resumed run is the last one
/// that is not.
fn default_run_dir(settings: &Settings, resume: bool) -> PathBuf {
    let model = match settings.preset {
        Some(preset) => preset.to_string(),
        None => format!("depth{}", settings.depth),
    };
    let name = format!("{model}-seed-{}", settings.seed);
    let numbered = |number: u32| {
        let suffix = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        Path::new("runs").join(format!("{name}{suffix}"))
    };
    let free = (1..)
        .find(|number| !numbered(*number).exists())
        .unwrap_or(1);
    if resume {
        numbered(free.saturating_sub(1).max(1))
    } else {
        numbered(free)
    }
}
