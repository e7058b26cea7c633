//! Writes files as `torch.save` does: the pickle of a state dict in a zip whose entries are stored.
//! Everything can be asked to be wrong.

use std::collections::BTreeMap;
use std::path::Path;

/// A tensor as the pickle is to describe it.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    /// The class in the module `torch`.
    pub storage: String,
    pub key: String,
    /// Of the whole storage.
    pub numbers: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    /// Of the whole storage.
    pub data: Vec<u8>,
}

/// Instructions of a pickle.
#[derive(Debug, Default, Clone)]
pub struct Pickle {
    pub bytes: Vec<u8>,
    /// Names by number and frames, as newer protocols have them.
    is_new: bool,
    kept: u32,
}

impl Pickle {
    pub fn new() -> Self {
        let mut pickle = Self::default();
        pickle.raw(&[0x80, 2]);
        pickle
    }

    pub fn newer() -> Self {
        let mut pickle = Self {
            is_new: true,
            ..Self::default()
        };
        pickle.raw(&[0x80, 4]);
        pickle
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// Keeps what is on top, as every pickle does and few use.
    fn keep(&mut self) -> &mut Self {
        match (self.is_new, self.kept) {
            (true, _) => self.raw(&[0x94]),
            (false, kept @ 0..=255) => self.raw(&[b'q', kept as u8]),
            (false, kept) => self.raw(b"r").raw(&kept.to_le_bytes()),
        };
        self.kept += 1;
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        match self.is_new {
            true => self.raw(&[0x8c, text.len() as u8]),
            false => self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()),
        };
        self.raw(text.as_bytes()).keep()
    }

    pub fn int(&mut self, number: i64) -> &mut Self {
        match number {
            0..=0xff => self.raw(&[b'K', number as u8]),
            0x100..=0xffff => self.raw(b"M").raw(&(number as u16).to_le_bytes()),
            _ if i32::try_from(number).is_ok() => {
                self.raw(b"J").raw(&(number as i32).to_le_bytes())
            }
            _ => self.raw(&[0x8a, 8]).raw(&number.to_le_bytes()),
        }
    }

    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        match self.is_new {
            true => self.text(module).text(name).raw(&[0x93]),
            false => self.raw(format!("c{module}\n{name}\n").as_bytes()),
        };
        self.keep()
    }

    pub fn sizes(&mut self, sizes: &[i64]) -> &mut Self {
        if sizes.len() > 3 {
            self.raw(b"(");
        }
        for size in sizes {
            self.int(*size);
        }
        match sizes.len() {
            0 => return self.raw(b")"),
            few @ 1..=3 => self.raw(&[0x84 + few as u8]),
            _ => self.raw(b"t"),
        };
        self.keep()
    }

    pub fn ordered_dict(&mut self) -> &mut Self {
        self.global("collections", "OrderedDict").raw(b")R").keep()
    }

    pub fn tensor(&mut self, tensor: &Tensor) -> &mut Self {
        self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((");
        self.text("storage").global("torch", &tensor.storage);
        self.text(&tensor.key).text("cpu").int(tensor.numbers);
        self.raw(b"t").keep().raw(b"Q").int(tensor.offset);
        self.sizes(&tensor.shape).sizes(&tensor.strides);
        self.raw(&[0x89]).ordered_dict();
        self.raw(b"t").keep().raw(b"R").keep()
    }

    /// The whole state dict, with the versions of modules that it notes.
    pub fn state_dict(mut self, tensors: &[Tensor]) -> Vec<u8> {
        self.ordered_dict().raw(b"(");
        for tensor in tensors {
            self.text(&tensor.name).tensor(tensor);
        }
        self.raw(b"u}").keep().text("_metadata").ordered_dict();
        self.raw(b"(")
            .text("")
            .raw(b"}")
            .text("version")
            .int(1)
            .raw(b"s");
        self.raw(b"usb.");
        if self.is_new {
            let rest = self.bytes.split_off(2);
            self.raw(&[0x95]).raw(&(rest.len() as u64).to_le_bytes());
            self.raw(&rest);
        }
        self.bytes
    }
}

/// An entry of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// What the local header says instead.
    pub local_name: Option<String>,
    pub local_size: Option<u32>,
    /// What the directory says instead.
    pub listed_bytes: Option<u32>,
    pub listed_at: Option<u32>,
}

impl Entry {
    pub fn new(name: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            data: data.into(),
            method: 0,
            flags: 0x808,
            local_name: None,
            local_size: None,
            listed_bytes: None,
            listed_at: None,
        }
    }
}

/// Which of the ways to write an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zip {
    /// With sizes after the data and an end in 64 bits, as PyTorch does.
    Torch,
    /// The plainest there is.
    Plain,
    /// Every number that can be in 64 bits is.
    Wide,
}

/// The archive, and where its directory and its end begin.
pub struct Archived {
    pub bytes: Vec<u8>,
    pub directory_at: usize,
    pub end_at: usize,
}

