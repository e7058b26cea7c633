//! What a pickle may name and call, and what becomes of a call: nothing is run, and the arguments are
//! written down.

use super::{Machine, Pickled, Stored, Value};
use crate::files::torch::problem::TorchProblem;
use crate::files::torch::storages::StorageType;
use crate::json::shorten;

const DIMENSIONS_MAX: usize = 8;
const NO_STORAGE: &str = "it names a storage in a way that is not known";

impl<'a> Machine<'a> {
    pub(super) fn named(&mut self, module: &str, name: &str) -> Result<(), TorchProblem> {
        let value = match (module, name) {
            ("collections", "OrderedDict") => Value::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Value::RebuildTensor,
            ("torch", name) if let Some(of) = StorageType::of(name) => Value::StorageType(of),
            _ => {
                let name = shorten(format!("{module}.{name}"));
                return Err(TorchProblem::Global { name });
            }
        };
        self.push(value)
    }

    /// What stands in the pickle for the bytes of a storage.
    pub(super) fn storage(&mut self) -> Result<(), TorchProblem> {
        let Value::Tuple(tuple) = self.pop()? else {
            return self.wrong(NO_STORAGE);
        };
        let [
            Value::Text("storage"),
            Value::StorageType(of),
            Value::Text(key),
            Value::Text(_device),
            Value::Int(numbers),
        ] = *self.tuples[tuple].as_slice()
        else {
            return self.wrong(NO_STORAGE);
        };
        let Ok(numbers) = u64::try_from(numbers) else {
            return self.wrong(NO_STORAGE);
        };
        self.storages.push(Stored { of, key, numbers });
        self.push(Value::Storage(self.storages.len() - 1))
    }

    /// A call, of which only the arguments are looked at.
    pub(super) fn reduce(&mut self) -> Result<(), TorchProblem> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Tuple(tuple) = arguments else {
            return self.wrong("a call has no arguments");
        };
        match function {
            Value::OrderedDict if self.tuples[tuple].is_empty() => self.dict(),
            Value::OrderedDict => self.wrong("a dict is made of something"),
            Value::RebuildTensor => {
                let tensor = self.tensor(tuple)?;
                self.tensors.push(tensor);
                self.push(Value::Tensor(self.tensors.len() - 1))
            }
            _ => self.wrong("it calls what is no function"),
        }
    }

    fn tensor(&self, arguments: usize) -> Result<Pickled<'a>, TorchProblem> {
        let arguments = self.tuples[arguments].as_slice();
        let [
            Value::Storage(storage),
            Value::Int(offset),
            Value::Tuple(shape),
            Value::Tuple(strides),
            Value::Bool,
            Value::Dict(hooks),
        ] = *arguments
        else {
            return self.wrong("a tensor is made of something else than a storage");
        };
        if !self.dicts[hooks].is_empty() {
            return self.wrong("a tensor has hooks, which would run");
        }
        let Ok(offset) = u64::try_from(offset) else {
            return self.wrong("a tensor begins before its storage");
        };
        Ok(Pickled {
            storage: self.storages[storage],
            offset,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
        })
    }

    /// Few, so that a tuple that is used many times is no memory.
    fn sizes(&self, tuple: usize) -> Result<Vec<u64>, TorchProblem> {
        let sizes = self.tuples[tuple].as_slice();
        if sizes.len() > DIMENSIONS_MAX {
            return Err(TorchProblem::TooMany {
                what: "dimensions in a tensor",
                max: DIMENSIONS_MAX,
            });
        }
        let size = |value: &Value<'_>| match value {
            Value::Int(size) => u64::try_from(*size).ok(),
            _ => None,
        };
        let sizes: Option<Vec<u64>> = sizes.iter().map(size).collect();
        sizes.map_or_else(|| self.wrong("a tensor has sizes that are none"), Ok)
    }

    /// A state dict notes the versions of its modules beside its tensors, and nothing else.
    pub(super) fn build(&mut self) -> Result<(), TorchProblem> {
        let (state, Value::Dict(_)) = (self.pop()?, self.top()?) else {
            return self.wrong("it changes what is no dict");
        };
        let Value::Dict(state) = state else {
            return self.wrong("it changes a dict in ways that are not known");
        };
        match self.dicts[state].as_slice() {
            [] | [(Value::Text("_metadata"), _)] => Ok(()),
            _ => self.wrong("it changes more of a dict than `_metadata`"),
        }
    }

    /// The tensors of the dict that is the result.
    pub(super) fn weights(
        self,
        result: Value<'a>,
    ) -> Result<Vec<(&'a str, Pickled<'a>)>, TorchProblem> {
        let Value::Dict(dict) = result else {
            let found = result.kind();
            return Err(TorchProblem::NoWeights { found });
        };
        let weight = |(key, value): &(Value<'a>, Value<'a>)| match (*key, *value) {
            (Value::Text(name), Value::Tensor(tensor)) => Ok((name, self.tensors[tensor].clone())),
            (Value::Text(name), other) => Err(TorchProblem::NoTensor {
                name: shorten(name.into()),
                found: other.kind(),
            }),
            (other, _) => Err(TorchProblem::NoTensor {
                name: "without a name".into(),
                found: other.kind(),
            }),
        };
        self.dicts[dict].iter().map(weight).collect()
    }
}
