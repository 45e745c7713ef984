//! What a row of the settings' table says, and what is made of the rows.

use super::domain::Domain;

/// What the table says about one setting, besides its field and its flag.
pub(super) struct Row {
    /// In `config.json`; that of the field.
    pub(super) name: &'static str,
    pub(super) flag: Option<&'static str>,
    pub(super) environment: Option<&'static str>,
    pub(super) values: Domain,
    /// What is counted, for messages.
    pub(super) unit: &'static str,
    pub(super) change: Change,
    /// Whether `null` is a value, meaning none.
    pub(super) is_optional: bool,
    /// Whether runs were recorded before there was such a setting; its default is what they did.
    pub(super) is_recent: bool,
    /// Whether `config.json` names it only where its value is not the default, so that the files of runs that do without it
    /// stay as they were.
    pub(super) is_left_out_at_default: bool,
    /// Texts that it takes, the edges of its range among them and at least one that is not its default: tests of all settings go
    /// through them.
    pub(super) takes: &'static [&'static str],
    /// Texts that it refuses, those that lie just beyond its edges among them.
    pub(super) refuses: &'static [&'static str],
}

/// What a continued run makes of another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No number of the run depends on it.
    Free,
    /// It is then another run than the one that `config.json` describes: only with `--allow-config-change`.
    Compared,
    /// Never: checkpoints would fit no more, the batches done of an epoch would be others, or its numbers would be of two
    /// kinds.
    Fixed,
}

/// Makes `Settings`, their defaults, `Key`, `TrainFlags` and the table of rows.
///
/// After the field and its default, a row says, in this order and where it applies: `values`, `unit`, `flag` (field, flag, name of
/// its value, help) or `switch` (field, flag, the value that it gives, help), `environment`, `change`, `none`, `since`, `at_default`,
/// `takes`, `refuses`. `{values}` in a help stands for what the values are.
macro_rules! settings {
    (
        $(
            $(#[$about:meta])*
            $Key:ident $field:ident: $Type:ty = $default:expr => {
                values: $values:expr,
                $(unit: $unit:literal,)?
                $(flag: $flag:ident $flag_name:literal $value_name:literal, $($flag_help:literal)+,)?
                $(switch: $switch:ident $switch_name:literal gives $gives:literal, $($switch_help:literal)+,)?
                $(environment: $environment:literal,)?
                change: $change:ident,
                $(none: $none:ident,)?
                $(since: $since:ident,)?
                $(at_default: $at_default:ident,)?
                takes: [$($takes:literal),+],
                refuses: [$($refuses:literal),+],
            }
        )+
        [ $($options:tt)* ]
    ) => {
        /// Everything that decides a training run.
        ///
        /// The defaults are the post's values with the correct sampler and held-out validation. Changing a default changes
        /// what a run without flags computes, so a test pins all of them.
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[$about])* pub $field: $Type,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// Names one field of [`Settings`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // Each variant is the field of the same name, documented there.
        pub enum Key {
            $($Key,)+
        }

        impl Key {
            /// Every key, in the order of the fields.
            pub const ALL: [Self; ROWS.len()] = [$(Self::$Key,)+];
        }

        /// The rows, in the order of the keys.
        pub(super) const ROWS: [$crate::settings::row::Row; [$(stringify!($Key),)+].len()] = [
            $($crate::settings::row::Row {
                name: stringify!($field),
                flag: $crate::settings::row::first(&[$($flag_name,)? $($switch_name,)?]),
                environment: $crate::settings::row::first(&[$($environment,)?]),
                values: $values,
                unit: concat!($($unit)?),
                change: $crate::settings::row::Change::$change,
                is_optional: !stringify!($($none)?).is_empty(),
                is_recent: !stringify!($($since)?).is_empty(),
                is_left_out_at_default: !stringify!($($at_default)?).is_empty(),
                takes: &[$($takes),+],
                refuses: &[$($refuses),+],
            },)+
        ];

        // clap would put a doc comment in place of the command's own description, so only rustdoc may see this one.
        #[cfg_attr(
            doc,
            doc = "Flags of the training command.\n\nValues stay text here, so that flags, environment and files share one \
                   parser, one set of ranges and one form of error. Help lines that name no environment variable have none."
        )]
        #[cfg_attr(not(doc), allow(missing_docs))]
        #[derive(clap::Args, Clone, Debug, Default)]
        pub struct TrainFlags {
            $(
                $(
                    #[doc = concat!($($flag_help),+)]
                    #[arg(long, value_name = $value_name, allow_negative_numbers = true, value_parser = $crate::settings::options::flag_text($value_name), help = $crate::settings::row::help(&$values, concat!($($flag_help),+)))]
                    pub $flag: Option<String>,
                )?
                $(
                    #[doc = concat!($($switch_help),+)]
                    #[arg(long, help = concat!($($switch_help),+))]
                    pub $switch: bool,
                )?
            )+
            $($options)*
        }

        impl TrainFlags {
            /// The settings given as flags, as text.
            pub(super) fn given(&self) -> Vec<(Key, &str)> {
                let mut given = Vec::new();
                $(
                    $(given.extend(self.$flag.as_deref().map(|text| (Key::$Key, text)));)?
                    $(given.extend(self.$switch.then_some((Key::$Key, $gives)));)?
                )+
                given
            }
        }
    };
}

pub(super) use settings;

/// The first of none or one.
pub(super) const fn first(texts: &[&'static str]) -> Option<&'static str> {
    match texts {
        [] => None,
        [text, ..] => Some(text),
    }
}

/// A flag's help, with what its values are in its place.
pub(super) fn help(values: &Domain, text: &str) -> String {
    text.replace("{values}", &values.describe())
}
