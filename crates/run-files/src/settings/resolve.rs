//! Putting settings together from their five sources.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::source::Source;
use super::{Key, Preset, Settings, SettingsError, TrainFlags, config_file, intermediate_dim_of};

/// The source of every key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance(Vec<Source>);

impl Provenance {
    /// Where the value of `key` came from.
    pub fn source(&self, key: Key) -> &Source {
        &self.0[position(key)]
    }
}

/// Complete settings, and where each value came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Their sources.
    pub provenance: Provenance,
}

/// Puts the settings together: flags over environment over file over preset over defaults.
///
/// `environment` looks a variable up by name; one that is set to the empty text counts as unset. The file is the one
/// given with `--config`. A resumed run without that flag takes the `config.json` of its run folder in place of it, so
/// that `--run-dir R --resume` continues a run with no other flag; compare the result with what the run recorded
/// through [`differences`](super::differences). Paths in a file count from the current folder, not from the file.
///
/// # Errors
/// The first value that is unknown or out of its range, named with its source, its range and the nearest name.
pub fn resolve(
    flags: &TrainFlags,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Resolved, SettingsError> {
    let from_flags = flag_layer(flags)?;
    let from_environment = environment_layer(environment)?;
    let file = flags
        .config
        .clone()
        .or_else(|| recorded_config(flags.resume.is_some(), &from_flags, &from_environment));
    let from_file = file.map_or_else(|| Ok(Vec::new()), |path| file_layer(&path))?;

    let preset = [&from_flags, &from_environment, &from_file]
        .into_iter()
        .find_map(|layer| value_of(layer, Key::Preset))
        .and_then(Value::as_str)
        .and_then(|name| name.parse::<Preset>().ok());
    let from_preset = preset.map_or_else(Vec::new, preset_layer);

    let mut values = Settings::default().values();
    let mut sources = vec![Source::Default; values.len()];
    for (key, value, source) in [from_preset, from_file, from_environment, from_flags]
        .into_iter()
        .flatten()
    {
        values[position(key)].1 = value;
        sources[position(key)] = source;
    }
    let mut settings = Settings::from_values(values);
    if sources[position(Key::IntermediateDim)] == Source::Default {
        settings.intermediate_dim = intermediate_dim_of(settings.width);
        sources[position(Key::IntermediateDim)] = Source::Derived(Key::Width.name());
    }
    settings.check_learning_rates()?;
    Ok(Resolved {
        settings,
        provenance: Provenance(sources),
    })
}

type Layer = Vec<(Key, Value, Source)>;

fn flag_layer(flags: &TrainFlags) -> Result<Layer, SettingsError> {
    let data = flags.data.map(|data| (Key::DataDir, data.data_dir()));
    let given = flags.given().into_iter().chain(data);
    given
        .map(|(key, text)| {
            let source = Source::Flag(
                key.flag()
                    .expect("only keys with a flag are given as flags"),
            );
            match key.parse(text) {
                Ok(value) => Ok((key, value, source)),
                Err(rejected) => Err(rejected.into_error(key, source.to_string())),
            }
        })
        .collect()
}

fn environment_layer(environment: &dyn Fn(&str) -> Option<String>) -> Result<Layer, SettingsError> {
    let mut layer = Vec::new();
    for key in Key::ALL {
        let Some(name) = key.environment() else {
            continue;
        };
        let Some(text) = environment(name).filter(|text| !text.is_empty()) else {
            continue;
        };
        let source = Source::Environment(name);
        match key.parse_environment(&text) {
            Ok(value) => layer.push((key, value, source)),
            Err(rejected) => return Err(rejected.into_error(key, source.to_string())),
        }
    }
    Ok(layer)
}

fn file_layer(path: &Path) -> Result<Layer, SettingsError> {
    let entries = config_file::read(path)?.into_iter();
    Ok(entries
        .map(|entry| {
            (
                entry.key,
                entry.value,
                Source::File {
                    path: path.to_owned(),
                    line: entry.line,
                },
            )
        })
        .collect())
}

fn preset_layer(preset: Preset) -> Layer {
    preset
        .values()
        .into_iter()
        .map(|(key, value)| (key, value, Source::Preset(preset)))
        .collect()
}

/// The `config.json` of the run to resume, where there is one.
fn recorded_config(resume: bool, from_flags: &Layer, from_environment: &Layer) -> Option<PathBuf> {
    let run_dir =
        value_of(from_flags, Key::RunDir).or_else(|| value_of(from_environment, Key::RunDir))?;
    let path = Path::new(run_dir.as_str()?).join("config.json");
    (resume && path.is_file()).then_some(path)
}

fn value_of(layer: &Layer, wanted: Key) -> Option<&Value> {
    layer
        .iter()
        .find(|(key, ..)| *key == wanted)
        .map(|(_, value, _)| value)
}

fn position(key: Key) -> usize {
    Key::ALL
        .iter()
        .position(|known| *known == key)
        .expect("`Key::ALL` holds every key")
}

#[cfg(test)]
mod tests;
