//! Names of choices, as they stand on the command line and in files.

/// Gives an enum without fields its names for the command line.
macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident => $name:literal),+) => {
        impl $type {
            /// Every name that parses.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The name used on the command line and in files.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(format!("unknown {} `{text}`, expected one of {}", $what, Self::NAMES.join(", "))),
                }
            }
        }
    };
}
pub(crate) use names;
