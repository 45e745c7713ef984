//! The few instructions of Python's pickle that a dictionary of tensors is written with. Nothing is called or imported.
//!
//! What a weights file does not need becomes [`Value::Other`], so that values never nest deeper than a tensor's own: no file can
//! make them grow or overflow the stack.

use std::collections::HashMap;

mod value;

pub(crate) use value::{StoragePlan, TensorPlan, Value};
use value::{call, depth, storage};

/// Instructions of one file at most; the FID's weights take some 30,000.
const MOST_INSTRUCTIONS: usize = 1_000_000;
/// Levels of tuples in tuples that are kept: a tensor's arguments hold its shape.
const DEEPEST_TUPLE: usize = 3;

/// The value that a pickle makes, and its length in bytes.
pub(crate) fn read(bytes: &[u8]) -> Result<(Value, usize), String> {
    let mut reader = Reader {
        bytes,
        at: 0,
        stack: Vec::new(),
        memo: HashMap::new(),
    };
    for _ in 0..MOST_INSTRUCTIONS {
        if let Some(value) = reader.step()? {
            return Ok((value, reader.at));
        }
    }
    Err(format!(
        "a pickle of more than {MOST_INSTRUCTIONS} instructions"
    ))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
}

impl<'a> Reader<'a> {
    /// Follows one instruction; the value, where it was the last.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let instruction = self.array::<1>()?[0];
        match instruction {
            // Version; frames of later versions are not written by PyTorch.
            0x80 => drop(self.array::<1>()?),
            b'.' => return Ok(Some(self.pop()?)),
            b'(' => self.stack.push(Value::Mark),
            b'}' => self.stack.push(Value::Dictionary(Vec::new())),
            b']' => self.stack.push(Value::List(Vec::new())),
            b')' => self.push_tuple(Vec::new()),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_tuple(items);
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(instruction - 0x84))?;
                self.push_tuple(items);
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.push_text(length)?;
            }
            b'U' | 0x8c => {
                let length = usize::from(self.array::<1>()?[0]);
                self.push_text(length)?;
            }
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.stack.push(Value::Named(name.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Integer(value.into()));
            }
            b'K' => {
                let value = self.array::<1>()?[0];
                self.stack.push(Value::Integer(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Integer(value.into()));
            }
            0x8a => self.push_long()?,
            b'G' => {
                self.array::<8>()?;
                self.stack.push(Value::Other);
            }
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Other),
            b'q' => {
                let place = self.array::<1>()?[0];
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.array()?);
                self.remember(place)?;
            }
            b'h' => {
                let place = self.array::<1>()?[0];
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
            }
            b'Q' => {
                let value = self.pop()?;
                self.stack.push(storage(&value)?);
            }
            b'R' => {
                let [function, arguments] = self.pop_array()?;
                self.stack.push(call(&function, &arguments)?);
            }
            // An object's further state: none of a tensor's values.
            b'b' => drop(self.pop()?),
            b's' => {
                let items = self.pop_many(2)?;
                self.set(items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(items)?;
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            other => return Err(format!("instruction {other:#04x} in its pickle")),
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or("its pickle is cut off")?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "its pickle is cut off".into())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let line = self.take(length.ok_or("its pickle is cut off")?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|error| error.to_string())
    }

    fn push_text(&mut self, length: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|error| error.to_string())?;
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    /// A whole number of up to 8 bytes; larger ones, as the magic number before everything, mean nothing here.
    fn push_long(&mut self) -> Result<(), String> {
        let length = usize::from(self.array::<1>()?[0]);
        let digits = self.take(length)?;
        let is_negative = digits.last().is_some_and(|last| *last >= 0x80);
        let mut wide = [if is_negative { 0xff } else { 0 }; 8];
        self.stack.push(match wide.get_mut(..length) {
            Some(low) => {
                low.copy_from_slice(digits);
                Value::Integer(i64::from_le_bytes(wide))
            }
            None => Value::Other,
        });
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| "its pickle is empty".into())
    }

    fn pop_array<const N: usize>(&mut self) -> Result<[Value; N], String> {
        let values = self.pop_many(N)?;
        values.try_into().map_err(|_| "its pickle is empty".into())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let at = self.stack.len().checked_sub(count);
        Ok(self.stack.split_off(at.ok_or("its pickle is empty")?))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark);
        let items = self
            .stack
            .split_off(mark.ok_or("its pickle has no mark")? + 1);
        self.stack.pop();
        Ok(items)
    }

    fn push_tuple(&mut self, items: Vec<Value>) {
        let items = items.into_iter().map(|item| match item {
            Value::List(_) | Value::Dictionary(_) | Value::Mark => Value::Other,
            item if depth(&item) + 1 >= DEEPEST_TUPLE => Value::Other,
            item => item,
        });
        self.stack.push(Value::Tuple(items.collect()));
    }

    /// Keeps what a later instruction may name. Lists and dictionaries change after this, and none is named again.
    fn remember(&mut self, place: u32) -> Result<(), String> {
        let value = match self.stack.last().ok_or("its pickle is empty")? {
            Value::List(_) | Value::Dictionary(_) | Value::Mark => Value::Other,
            value => value.clone(),
        };
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let value = self.memo.get(&place);
        let value = value.ok_or("its pickle names what it never kept")?;
        self.stack.push(value.clone());
        Ok(())
    }

    fn set(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.stack.last_mut() {
            Some(Value::Dictionary(entries)) => {
                let (pairs, _) = items.as_chunks::<2>();
                entries.extend(
                    pairs
                        .iter()
                        .filter_map(|[name, value]| match (name, value) {
                            (Value::Text(name), Value::Tensor(tensor)) => {
                                Some((name.clone(), tensor.clone()))
                            }
                            _ => None,
                        }),
                );
                Ok(())
            }
            Some(Value::Other) => Ok(()),
            _ => Err("its pickle fills what is no dictionary".into()),
        }
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.stack.last_mut() {
            Some(Value::List(texts)) => {
                texts.extend(items.into_iter().filter_map(|item| match item {
                    Value::Text(text) => Some(text),
                    _ => None,
                }));
                Ok(())
            }
            Some(Value::Other) => Ok(()),
            _ => Err("its pickle fills what is no list".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_or_calls_is_refused_without_harm() {
        // A tuple in a tuple, a hundred thousand times; twice itself, forty times: 2^40 values if they were copied.
        let mut deep = b")".to_vec();
        deep.extend([0x85].repeat(100_000));
        deep.push(b'.');
        let (value, length) = read(&deep).expect("a tuple");
        assert!(depth(&value) <= DEEPEST_TUPLE && length == deep.len());
        let mut doubled = b"K\x01".to_vec();
        for _ in 0..40 {
            doubled.extend(b"q\x00h\x00\x86");
        }
        doubled.push(b'.');
        assert!(read(&doubled).is_ok());
        let error = read(b"cos\nsystem\nX\x04\0\0\0true\x85R.").expect_err("a call");
        assert!(error.contains("calls `os.system`"), "{error}");
        // No end, no beginning, too long a text.
        for bytes in [
            &b"("[..],
            b".",
            b"X\xff\xff\xff\xffa",
            b"cos\n",
            b"t",
            b"h\x05.",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn whole_numbers_keep_their_sign() {
        for (bytes, expected) in [
            (&b"\x8a\x00."[..], 0),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x02\x00\x80.", -32_768),
            (b"\x8a\x03\x00\x80\x00.", 32_768),
            (b"J\xfe\xff\xff\xff.", -2),
            (b"M\xff\xff.", 65_535),
        ] {
            let (value, _) = read(bytes).expect("a number");
            assert_eq!(value, Value::Integer(expected));
        }
    }
}
