//! `engine devices`: what can compute here, and what each place reaches.

use std::path::Path;
use std::time::Duration;

use engine::profile::CoreShares;
use engine::{Machine, Source};
use offload::{DeviceSurvey, NumaNode};
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::failure::Failure;
use crate::output::{Align, Stdout, Table, gigabytes, memory};

/// How long a model's files are read.
const DISK_BUDGET: Duration = Duration::from_millis(300);

/// How long the host's memory is measured.
const MEMORY_BUDGET: Duration = Duration::from_millis(300);

#[derive(Debug, Serialize)]
struct Found {
    cpu: Cpu,
    /// The current folder's; `null` where the system does not say.
    disk: Option<Disk>,
    cuda: Vec<Cuda>,
}

#[derive(Debug, Serialize)]
struct Cpu {
    name: String,
    cores: usize,
    kernels: &'static str,
    memory_bytes: Option<u64>,
    available_bytes: Option<u64>,
    memory_read_gbps: f64,
    /// Not `null`: the cores were not free, and memory gives more.
    cores_lacking: Option<CoreShares>,
}

#[derive(Debug, Serialize)]
struct Disk {
    folder: String,
    total_bytes: u64,
    free_bytes: u64,
    /// The rate for the model that was given: its own files, by the reads that streaming uses.
    read_gbps: Option<f64>,
    read_of: Option<String>,
    access: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Cuda {
    device: String,
    name: String,
    memory_bytes: u64,
    free_bytes: u64,
    compute_capability: String,
    driver_cuda: String,
    pcie_speed: Option<String>,
    pcie_width: Option<u32>,
    numa_node: Option<u32>,
    pinned_gbps: f64,
    pageable_gbps: f64,
    memory_copy_gbps: f64,
}

pub fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let machine = Machine::here();
    let devices = offload::survey().map_err(engine::EngineError::from)?;
    let (memory_read_gbps, cores_lacking) = engine::measure_host_memory_gbps(MEMORY_BUDGET)?;
    let found = Found {
        cpu: Cpu {
            memory_read_gbps,
            cores_lacking,
            name: machine.processor,
            cores: machine.cores,
            kernels: machine.kernels,
            memory_bytes: machine.memory_bytes,
            available_bytes: engine::memory::available_bytes(),
        },
        disk: disk(args.model.as_deref())?,
        cuda: devices.into_iter().enumerate().map(cuda).collect(),
    };
    let mut out = Stdout::lock();
    match args.json {
        true => out.json(&found),
        false => out.show(format_args!("{}\n", text(&found))),
    }
}

/// The disk of a model, with its rate, or else of the current folder: a rate takes a file of some
/// size, and the model's own are the ones that count.
fn disk(model: Option<&Path>) -> Result<Option<Disk>, Failure> {
    let rate = match model {
        Some(model) => {
            let checkpoint = Source::Directory(model.to_owned()).open()?;
            let rate = loader::measure_read_gbps(&checkpoint, DISK_BUDGET);
            Some(rate.map_err(engine::EngineError::from)?)
        }
        None => None,
    };
    let folder = model.map_or_else(std::env::current_dir, |model| Ok(model.to_owned()));
    let found = folder.ok().and_then(|folder| {
        let room = loader::disk_room(&folder)?;
        Some(Disk {
            folder: folder.display().to_string(),
            total_bytes: room.total_bytes,
            free_bytes: room.free_bytes,
            read_gbps: rate.map(|rate| rate.gbps),
            read_of: model.map(|model| model.display().to_string()),
            access: rate.map(|rate| rate.access.name()),
        })
    });
    Ok(found)
}

fn cuda((ordinal, survey): (usize, DeviceSurvey)) -> Cuda {
    let dotted = |(major, minor): (i32, i32)| format!("{major}.{minor}");
    let (pcie_speed, pcie_width) = survey
        .pcie
        .map_or((None, None), |pcie| (Some(pcie.speed), Some(pcie.width)));
    Cuda {
        device: format!("cuda:{ordinal}"),
        name: survey.name,
        memory_bytes: survey.total_bytes,
        free_bytes: survey.free_bytes,
        compute_capability: dotted(survey.compute_capability),
        driver_cuda: dotted(survey.driver),
        pcie_speed,
        pcie_width,
        numa_node: survey.numa_node.map(NumaNode::index),
        pinned_gbps: survey.pinned_gbps,
        pageable_gbps: survey.pageable_gbps,
        memory_copy_gbps: survey.memory_gbps,
    }
}

fn text(found: &Found) -> String {
    let mut table = Table::new(&[Align::Left, Align::Left, Align::Left], 0);
    let unknown = || "unknown".to_owned();
    let cpu = &found.cpu;
    table.row([
        "cpu".into(),
        "name".into(),
        format!("{}, {} cores, {} kernels", cpu.name, cpu.cores, cpu.kernels),
    ]);
    table.row([
        String::new(),
        "memory".into(),
        format!(
            "{}, {} available, read at {:.1} GB/s{}",
            cpu.memory_bytes.map_or_else(unknown, memory),
            cpu.available_bytes.map_or_else(unknown, memory),
            cpu.memory_read_gbps,
            match cpu.cores_lacking {
                Some(shares) => format!(" (too low: the {shares})"),
                None => String::new(),
            }
        ),
    ]);
    if let Some(disk) = &found.disk {
        table.row([
            "disk".into(),
            "room".into(),
            format!(
                "{} free of {}, where {} is{}",
                gigabytes(disk.free_bytes),
                gigabytes(disk.total_bytes),
                disk.folder,
                match disk.read_gbps {
                    Some(_) => "",
                    None => "; with --model DIR it says how fast the model's files are read",
                }
            ),
        ]);
        if let (Some(gbps), Some(access)) = (disk.read_gbps, disk.access) {
            table.row([
                String::new(),
                "rate".into(),
                format!("{gbps:.2} GB/s, of the model's own files, by {access}"),
            ]);
        }
    }
    for device in &found.cuda {
        let mut first = device.device.clone();
        let mut line = |name: &str, value: String| {
            table.row([std::mem::take(&mut first), name.into(), value]);
        };
        line(
            "name",
            format!(
                "{}, compute capability {}, driver for CUDA {}",
                device.name, device.compute_capability, device.driver_cuda
            ),
        );
        line(
            "memory",
            format!(
                "{}, {} free, copied within at {:.0} GB/s (read and written)",
                memory(device.memory_bytes),
                memory(device.free_bytes),
                device.memory_copy_gbps
            ),
        );
        line(
            "bus",
            match (&device.pcie_speed, device.pcie_width) {
                (Some(speed), Some(width)) => format!("{speed} x{width}, under load"),
                _ => unknown(),
            },
        );
        line(
            "host to it",
            format!(
                "{:.1} GB/s from pinned memory, {:.1} GB/s from other memory{}",
                device.pinned_gbps,
                device.pageable_gbps,
                (device.numa_node)
                    .map_or_else(String::new, |node| format!(", on NUMA node {node}"))
            ),
        );
    }
    if found.cuda.is_empty() {
        let why = match cfg!(feature = "cuda") {
            true => "none found (no NVIDIA GPU, or no driver)",
            false => "not looked for: this build is without CUDA (the README says how to build it)",
        };
        table.row(["cuda".into(), String::new(), why.into()]);
    }
    table.to_string()
}
