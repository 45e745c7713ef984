//! Files of `torch.save` that hold a dictionary of tensors: the ZIP archives of PyTorch 1.6 and later, and the rows of pickles
//! before that, which the published weights are.

use std::collections::HashMap;

use crate::pickle::{self, StoragePlan, TensorPlan, Value};

/// Float32 tensors by name: shape and values.
pub(crate) type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Storages by key, as bytes.
type Storages<'a> = HashMap<String, &'a [u8]>;

/// Reads a file's float32 tensors.
pub(crate) fn read(bytes: &[u8]) -> Result<Tensors, String> {
    let (root, storages) = if bytes.starts_with(b"PK\x03\x04") {
        archive(bytes)?
    } else {
        row_of_pickles(bytes)?
    };
    let Value::Dictionary(entries) = root else {
        return Err("it holds something else than a dictionary of tensors".into());
    };
    let mut tensors = HashMap::new();
    for (name, plan) in entries {
        if &*plan.storage.kind == "FloatStorage" {
            let storage = storages.get(&*plan.storage.key);
            let storage = storage.ok_or_else(|| format!("`{name}` has no values"))?;
            let values = values(&plan, storage).ok_or_else(|| format!("`{name}` is cut off"))?;
            tensors.insert(name.to_string(), (plan.shape.clone(), values));
        }
    }
    Ok(tensors)
}

/// A tensor's values, row by row; none where they reach beyond the storage.
fn values(plan: &TensorPlan, storage: &[u8]) -> Option<Vec<f32>> {
    let (fours, _) = storage.as_chunks::<4>();
    let count = plan
        .shape
        .iter()
        .try_fold(1usize, |count, size| count.checked_mul(*size))?;
    // A step of 0 repeats values, which no file of weights needs and a small file would become a large one by.
    if count > fours.len() {
        return None;
    }
    let mut place = vec![0; plan.shape.len()];
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let mut steps = place.iter().zip(&plan.strides);
        let at = steps.try_fold(plan.offset, |sum, (place, stride)| {
            sum.checked_add(stride.checked_mul(*place)?)
        })?;
        found.push(f32::from_le_bytes(*fours.get(usize::try_from(at).ok()?)?));
        for (place, size) in place.iter_mut().zip(&plan.shape).rev() {
            *place += 1;
            if *place < *size as u64 {
                break;
            }
            *place = 0;
        }
    }
    Some(found)
}

/// Magic number, version, description of the machine, the object, its storages' keys, then each storage: count and values.
fn row_of_pickles(bytes: &[u8]) -> Result<(Value, Storages<'_>), String> {
    // 0x1950a86a20f9469cfc6c, as the pickle of Python's that PyTorch writes.
    const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    if !bytes.starts_with(MAGIC) {
        return Err("neither of PyTorch's magic numbers".into());
    }
    let mut at = 0;
    let mut next = || {
        let (value, length) = pickle::read(&bytes[at..])?;
        at += length;
        Ok::<_, String>((value, at))
    };
    // What comes before the object: magic number, version, machine.
    for _ in 0..3 {
        next()?;
    }
    let (root, _) = next()?;
    let (keys, mut at) = next()?;
    let (Value::Dictionary(entries), Value::List(keys)) = (&root, keys) else {
        return Err("it holds something else than a dictionary of tensors".into());
    };
    let plans: HashMap<&str, &StoragePlan> = entries
        .iter()
        .map(|(_, plan)| (&*plan.storage.key, &*plan.storage))
        .collect();
    let mut storages = HashMap::new();
    for key in keys {
        let plan = plans.get(&*key).ok_or("a storage that no tensor has")?;
        let count = bytes
            .get(at..at + 8)
            .and_then(|count| count.try_into().ok());
        let count = u64::from_le_bytes(count.ok_or("it is cut off")?);
        let length = count.checked_mul(element_bytes(&plan.kind)?);
        let storage = length
            .and_then(|length| usize::try_from(length).ok())
            .and_then(|length| bytes.get(at + 8..)?.get(..length));
        let storage = storage.ok_or("it is cut off")?;
        if count != plan.count {
            return Err(format!(
                "storage {key} has another length than its tensors say"
            ));
        }
        at += 8 + storage.len();
        storages.insert(key.to_string(), storage);
    }
    Ok((root, storages))
}

fn element_bytes(kind: &str) -> Result<u64, String> {
    Ok(match kind {
        "DoubleStorage" | "LongStorage" => 8,
        "FloatStorage" | "IntStorage" => 4,
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
        "ByteStorage" | "CharStorage" | "BoolStorage" => 1,
        other => return Err(format!("a storage of kind {other}")),
    })
}

/// `NAME/data.pkl`, and each storage as `NAME/data/KEY`, none of them compressed.
fn archive(bytes: &[u8]) -> Result<(Value, Storages<'_>), String> {
    let mut root = None;
    let mut storages = HashMap::new();
    for (name, content) in members(bytes).ok_or("its archive is cut off, or compressed")? {
        let (_, name) = name.split_once('/').unwrap_or(("", &name));
        if name == "data.pkl" {
            root = Some(pickle::read(content)?.0);
        } else if name == "byteorder" && content != b"little" {
            return Err("its numbers have the most significant byte first".into());
        } else if let Some(key) = name.strip_prefix("data/") {
            storages.insert(key.to_owned(), content);
        }
    }
    Ok((root.ok_or("its archive has no data.pkl")?, storages))
}

/// Names and contents of a ZIP archive without compression (APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16).
fn members(bytes: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let short = |at: usize| {
        let two = bytes.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes(two.try_into().ok()?)))
    };
    let long = |at: usize| Some(short(at)? | short(at + 2)? << 16);
    // The last record is followed by at most a comment of 65,535 bytes.
    let last = bytes.len().checked_sub(22)?;
    let end = (last.saturating_sub(0xffff)..=last)
        .rev()
        .find(|at| bytes[*at..].starts_with(b"PK\x05\x06"))?;
    let (count, mut at) = (short(end + 10)?, long(end + 16)?);
    let mut members = Vec::new();
    for _ in 0..count {
        if !bytes.get(at..)?.starts_with(b"PK\x01\x02") || short(at + 10)? != 0 {
            return None;
        }
        let (length, header) = (long(at + 24)?, long(at + 42)?);
        let (name, extra, comment) = (short(at + 28)?, short(at + 30)?, short(at + 32)?);
        let text = String::from_utf8_lossy(bytes.get(at + 46..)?.get(..name)?).into_owned();
        let begin = header + 30 + short(header + 26)? + short(header + 28)?;
        members.push((text, bytes.get(begin..)?.get(..length)?));
        at += 46 + name + extra + comment;
    }
    Some(members)
}
