//! What instructions put on the stack, and what becomes of PyTorch's names for storages and tensors.

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

/// Levels of tuples in tuples.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Tuple(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What a persistent number of PyTorch's names: `("storage", class, key, device, count, ..)`.
pub(super) fn storage(value: &Value) -> Result<Value, String> {
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
pub(super) fn call(function: &Value, arguments: &Value) -> Result<Value, String> {
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
