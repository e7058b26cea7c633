//! Which model, and how much of what it gets.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use engine::kernels::CacheType;
use engine::{ModelOptions, Source};
use loader::{DType, Form};
use offload::PlaceChoice;

use super::count::tokens;
use super::size::Size;

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Directory with config.json and .safetensors files, a .gguf file, or a directory of such and
    /// a part of the file's name, like DIR:Q4_K_M [default: the demo model]
    #[arg(long, short, value_name = "DIR")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub room: RoomArgs,
}

/// What a model gets, or several that run together.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct RoomArgs {
    /// Compute in this dtype: bf16, f16, f32 (or bfloat16, ...) [default: as stored]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<DType>,
    /// Where to compute: auto, cpu, cuda or cuda:INDEX; auto takes the GPU if this build can use
    /// one
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Device,
    /// Positions of the KV cache, which is paid for up front [default: at most 4096]
    #[arg(long, value_name = "TOKENS", value_parser = tokens)]
    pub context: Option<usize>,
    /// How keys and values are kept: f16 and bf16 take half the bytes, and are rounded to 11 and 8
    /// significant bits [default: f32; on a GPU as the model computes]
    ///
    /// f16 is the closer one, and holds numbers up to 65504; bf16 holds any. The clear kernels
    /// round in the same way, and keep f32. On a GPU only the model's own dtype is possible.
    #[arg(long, value_name = "TYPE")]
    pub cache_type: Option<CacheNumbers>,
    /// Memory that the plan may take, like 6GiB or 6144MiB [default: what is available]
    ///
    /// For weights, slots, cache and activations. The program itself takes some 10 to 20 MiB beside
    /// it, and up to nine times the size of tokenizer.json. By default it is the least of what the
    /// system, control groups and the shell's limits leave, less a reserve for the program. With
    /// --link-gbps it is the emulated device's memory: weights in RAM come on top.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// How resident bf16 matrices are kept: compact takes three quarters of the bytes without loss,
    /// plain is as in the checkpoint [default: the faster one, timed before planning; plain below
    /// 64 MiB of layers]
    #[arg(long, value_name = "FORM")]
    pub resident_form: Option<ResidentForm>,
}

impl ModelArgs {
    pub fn source(&self) -> Source {
        match &self.model {
            Some(dir) => Source::Directory(dir.clone()),
            None => Source::Demo,
        }
    }

    pub fn apply(&self, options: &mut ModelOptions) {
        self.room.apply(options);
    }
}

impl RoomArgs {
    pub fn apply(&self, options: &mut ModelOptions) {
        options.dtype = self.dtype;
        options.device = self.device.0;
        options.context = self.context;
        options.cache_type = self.cache_type.map(|numbers| match numbers {
            CacheNumbers::F32 => CacheType::F32,
            CacheNumbers::F16 => CacheType::F16,
            CacheNumbers::Bf16 => CacheType::Bf16,
        });
        options.resident_form = self.resident_form.map(|form| match form {
            ResidentForm::Compact => Form::Compact,
            ResidentForm::Plain => Form::Plain,
        });
        options.memory_bytes = self.memory.map(|Size(bytes)| bytes);
    }
}

/// A type of cache as it is spelled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CacheNumbers {
    F32,
    F16,
    Bf16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ResidentForm {
    Compact,
    Plain,
}

/// A device as it is spelled.
#[derive(Debug, Clone, Copy)]
pub struct Device(pub PlaceChoice);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a device; use auto, cpu, cuda or cuda:INDEX, for instance cuda:0")]
pub struct DeviceError {
    text: String,
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let wrong = || DeviceError {
            text: text.to_owned(),
        };
        Ok(Self(match text {
            "auto" => PlaceChoice::Auto,
            "cpu" => PlaceChoice::Host,
            "cuda" => PlaceChoice::Cuda(0),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                PlaceChoice::Cuda(index.parse().map_err(|_| wrong())?)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_as_they_are_spelled() {
        let parse = |text: &str| text.parse::<Device>().map(|device| device.0).ok();
        assert_eq!(parse("auto"), Some(PlaceChoice::Auto));
        assert_eq!(parse("cpu"), Some(PlaceChoice::Host));
        assert_eq!(parse("cuda"), Some(PlaceChoice::Cuda(0)));
        assert_eq!(parse("cuda:3"), Some(PlaceChoice::Cuda(3)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
