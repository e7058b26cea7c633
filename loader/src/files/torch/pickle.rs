//! The pickle of a state dict: a program for a small machine, of which this one executes nothing. It
//! knows the instructions that `torch.save` needs to list tensors, and of the functions that these
//! may name only two: the one that makes an ordered dict, and the one that makes a tensor of a
//! stretch of a storage. Neither is called; what it would be given is written down. Any other
//! instruction or name ends it with an error.
//!
//! Values are small and refer to lists beside them by number, so nothing here nests, and each
//! instruction adds one at most: memory follows from the pickle's length, never from a number in it.
//! Knows no file.

mod calls;

use std::collections::BTreeMap;

use super::problem::TorchProblem;
use super::storages::StorageType;

/// A hundred times more than the largest published projector needs, as the other limits here.
pub(super) const PICKLE_BYTES_MAX: u64 = 1 << 20;
const INSTRUCTIONS_MAX: usize = 1 << 17;
const MARKS_MAX: usize = 64;

/// A tensor as the pickle describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pickled<'a> {
    pub storage: Stored<'a>,
    /// Numbers of the storage before its first.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// A storage as the pickle names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub of: &'static StorageType,
    pub key: &'a str,
    pub numbers: u64,
}

/// The tensors of the state dict by name, in its order.
pub(super) fn read(pickle: &[u8]) -> Result<Vec<(&str, Pickled<'_>)>, TorchProblem> {
    let mut machine = Machine {
        pickle,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        tuples: Vec::new(),
        dicts: Vec::new(),
        storages: Vec::new(),
        tensors: Vec::new(),
    };
    let result = machine.run()?;
    machine.weights(result)
}

/// What may stand on the stack. Numbers count the machine's lists.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    Tuple(usize),
    Dict(usize),
    OrderedDict,
    RebuildTensor,
    StorageType(&'static StorageType),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bool | Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::OrderedDict | Self::RebuildTensor | Self::StorageType(_) => "a function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

#[derive(Debug)]
struct Machine<'a> {
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at which lists of values began.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Stored<'a>>,
    tensors: Vec<Pickled<'a>>,
}