pub fn zip(entries: &[Entry], how: Zip) -> Archived {
    const ELSEWHERE: u32 = u32::MAX;
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let at = bytes.len() as u32;
        let size = entry.data.len() as u32;
        let flags = match how {
            Zip::Torch => entry.flags,
            _ => entry.flags & !8,
        };
        let local_size = entry.local_size.unwrap_or(match how {
            Zip::Torch => 0,
            Zip::Plain => size,
            Zip::Wide => ELSEWHERE,
        });
        let name = entry.local_name.as_ref().unwrap_or(&entry.name);
        // Pads so that the data begin at a multiple of 64.
        let mut extra = Vec::new();
        if how == Zip::Torch {
            let begin = bytes.len() + 30 + name.len() + 4;
            let pad = begin.next_multiple_of(64) - begin;
            extra.extend(b"FB");
            extra.extend((pad as u16).to_le_bytes());
            extra.resize(4 + pad, b'Z');
        }
        bytes.extend(b"PK\x03\x04\0\0");
        for short in [flags, entry.method, 0, 0] {
            bytes.extend(short.to_le_bytes());
        }
        for long in [0, local_size, local_size] {
            bytes.extend(long.to_le_bytes());
        }
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend((extra.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(&extra);
        bytes.extend(&entry.data);
        if how == Zip::Torch {
            bytes.extend(b"PK\x07\x08\0\0\0\0");
            bytes.extend(size.to_le_bytes());
            bytes.extend(size.to_le_bytes());
        }

        let listed = entry.listed_bytes.unwrap_or(size);
        let header_at = entry.listed_at.unwrap_or(at);
        let mut wide = Vec::new();
        if how == Zip::Wide {
            // Another extra field before it.
            wide.extend(b"XX\x02\0ab\x01\0\x18\0");
            for long in [listed, listed, header_at] {
                wide.extend(u64::from(long).to_le_bytes());
            }
        }
        let or_wide = |number| if how == Zip::Wide { ELSEWHERE } else { number };
        directory.extend(b"PK\x01\x02\0\0\0\0");
        for short in [flags, entry.method, 0, 0] {
            directory.extend(short.to_le_bytes());
        }
        for long in [0, or_wide(listed), or_wide(listed)] {
            directory.extend(long.to_le_bytes());
        }
        directory.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend((wide.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(or_wide(header_at).to_le_bytes());
        directory.extend(entry.name.as_bytes());
        directory.extend(wide);
    }
    let directory_at = bytes.len();
    let directory_bytes = directory.len();
    bytes.extend(directory);
    let count = entries.len() as u64;
    if how != Zip::Plain {
        let wide_at = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44_u64.to_le_bytes());
        bytes.extend([0; 12]);
        for long in [count, count, directory_bytes as u64, directory_at as u64] {
            bytes.extend(long.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(wide_at.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
    }
    let end_at = bytes.len();
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    let or = |elsewhere: u64, number: u64| if how == Zip::Wide { elsewhere } else { number };
    for _ in 0..2 {
        bytes.extend((or(0xffff, count) as u16).to_le_bytes());
    }
    for long in [directory_bytes, directory_at] {
        bytes.extend((or(u64::from(ELSEWHERE), long as u64) as u32).to_le_bytes());
    }
    bytes.extend([0; 2]);
    Archived {
        bytes,
        directory_at,
        end_at,
    }
}

/// The tensors of a safetensors file, each in a storage of its own.
pub fn tensors_of(safetensors: &Path) -> Vec<Tensor> {
    let bytes = std::fs::read(safetensors).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let views: BTreeMap<_, _> = file.iter().collect();
    let tensor = |(key, (name, view)): (usize, (&str, safetensors::tensor::TensorView<'_>))| {
        let shape: Vec<i64> = view.shape().iter().map(|dim| *dim as i64).collect();
        Tensor {
            name: name.into(),
            storage: match view.dtype() {
                safetensors::Dtype::F32 => "FloatStorage".into(),
                safetensors::Dtype::F16 => "HalfStorage".into(),
                _ => "BFloat16Storage".into(),
            },
            key: key.to_string(),
            numbers: shape.iter().product(),
            offset: 0,
            strides: strides(&shape),
            shape,
            data: view.data().to_vec(),
        }
    };
    views.into_iter().enumerate().map(tensor).collect()
}

pub fn strides(shape: &[i64]) -> Vec<i64> {
    let step = |at: usize| shape[at + 1..].iter().product();
    (0..shape.len()).map(step).collect()
}

/// All entries of a file with that pickle.
pub fn entries(pickle: Vec<u8>, tensors: &[Tensor]) -> Vec<Entry> {
    let mut entries = vec![
        Entry::new("projector_0/data.pkl", pickle),
        Entry::new("projector_0/byteorder", "little"),
    ];
    for tensor in tensors {
        let name = format!("projector_0/data/{}", tensor.key);
        if entries.iter().all(|entry| entry.name != name) {
            entries.push(Entry::new(name, tensor.data.clone()));
        }
    }
    entries.push(Entry::new("projector_0/version", "3\n"));
    entries
}

/// The file as PyTorch writes it.
pub fn file(tensors: &[Tensor]) -> Vec<u8> {
    zip(
        &entries(Pickle::new().state_dict(tensors), tensors),
        Zip::Torch,
    )
    .bytes
}
