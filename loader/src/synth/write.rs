//! Writes the files of a synthetic checkpoint: into a directory beside the final one, which takes
//! its name only when everything is on disk. A failed write leaves nothing behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::values::fill;
use super::{SynthSpec, SynthTensor};
use crate::room::{DiskRoom, disk_room};
use crate::{DType, Error, ModelConfig};

/// Bytes made at a time: enough for all cores, little enough to stay near them.
const BATCH_BYTES: usize = 8 << 20;

/// Writes `config.json`, `generation_config.json` and the weights. `progress` gets (done, total)
/// bytes of weights.
pub fn write(
    dir: &Path,
    spec: &SynthSpec,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    let config = pretty(&spec.config_json());
    // The same checks that will meet it when it is opened, before gigabytes are written.
    ModelConfig::parse(config.as_bytes())?;
    let mut writer = Writer::start(dir, spec.weight_bytes(), progress)?;
    writer.small_file("config.json", &config)?;
    let generation = json!({"bos_token_id": 0, "eos_token_id": 1, "do_sample": false});
    writer.small_file("generation_config.json", &pretty(&generation))?;
    writer.weights(&spec.tensors(), spec.dtype, spec.shard_bytes)?;
    writer.finish()
}

/// The directory that `dir` is until it is whole, to be removed if the process ends before that.
pub fn partial_path(dir: &Path) -> Option<PathBuf> {
    let mut partial = OsString::from(".");
    partial.push(dir.file_name()?);
    partial.push(format!(".partial-{}", std::process::id()));
    Some(dir.with_file_name(partial))
}

/// Gigabytes are not written until the disk is full where that can be known before.
fn check_room(dir: &Path, needed_bytes: u64, room: Option<DiskRoom>) -> Result<(), Error> {
    match room {
        Some(room) if room.free_bytes < needed_bytes => Err(Error::NoRoom {
            dir: dir.into(),
            needed_bytes,
            free_bytes: room.free_bytes,
        }),
        _ => Ok(()),
    }
}

fn refuse_existing(dir: &Path) -> Result<(), Error> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::Exists { dir: dir.into() });
        }
        Err(source) => return Err(io_error("open", dir, source)),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::Exists { dir: dir.into() }),
    }
}

