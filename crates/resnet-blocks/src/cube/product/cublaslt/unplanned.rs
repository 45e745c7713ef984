//! Products that the library was to make and has no plan for.

use std::sync::{Mutex, PoisonError};

use super::plan::Key;
use crate::cube::matrix::Storage;

/// The first of them with the library's reason, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Unplanned(Mutex<Option<(String, usize)>>);

impl Unplanned {
    /// Takes note of one, which is given once.
    pub(super) fn note(&self, key: &Key, reason: &str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, count) = noted.get_or_insert_with(|| (format!("{}: {reason}", sizes(key)), 0));
        *count += 1;
    }

    /// What users are told; none where there are none.
    pub(super) fn text(&self) -> Option<String> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, count) = noted.as_ref()?;
        let kinds = if *count == 1 { "kind" } else { "kinds" };
        Some(format!(
            "cuBLASLt refuses {count} {kinds} of product, which the program's own kernel makes; the first is {first}"
        ))
    }
}

fn sizes(key: &Key) -> String {
    let transposed = |is_transposed| if is_transposed { " transposed" } else { "" };
    let operands = match key.operands {
        Storage::F32 => "float32",
        Storage::Bf16 => "bfloat16",
    };
    format!(
        "[{}, {}]{} by [{}, {}]{} in {operands}",
        key.rows,
        key.depth,
        transposed(key.is_left_transposed),
        key.depth,
        key.columns,
        transposed(key.is_right_transposed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_with_its_reason_and_all_are_counted() {
        let unplanned = Unplanned::default();
        assert_eq!(unplanned.text(), None);
        let key = |rows| Key {
            rows,
            columns: 64,
            depth: 576,
            operands: Storage::Bf16,
            result: Storage::Bf16,
            is_left_transposed: false,
            is_right_transposed: true,
        };
        unplanned.note(&key(128), "status 15");
        let text = unplanned.text().expect("one");
        let expected = "cuBLASLt refuses 1 kind of product, which the program's own kernel makes; the first is [128, 576] by [576, 64] transposed \
                        in bfloat16: status 15";
        assert_eq!(text, expected);
        unplanned.note(&key(256), "it has no algorithm");
        let text = unplanned.text().expect("two");
        assert!(
            text.contains("refuses 2 kinds") && text.ends_with("status 15"),
            "{text}"
        );
    }
}
