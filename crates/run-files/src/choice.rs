//! Enums whose variants are words, spelt the same on the command line and in files.

/// A text that names none of the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is none of {allowed}")]
pub struct UnknownChoice {
    /// What was given.
    pub given: String,
    /// The names there are.
    pub allowed: String,
}

/// Declares an enum of variants without fields by one list of their names, from which serde, `Display` and `FromStr` follow.
///
/// The crate that uses it depends on `serde` with its derive macros.
#[macro_export]
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every choice, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The names of all choices.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name on the command line and in files.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::choice::UnknownChoice;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|choice| choice.name() == text).ok_or_else(|| $crate::choice::UnknownChoice {
                    given: text.to_owned(),
                    allowed: Self::NAMES.join(", "),
                })
            }
        }
    };
}