fn shards(tensors: &[SynthTensor], dtype: DType, bytes_max: u64) -> Vec<Vec<&SynthTensor>> {
    let mut shards: Vec<Vec<&SynthTensor>> = vec![Vec::new()];
    let mut shard_bytes = 0u64;
    for tensor in tensors {
        let bytes = (tensor.elements() * dtype.bytes()) as u64;
        if shard_bytes > 0 && shard_bytes + bytes > bytes_max {
            shards.push(Vec::new());
            shard_bytes = 0;
        }
        shard_bytes += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    shards
}

fn header(shard: &[&SynthTensor], dtype: DType) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut offset = 0u64;
    for tensor in shard {
        let end = offset + (tensor.elements() * dtype.bytes()) as u64;
        let entry = json!({
            "dtype": dtype.header_name(),
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        });
        map.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut json = Value::Object(map).to_string().into_bytes();
    // The format pads with spaces so that the data begins at a multiple of 8.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    bytes
}

/// Writes the files of one model, or of one fuser.
pub(super) struct Writer<'a> {
    partial: Partial,
    dir: &'a Path,
    total_bytes: u64,
    done_bytes: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Writer<'a> {
    /// That nothing is there and that the disk has room is looked at before anything is written.
    pub fn start(
        dir: &'a Path,
        total_bytes: u64,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        refuse_existing(dir)?;
        check_room(dir, total_bytes, disk_room(dir))?;
        Ok(Self {
            partial: Partial::create(dir)?,
            dir,
            total_bytes,
            done_bytes: 0,
            progress,
        })
    }

    /// What was written takes its name.
    pub fn finish(self) -> Result<(), Error> {
        self.partial.rename_to(self.dir)
    }

    /// Makes a folder inside.
    pub fn folder(&self, name: &str) -> Result<(), Error> {
        fs::create_dir(self.partial.path.join(name)).map_err(|error| self.failed(name, error))
    }

    pub fn small_file(&self, name: &str, text: &str) -> Result<(), Error> {
        fs::write(self.partial.path.join(name), text).map_err(|error| self.failed(name, error))
    }

    /// All tensors of a checkpoint, in one file or in shards of at most so many bytes.
    pub fn weights(
        &mut self,
        tensors: &[SynthTensor],
        dtype: DType,
        shard_bytes: u64,
    ) -> Result<(), Error> {
        let shards = shards(tensors, dtype, shard_bytes);
        if let [all] = shards.as_slice() {
            return self.weights_file("model.safetensors", all, dtype);
        }
        let name =
            |index: usize| format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        let mut map = Map::new();
        for (index, shard) in shards.iter().enumerate() {
            let file = name(index);
            self.weights_file(&file, shard, dtype)?;
            let tensors = shard.iter().map(|tensor| tensor.name.clone());
            map.extend(tensors.map(|tensor| (tensor, Value::from(file.clone()))));
        }
        let elements: usize = tensors.iter().map(SynthTensor::elements).sum();
        let bytes = (elements * dtype.bytes()) as u64;
        let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
        self.small_file("model.safetensors.index.json", &pretty(&index))
    }

    /// A safetensors file of these tensors.
    pub fn weights_file(
        &mut self,
        name: &str,
        tensors: &[&SynthTensor],
        dtype: DType,
    ) -> Result<(), Error> {
        let path = self.partial.path.join(name);
        let mut file = File::create(path).map_err(|error| self.failed(name, error))?;
        self.numbers(&mut file, tensors, dtype)
            .and_then(|()| file.sync_all())
            .map_err(|error| self.failed(name, error))
    }

    fn numbers(
        &mut self,
        out: &mut impl Write,
        tensors: &[&SynthTensor],
        dtype: DType,
    ) -> io::Result<()> {
        out.write_all(&header(tensors, dtype))?;
        let mut batch = vec![0; BATCH_BYTES];
        for tensor in tensors {
            let batch_elements = BATCH_BYTES / dtype.bytes();
            let elements = tensor.elements();
            for first in (0..elements).step_by(batch_elements) {
                let count = batch_elements.min(elements - first);
                let bytes = &mut batch[..count * dtype.bytes()];
                fill(tensor.values, first, dtype, bytes);
                out.write_all(bytes)?;
                self.done_bytes += bytes.len() as u64;
                (self.progress)(self.done_bytes, self.total_bytes);
            }
        }
        Ok(())
    }

    fn failed(&self, name: &str, error: io::Error) -> Error {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            return Error::DiskFull {
                dir: self.dir.into(),
                needed_bytes: self.total_bytes,
                written_bytes: self.done_bytes,
            };
        }
        io_error("write", &self.dir.join(name), error)
    }
}

/// The directory that is being written; removed with all it holds unless it is renamed.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn create(dir: &Path) -> Result<Self, Error> {
        let Some(path) = partial_path(dir) else {
            return Err(Error::Exists { dir: dir.into() });
        };
        fs::create_dir_all(&path).map_err(|error| io_error("create", &path, error))?;
        Ok(Self { path })
    }

    fn rename_to(self, dir: &Path) -> Result<(), Error> {
        // An empty directory may stand there; not every system renames over it.
        let _ = fs::remove_dir(dir);
        fs::rename(&self.path, dir).map_err(|error| io_error("create", dir, error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a successful rename there is nothing under this name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        file: path.display().to_string(),
        source,
    }
}

pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::Family;

    #[test]
    fn a_disk_without_the_room_is_refused_before_anything_is_written() {
        let room = |free_bytes| {
            let room = DiskRoom {
                total_bytes: 100,
                free_bytes,
            };
            check_room(Path::new("model"), 50, Some(room))
        };
        assert!(room(50).is_ok() && check_room(Path::new("model"), 50, None).is_ok());
        let error = room(49).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("model needs 50 B, and 49 B are free"),
            "{text}"
        );
        assert!(error.hint().unwrap().contains("free at least 1 MiB"));
    }

    #[test]
    fn a_full_disk_is_said_to_be_full_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        let spec = SynthSpec::tiny(Family::QWEN2);
        let mut progress = |_, _| {};
        let mut writer = Writer::start(&dir, spec.weight_bytes(), &mut progress).unwrap();
        // A device stands in for the shard: its every write fails for want of space.
        let shard = writer.partial.path.join("model.safetensors");
        std::os::unix::fs::symlink("/dev/full", shard).unwrap();
        let tensors = spec.tensors();
        let error = writer
            .weights_file(
                "model.safetensors",
                &tensors.iter().collect::<Vec<_>>(),
                spec.dtype,
            )
            .unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
        assert!(error.to_string().contains("filled up"), "{error}");
        assert!(error.hint().unwrap().contains("free at least 1 MiB"));
        drop(writer);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