impl<'a> Machine<'a> {
    /// Runs to the end and gives what is left on the stack.
    fn run(&mut self) -> Result<Value<'a>, TorchProblem> {
        for _ in 0..INSTRUCTIONS_MAX {
            let begin = self.at;
            let [opcode] = self.take("an instruction")?;
            match opcode {
                b'.' => return self.end(),
                _ => self.step(opcode, begin)?,
            }
        }
        Err(TorchProblem::TooMany {
            what: "instructions",
            max: INSTRUCTIONS_MAX,
        })
    }

    fn step(&mut self, opcode: u8, begin: usize) -> Result<(), TorchProblem> {
        match opcode {
            0x80 => self.protocol(begin),
            0x95 => self.frame(),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'K' => {
                let [number] = self.take("a number")?;
                self.push(Value::Int(number.into()))
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take("a number")?);
                self.push(Value::Int(number.into()))
            }
            b'J' => {
                let number = i32::from_le_bytes(self.take("a number")?);
                self.push(Value::Int(number.into()))
            }
            0x8a => self.long(),
            b'X' => {
                let bytes = u32::from_le_bytes(self.take("a text")?);
                self.text(bytes as usize)
            }
            0x8c => {
                let [bytes] = self.take("a text")?;
                self.text(bytes.into())
            }
            b'(' => self.mark(),
            b')' => self.tuple(Vec::new()),
            0x85 => self.tuple_of(1),
            0x86 => self.tuple_of(2),
            0x87 => self.tuple_of(3),
            b't' => {
                let items = self.above_mark()?;
                self.tuple(items)
            }
            b'}' => self.dict(),
            b's' => self.set_item(),
            b'u' => self.set_items(),
            b'c' => self.global(),
            // Both name a function; this one calls it, too.
            b'i' => match self.global() {
                Err(named) => Err(named),
                Ok(()) => Err(TorchProblem::Opcode { opcode, at: begin }),
            },
            0x93 => self.stacked_global(),
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            b'q' => {
                let [index] = self.take("an index")?;
                self.remember(index.into())
            }
            b'r' => {
                let index = u32::from_le_bytes(self.take("an index")?);
                self.remember(index)
            }
            // There are fewer than instructions.
            0x94 => self.remember(self.memo.len() as u32),
            b'h' => {
                let [index] = self.take("an index")?;
                self.recall(index.into())
            }
            b'j' => {
                let index = u32::from_le_bytes(self.take("an index")?);
                self.recall(index)
            }
            _ => Err(TorchProblem::Opcode { opcode, at: begin }),
        }
    }

    fn wrong<T>(&self, problem: &'static str) -> Result<T, TorchProblem> {
        Err(TorchProblem::Pickle {
            problem,
            at: self.at,
        })
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], TorchProblem> {
        let mut taken = [0; N];
        taken.copy_from_slice(self.bytes(N, what)?);
        Ok(taken)
    }

    fn bytes(&mut self, bytes: usize, what: &'static str) -> Result<&'a [u8], TorchProblem> {
        let end = self.at.checked_add(bytes);
        let taken = end.and_then(|end| self.pickle.get(self.at..end));
        let taken = taken.ok_or(TorchProblem::PickleCut { what })?;
        self.at += bytes;
        Ok(taken)
    }

    /// Up to the end of the line, which goes too.
    fn line(&mut self) -> Result<&'a str, TorchProblem> {
        const CUT: TorchProblem = TorchProblem::PickleCut { what: "a name" };
        let rest = &self.pickle[self.at..];
        let bytes = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        self.at += bytes + 1;
        match str::from_utf8(&rest[..bytes]) {
            Ok(line) => Ok(line),
            Err(_) => self.wrong("a name is not UTF-8"),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), TorchProblem> {
        self.stack.push(value);
        Ok(())
    }

    /// What lies below the last mark is out of reach.
    fn pop(&mut self) -> Result<Value<'a>, TorchProblem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > floor {
            true => self.stack.pop().map_or_else(|| self.wrong(EMPTY), Ok),
            false => self.wrong(EMPTY),
        }
    }

    fn top(&mut self) -> Result<Value<'a>, TorchProblem> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    fn mark(&mut self) -> Result<(), TorchProblem> {
        if self.marks.len() == MARKS_MAX {
            return Err(TorchProblem::TooMany {
                what: "lists inside each other",
                max: MARKS_MAX,
            });
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn above_mark(&mut self) -> Result<Vec<Value<'a>>, TorchProblem> {
        match self.marks.pop() {
            // Nothing pops below a mark.
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.wrong("a list ends that never began"),
        }
    }

    fn protocol(&mut self, begin: usize) -> Result<(), TorchProblem> {
        let [protocol] = self.take("its protocol")?;
        if begin != 0 {
            return self.wrong("the protocol is not the first thing it says");
        }
        match protocol {
            2..=5 => Ok(()),
            _ => Err(TorchProblem::Protocol { protocol }),
        }
    }

    /// A frame only says how much may be read at once.
    fn frame(&mut self) -> Result<(), TorchProblem> {
        let bytes = u64::from_le_bytes(self.take("a frame")?);
        match bytes > (self.pickle.len() - self.at) as u64 {
            true => Err(TorchProblem::PickleCut { what: "a frame" }),
            false => Ok(()),
        }
    }

    fn long(&mut self) -> Result<(), TorchProblem> {
        let [bytes] = self.take("a number")?;
        let number = self.bytes(bytes.into(), "a number")?;
        if number.len() > size_of::<i64>() {
            return self.wrong("a number has more than 64 bits");
        }
        let is_negative = number.last().is_some_and(|last| last & 0x80 != 0);
        let mut wide = [if is_negative { 0xff } else { 0 }; size_of::<i64>()];
        wide[..number.len()].copy_from_slice(number);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, bytes: usize) -> Result<(), TorchProblem> {
        match str::from_utf8(self.bytes(bytes, "a text")?) {
            Ok(text) => self.push(Value::Text(text)),
            Err(_) => self.wrong("a text is not UTF-8"),
        }
    }

    fn tuple_of(&mut self, items: usize) -> Result<(), TorchProblem> {
        let mut popped = Vec::with_capacity(items);
        for _ in 0..items {
            popped.push(self.pop()?);
        }
        popped.reverse();
        self.tuple(popped)
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Result<(), TorchProblem> {
        self.tuples.push(items);
        self.push(Value::Tuple(self.tuples.len() - 1))
    }

    fn dict(&mut self) -> Result<(), TorchProblem> {
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn set_item(&mut self) -> Result<(), TorchProblem> {
        let (value, key) = (self.pop()?, self.pop()?);
        match self.top()? {
            Value::Dict(dict) => self.dicts[dict].push((key, value)),
            _ => return self.wrong(NO_DICT),
        }
        Ok(())
    }

    fn set_items(&mut self) -> Result<(), TorchProblem> {
        let items = self.above_mark()?;
        let Value::Dict(dict) = self.top()? else {
            return self.wrong(NO_DICT);
        };
        let pairs = items.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return self.wrong("a key has no value");
        }
        self.dicts[dict].extend(pairs.map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn global(&mut self) -> Result<(), TorchProblem> {
        let (module, name) = (self.line()?, self.line()?);
        self.named(module, name)
    }

    fn stacked_global(&mut self) -> Result<(), TorchProblem> {
        match (self.pop()?, self.pop()?) {
            (Value::Text(name), Value::Text(module)) => self.named(module, name),
            _ => self.wrong("a function has no name"),
        }
    }

    fn remember(&mut self, index: u32) -> Result<(), TorchProblem> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), TorchProblem> {
        match self.memo.get(&index) {
            Some(value) => self.push(*value),
            None => self.wrong("it recalls what it never kept"),
        }
    }

    fn end(&mut self) -> Result<Value<'a>, TorchProblem> {
        let result = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return self.wrong("it ends with more than one value");
        }
        if self.at != self.pickle.len() {
            return self.wrong("it goes on after its end");
        }
        Ok(result)
    }
}

const EMPTY: &str = "it takes a value where there is none";
const NO_DICT: &str = "it fills what is no dict";
