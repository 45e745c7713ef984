//! The few instructions of Python's pickle that a dictionary of tensors is written with. Nothing is called or imported.
//!
//! What a weights file does not need becomes [`Value::Other`], so that values never nest deeper than a tensor's own: no file can
//! make them grow or overflow the stack.

use std::collections::HashMap;
use std::rc::Rc;

/// What an instruction puts on the stack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Text(Rc<str>),
    /// A class or function, `module.name`.
    Named(Rc<str>),
    Tuple(Rc<[Value]>),
    /// Texts of a list; anything else in it is lost.
    List(Vec<Rc<str>>),
    /// Tensors of a dictionary by name; anything else in it is lost.
    Dictionary(Vec<(Rc<str>, Rc<TensorPlan>)>),
    Storage(Rc<StoragePlan>),
    Tensor(Rc<TensorPlan>),
    Other,
    /// Where a list of arguments begins.
    Mark,
}

/// Values in a row, somewhere else in the file.
#[derive(Debug, PartialEq)]
pub(crate) struct StoragePlan {
    pub(crate) key: Rc<str>,
    /// As PyTorch names them: `FloatStorage`.
    pub(crate) kind: Rc<str>,
    pub(crate) count: u64,
}

/// A view of a storage.
#[derive(Debug, PartialEq)]
pub(crate) struct TensorPlan {
    pub(crate) storage: Rc<StoragePlan>,
    pub(crate) offset: u64,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<u64>,
}

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

fn depth(value: &Value) -> usize {
    match value {
        Value::Tuple(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What a persistent number of PyTorch's names: `("storage", class, key, device, count, ..)`.
fn storage(value: &Value) -> Result<Value, String> {
    let Value::Tuple(items) = value else {
        return Err("a storage without a description".into());
    };
    match &items[..] {
        [
            Value::Text(what),
            Value::Named(class),
            Value::Text(key),
            Value::Text(_),
            Value::Integer(count),
            ..,
        ] if &**what == "storage" => {
            let kind = class.rsplit('.').next().unwrap_or_default();
            Ok(Value::Storage(Rc::new(StoragePlan {
                key: key.clone(),
                kind: kind.into(),
                count: u64::try_from(*count).map_err(|_| "a storage of no length")?,
            })))
        }
        _ => Err("a storage that is described otherwise than PyTorch does".into()),
    }
}

/// What the three functions that weights files name would return.
fn call(function: &Value, arguments: &Value) -> Result<Value, String> {
    let (Value::Named(name), Value::Tuple(arguments)) = (function, arguments) else {
        return Err("its pickle calls what is no function".into());
    };
    match (&**name, &arguments[..]) {
        ("collections.OrderedDict", _) => Ok(Value::Dictionary(Vec::new())),
        ("torch._utils._rebuild_parameter", [tensor, ..]) => Ok(tensor.clone()),
        (
            "torch._utils._rebuild_tensor_v2",
            [
                Value::Storage(storage),
                Value::Integer(offset),
                Value::Tuple(shape),
                Value::Tuple(strides),
                ..,
            ],
        ) => {
            let whole = |value: &Value| match value {
                Value::Integer(value) => u64::try_from(*value).ok(),
                _ => None,
            };
            let all = |values: &[Value]| values.iter().map(whole).collect::<Option<Vec<u64>>>();
            let sizes = (whole(&Value::Integer(*offset)), all(shape), all(strides));
            let (Some(offset), Some(shape), Some(strides)) = sizes else {
                return Err("a tensor of no size".into());
            };
            if shape.len() != strides.len() {
                return Err("a tensor with other steps than dimensions".into());
            }
            Ok(Value::Tensor(Rc::new(TensorPlan {
                storage: storage.clone(),
                offset,
                shape: shape.into_iter().map(|size| size as usize).collect(),
                strides,
            })))
        }
        _ => Err(format!(
            "its pickle calls `{name}`, which no file of weights needs"
        )),
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
