//! `--print-config`: every value and where it came from.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Key, Resolved};

impl Resolved {
    /// The settings with their sources, as an aligned table or as one JSON object; ends with a newline.
    ///
    /// The JSON maps each key to `value`, `source` (`flag`, `environment`, `file`, `preset`, `derived`, `default`) and
    /// `detail` (the source in words).
    pub fn print_config(&self, json: bool) -> String {
        let values = self.settings.to_map();
        if json {
            self.as_json(&values)
        } else {
            self.as_table(&values)
        }
    }

    fn as_json(&self, values: &Map<String, Value>) -> String {
        let object: Map<String, Value> = Key::ALL
            .iter()
            .map(|key| {
                let source = self.provenance.source(*key);
                let entry = json!({
                    "value": values[key.name()],
                    "source": source.kind(),
                    "detail": source.to_string(),
                });
                (key.name().to_owned(), entry)
            })
            .collect();
        format!("{}\n", Value::Object(object))
    }

    fn as_table(&self, values: &Map<String, Value>) -> String {
        let shown: Vec<String> = Key::ALL
            .iter()
            .map(|key| plain(&values[key.name()]))
            .collect();
        let key_width = Key::ALL
            .iter()
            .map(|key| key.name().len())
            .max()
            .unwrap_or(0);
        let value_width = shown
            .iter()
            .map(|value| value.chars().count())
            .max()
            .unwrap_or(0);
        let mut table = String::new();
        for (key, value) in Key::ALL.iter().zip(&shown) {
            let source = self.provenance.source(*key);
            // Writing into a `String` cannot fail.
            let _ = writeln!(
                table,
                "{:key_width$}  {value:value_width$}  {source}",
                key.name()
            );
        }
        table
    }
}

/// A value as a flag would spell it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{TrainFlags, resolve};

    fn resolved() -> Resolved {
        let flags = TrainFlags {
            preset: Some("demo".to_owned()),
            width: Some("0.125".to_owned()),
            run_dir: Some("runs/größe".to_owned()),
            ..TrainFlags::default()
        };
        resolve(&flags, &|name| (name == "EPOCHS").then(|| "3".to_owned())).unwrap()
    }

    #[test]
    fn the_table_is_aligned_and_names_every_source() {
        let table = resolved().print_config(false);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), Key::ALL.len());
        let expected = [
            ("width", "0.125", "flag --width"),
            ("epochs", "3", "environment variable EPOCHS"),
            ("latent_dim", "32", "preset demo"),
            ("intermediate_dim", "128", "derived from width"),
            ("dropout", "0.0", "default"),
            ("limit_train", "none", "default"),
        ];
        for (key, value, source) in expected {
            assert!(
                lines.contains(&format!("{key:28}  {value:10}  {source}").as_str()),
                "{key} in\n{table}"
            );
        }
    }

    #[test]
    fn the_json_is_one_line_with_value_and_source_of_every_key() {
        let text = resolved().print_config(true);
        assert_eq!(text.matches('\n').count(), 1);
        let object: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert!(object.keys().eq(Key::ALL.iter().map(|key| key.name())));
        assert_eq!(
            object["width"],
            json!({"value": 0.125, "source": "flag", "detail": "flag --width"})
        );
        assert_eq!(object["limit_test"]["value"], Value::Null);
    }
}
