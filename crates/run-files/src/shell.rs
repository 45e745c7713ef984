//! Words of commands that people are told to type.

use std::path::Path;

/// A path as a shell takes it for one word, and for no flag.
pub fn quoted_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.starts_with('-') {
        return quoted(&format!("./{text}"));
    }
    quoted(&text)
}

/// A text as a shell takes it for one word.
pub fn quoted(word: &str) -> String {
    let is_plain =
        |character: char| character.is_alphanumeric() || "-_=+,./:@%".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("--depths"), "--depths");
        assert_eq!(quoted("28,40"), "28,40");
        assert_eq!(quoted("my data"), "'my data'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$HOME/~x"), "'$HOME/~x'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted_path(Path::new("my runs/b")), "'my runs/b'");
        assert_eq!(quoted_path(Path::new("-x")), "./-x");
    }
}
