//! What the rows make of flags.

use crate::settings::domain::Domain;
use crate::settings::{Key, Settings, TrainFlags};
use clap::{Args, Command, FromArgMatches};

fn command() -> Command {
    TrainFlags::augment_args(Command::new("train").no_binary_name(true))
}

fn parse(arguments: &[&str]) -> TrainFlags {
    TrainFlags::from_arg_matches(&command().get_matches_from(arguments)).unwrap()
}

#[test]
fn every_flag_reaches_its_key() {
    for key in Key::ALL {
        let Some(flag) = key.flag() else { continue };
        if let Domain::Boolean = key.domain() {
            let given = if key == Key::Shortcuts {
                "false"
            } else {
                "true"
            };
            assert_eq!(parse(&[flag]).given(), [(key, given)]);
            continue;
        }
        // A negative number must reach the range check, not be taken for a flag.
        let is_number =
            key.parse("16").is_ok() || key.parse("28").is_ok() || key.parse("0").is_ok();
        let text = if is_number && !matches!(key.domain(), Domain::Path) {
            "-5"
        } else {
            "x"
        };
        assert_eq!(parse(&[flag, text]).given(), [(key, text)], "{flag}");
    }
    assert_eq!(parse(&[]).given(), []);
}

#[test]
fn help_states_default_and_environment_of_every_flag() {
    let defaults = Settings::default().to_map();
    let command = command();
    for argument in command.get_arguments() {
        let help = argument.get_help().unwrap().to_string().replace('\n', " ");
        assert!(help.contains("[default: "), "{}: {help}", argument.get_id());
        let Some(key) = Key::from_name(argument.get_id().as_str()) else {
            continue;
        };
        if let Some(name) = key.environment() {
            assert!(help.contains(&format!("[env: {name}")), "{help}");
        } else {
            assert!(!help.contains("[env: "), "{help}");
        }
        let default = match &defaults[key.name()] {
            serde_json::Value::Null => "none".to_owned(),
            value => value
                .to_string()
                .trim_matches('"')
                .trim_end_matches(".0")
                .to_owned(),
        };
        assert!(
            help.contains(&format!("[default: {default}")),
            "{default}: {help}"
        );
    }
}

#[test]
fn the_flags_leave_the_description_of_the_command_alone() {
    let described = Command::new("train").about("Trains.");
    let command = TrainFlags::augment_args(described);
    assert_eq!(
        command.get_about().map(ToString::to_string).as_deref(),
        Some("Trains.")
    );
    assert!(command.get_long_about().is_none());
}

#[test]
fn every_setting_with_a_flag_is_an_argument() {
    let command = command();
    let flags: Vec<String> = command
        .get_arguments()
        .map(|argument| format!("--{}", argument.get_long().unwrap()))
        .collect();
    for key in Key::ALL {
        if let Some(flag) = key.flag() {
            assert!(flags.iter().any(|known| known == flag), "{flag}");
        }
    }
    let others: Vec<&String> = flags
        .iter()
        .filter(|flag| Key::ALL.iter().all(|key| key.flag() != Some(flag.as_str())))
        .collect();
    assert_eq!(
        others,
        [
            "--auto-batch",
            "--memory-limit",
            "--config",
            "--data",
            "--resume",
            "--allow-config-change",
            "--from-best",
            "--rank-timeout",
            "--ranks",
            "--print-config",
            "--json",
        ]
    );
}

#[test]
fn a_rank_timeout_out_of_range_is_refused_with_the_range() {
    for given in ["4", "86401", "x"] {
        let refused = command().try_get_matches_from(["--rank-timeout", given]);
        let text = refused.expect_err(given).to_string();
        assert!(
            text.contains("expected an integer from 5 to 86400"),
            "{text}"
        );
    }
    assert_eq!(parse(&["--rank-timeout", "60"]).rank_timeout, 60);
    // With the 16 s that Open MPI takes to end the others, a run whose rank hangs is over within half a minute.
    assert!(parse(&[]).rank_timeout + 16 < 30);
}
