#![expect(
    unsafe_code,
    reason = "the driver fills in plain numbers and a name by address"
)]
//! What the device is, and what its link and its memory reach. Every number is timed by the
//! device's own events. Sound because each call into the driver gets the address of a value of
//! ours, of the size it asks for, that lives through the call.

use std::ffi::CStr;
use std::fs;
use std::time::{Duration, Instant};

use cudarc::driver::{CudaContext, DriverError, sys};
use loader::DType;

use super::pinned::{DeviceMemory, Pinned};
use super::streams::{Streams, between};
use super::{Gpu, opening};
use crate::error::OffloadError;
use crate::memory::slab::SlabBytes;
use crate::survey::{DeviceSurvey, Pcie};

/// As large as a large block, so that a copy runs at the link's full rate.
const COPY_BYTES: usize = 256 << 20;
/// Where even that is not free.
const COPY_BYTES_MIN: usize = 8 << 20;

pub(crate) fn survey(ordinal: usize, budget: Duration) -> Result<DeviceSurvey, OffloadError> {
    let gpu = Gpu::open(ordinal)?;
    let context = gpu.streams.context();
    let (free, total) = context.mem_get_info().map_err(opening)?;
    let (pinned_gbps, pcie) = host_to_device(&gpu, budget, true)?;
    let (pageable_gbps, _) = host_to_device(&gpu, budget, false)?;
    Ok(DeviceSurvey {
        name: context.name().map_err(opening)?,
        total_bytes: total as u64,
        free_bytes: free as u64,
        compute_capability: context.compute_capability().map_err(opening)?,
        driver: driver_version().map_err(opening)?,
        pcie,
        numa_node: gpu.near,
        pinned_gbps,
        pageable_gbps,
        memory_gbps: memory_gbps(&gpu, budget)?,
    })
}

/// What copies from host memory reach, over the copy stream.
pub(super) fn host_to_device_gbps(
    gpu: &Gpu,
    budget: Duration,
    pin: bool,
) -> Result<f64, OffloadError> {
    host_to_device(gpu, budget, pin).map(|(gbps, _)| gbps)
}

fn host_to_device(
    gpu: &Gpu,
    budget: Duration,
    pin: bool,
) -> Result<(f64, Option<Pcie>), OffloadError> {
    let streams = &gpu.streams;
    let bytes = copy_bytes(streams)?;
    let host = SlabBytes::host(bytes)?;
    host.prefer(gpu.near)?;
    // Not zeros, and touched: the system backs untouched pages with one page of zeros.
    host.write(|bytes| {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = ((index * 31) >> 3) as u8;
        }
    })?;
    let host = match pin {
        true => Pinned::new(streams.context(), host).map_err(opening)?,
        false => Pinned::not(streams.context(), host),
    };
    let slab = SlabBytes::new(bytes, DType::Bf16, &gpu.device)?;
    let target = DeviceMemory::of(&slab)?;
    let mut pcie = None;
    let gbps = rate(streams, bytes, budget, &mut || {
        host.all().copy_to(target, &streams.copy)?;
        if pcie.is_none() {
            pcie = pcie_of(streams.context());
        }
        Ok(())
    });
    // Before the memory goes, whether or not the measurement came to an end.
    // waits: in a measurement of its own
    let _ = streams.copy.synchronize();
    Ok((gbps?, pcie))
}

/// What a copy within the device's memory reads and writes.
pub(super) fn memory_gbps(gpu: &Gpu, budget: Duration) -> Result<f64, OffloadError> {
    let streams = &gpu.streams;
    let bytes = copy_bytes(streams)? / 2;
    let [from, to] = [0, 1].map(|_| -> Result<_, OffloadError> {
        let slab = SlabBytes::new(bytes, DType::Bf16, &gpu.device)?;
        Ok((DeviceMemory::of(&slab)?, slab))
    });
    let ((from, _from_slab), (to, _to_slab)) = (from?, to?);
    let gbps = rate(streams, 2 * bytes, budget, &mut || {
        to.copy_from(from, &streams.copy)
    });
    // waits: in a measurement of its own
    let _ = streams.copy.synchronize();
    gbps
}

/// Orders copies of `bytes` on the copy stream until `budget` is over, at least three after one
/// that does not count.
fn rate(
    streams: &Streams,
    bytes: usize,
    budget: Duration,
    copy: &mut dyn FnMut() -> Result<(), DriverError>,
) -> Result<f64, OffloadError> {
    let mut timed = || -> Result<f64, DriverError> {
        streams.context().bind_to_thread()?;
        // waits: in a measurement of its own
        streams.compute.synchronize()?;
        copy()?;
        // waits: in a measurement of its own
        streams.copy.synchronize()?;
        let (from, to) = (streams.timed_event()?, streams.timed_event()?);
        let (mut moved_bytes, mut time) = (0, Duration::ZERO);
        let started = Instant::now();
        while started.elapsed() < budget || time.is_zero() {
            from.record(&streams.copy)?;
            for _ in 0..3 {
                copy()?;
            }
            to.record(&streams.copy)?;
            time += between(&from, &to)?;
            moved_bytes += 3 * bytes;
        }
        Ok(moved_bytes as f64 / time.as_secs_f64() / 1e9)
    };
    timed().map_err(|error| OffloadError::Device {
        doing: "measuring the device".into(),
        said: error.to_string(),
    })
}

/// A size that is free on the device.
fn copy_bytes(streams: &Streams) -> Result<usize, OffloadError> {
    let (free, _) = streams.context().mem_get_info().map_err(opening)?;
    Ok(COPY_BYTES.min((free / 2).max(COPY_BYTES_MIN)))
}

fn driver_version() -> Result<(i32, i32), DriverError> {
    let mut version = 0;
    // SAFETY: see the module.
    unsafe { sys::cuDriverGetVersion(&raw mut version).result()? };
    Ok((version / 1000, version % 1000 / 10))
}

/// Where the device is on the bus, as the system spells it.
pub(super) fn pci_address(context: &CudaContext) -> Option<String> {
    let mut name = [0; 32];
    // SAFETY: see the module; the driver ends the name with a zero within the length given.
    let name = unsafe {
        let length = i32::try_from(name.len()).ok()?;
        sys::cuDeviceGetPCIBusId(name.as_mut_ptr(), length, context.cu_device())
            .result()
            .ok()?;
        CStr::from_ptr(name.as_ptr())
    };
    Some(name.to_str().ok()?.to_lowercase())
}

/// The bus as it is now: read while a copy is under way.
fn pcie_of(context: &CudaContext) -> Option<Pcie> {
    let folder = format!("/sys/bus/pci/devices/{}", pci_address(context)?);
    let read = |file: &str| fs::read_to_string(format!("{folder}/{file}")).ok();
    Some(Pcie {
        speed: read("current_link_speed")?.trim().to_owned(),
        width: read("current_link_width")?.trim().parse().ok()?,
    })
}
