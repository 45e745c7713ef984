//! What a run was made with, as names and values; and what a set of runs shares.

use serde_json::Value;

use super::contents::ReportTable;
use run_files::run_folder::{changed_settings, commits};
use run_files::run_record::RunRecord;
use run_files::wording::counted;

/// Names and values, in order.
pub(super) type Pairs = Vec<(String, String)>;

/// Every setting of a run.
pub(super) fn settings(record: &RunRecord) -> Pairs {
    let settings = serde_json::to_value(&record.settings)
        .expect("settings read from JSON can be written as JSON");
    let mut pairs = Vec::new();
    flatten("", &settings, &mut pairs);
    pairs
}

/// Everything recorded about where a run ran: versions, commit, command, device, data.
pub(super) fn environment(record: &RunRecord) -> Pairs {
    let mut pairs = Vec::new();
    let mut environment = record.environment.clone();
    let resumed = environment
        .as_object_mut()
        .and_then(|environment| environment.remove("resumed"));
    flatten("", &environment, &mut pairs);
    if let Some(resumed) = resumed.as_ref().and_then(Value::as_array) {
        // Those above are the first process's.
        let commits = commits(&record.environment);
        pairs.push(("commits".to_owned(), commits.join(", ")));
        let times = format!(
            "{}, as another process",
            counted(resumed.len() as u64, "time")
        );
        pairs.push(("resumed".to_owned(), times));
        let changed = changed_settings(&record.environment);
        pairs.push((
            "changed settings".to_owned(),
            plain(&changed.join(", ").into()),
        ));
    }
    pairs
}

/// Objects become names with spaces; a list of texts, such as a command, becomes one line.
fn flatten(name: &str, value: &Value, pairs: &mut Pairs) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = match name {
                    "" => key.clone(),
                    name => format!("{name} {key}"),
                };
                flatten(&key, value, pairs);
            }
        }
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(plain).collect();
            pairs.push((name.to_owned(), words.join(" ")));
        }
        other => pairs.push((name.to_owned(), plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The pairs that all of these have alike, and a table with a row each of those that differ or that some lack.
///
/// `names` are those of the rows. Nothing differs between fewer than two.
pub(super) fn shared_and_different(all: &[Pairs], names: &[String]) -> (Pairs, ReportTable) {
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in all.iter().flatten() {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let value = |pairs: &Pairs, key: &String| {
        let pair = pairs.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.clone())
    };
    let mut shared = Vec::new();
    let mut table = ReportTable {
        columns: vec!["run".to_owned()],
        rows: names.iter().map(|name| vec![name.clone()]).collect(),
        notes: Vec::new(),
    };
    for key in keys {
        let values: Vec<Option<String>> = all.iter().map(|pairs| value(pairs, key)).collect();
        match values.first() {
            Some(Some(first)) if values.iter().all(|value| value.as_ref() == Some(first)) => {
                shared.push((key.clone(), first.clone()));
            }
            _ => {
                table.columns.push(key.clone());
                for (row, value) in table.rows.iter_mut().zip(values) {
                    row.push(value.unwrap_or_default());
                }
            }
        }
    }
    (shared, table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pairs(value: &Value) -> Pairs {
        let mut pairs = Vec::new();
        flatten("", value, &mut pairs);
        pairs
    }

    fn text(pairs: &[(&str, &str)]) -> Pairs {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn any_json_becomes_names_and_values() {
        let value = json!({
            "versions": {"burn": "0.22.1", "deep": {"er": 1.5}},
            "commit": null,
            "note": "",
            "command": ["trainer", "train", "--seed", 1],
            "threads": 2,
            "dirty": true,
        });
        let expected = [
            ("versions burn", "0.22.1"),
            ("versions deep er", "1.5"),
            ("commit", "none"),
            ("note", "none"),
            ("command", "trainer train --seed 1"),
            ("threads", "2"),
            ("dirty", "true"),
        ];
        assert_eq!(pairs(&value), text(&expected));
    }

    #[test]
    fn what_differs_is_told_for_each_run_and_what_does_not_once() {
        let all = [
            text(&[("depth", "28"), ("width", "1"), ("old", "x")]),
            text(&[("depth", "40"), ("width", "1"), ("new", "y")]),
        ];
        let names = ["a".to_owned(), "b".to_owned()];
        let (shared, table) = shared_and_different(&all, &names);
        assert_eq!(shared, text(&[("width", "1")]));
        assert_eq!(table.columns, ["run", "depth", "old", "new"]);
        assert_eq!(table.rows[0], ["a", "28", "x", ""]);
        assert_eq!(table.rows[1], ["b", "40", "", "y"]);
    }

    #[test]
    fn one_run_shares_everything_with_itself() {
        let all = [text(&[("depth", "28")])];
        let (shared, table) = shared_and_different(&all, &["a".to_owned()]);
        assert_eq!(shared, all[0]);
        assert_eq!(table.columns, ["run"]);
        let (shared, table) = shared_and_different(&[], &[]);
        assert!(shared.is_empty() && table.rows.is_empty());
    }
}
