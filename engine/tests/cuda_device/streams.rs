//! A copy stream and a compute stream that share a slot, ordered by two events a visit: *ready*,
//! which compute waits for, and *released*, which the next copy waits for. The host waits for
//! nothing.

#![expect(unsafe_code, reason = "the driver's own calls are what is looked at")]

use candle_core::cuda_backend::cudarc::driver::{DevicePtr, result, sys};
use candle_core::{DType, Device, Storage, Tensor};

/// Which of the two waits a chain leaves out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LeftOut {
    Nothing,
    Ready,
    Released,
}

const BLOCKS: usize = 6;
const VISITS: usize = 40;
const ELEMENTS: usize = 30_000;

/// Streams six blocks of equal numbers through one slot, and gives what each visit found: the least
/// and the largest number in the slot, where both should be the block's.
pub fn chain(left_out: LeftOut) -> Vec<(f32, f32)> {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let compute = device.as_cuda_device().unwrap().cuda_stream();
    let context = compute.context();
    // SAFETY: the order between the streams is what this is about; the slot outlives both.
    unsafe { context.disable_event_tracking() };
    let copies = context.new_stream().unwrap();
    let homes: Vec<_> = (0..BLOCKS)
        .map(|block| {
            // SAFETY: it is filled before it is read.
            let mut home = unsafe { context.alloc_pinned::<f32>(ELEMENTS) }.unwrap();
            home.as_mut_slice().unwrap().fill(block as f32);
            home
        })
        .collect();
    let slot = Tensor::zeros(ELEMENTS, DType::F32, &device).unwrap();
    let address = {
        let (storage, _) = slot.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            panic!("not on the device");
        };
        let (address, _) = storage.as_cuda_slice::<f32>().unwrap().device_ptr(&compute);
        address
    };
    let (ready, released) = (
        context.new_event(None).unwrap(),
        context.new_event(None).unwrap(),
    );
    released.record(&compute).unwrap();
    let mut found = Vec::new();
    for visit in 0..VISITS {
        if left_out != LeftOut::Released {
            copies.wait(&released).unwrap();
        }
        let home = homes[visit % BLOCKS].as_slice().unwrap();
        // SAFETY: the home is kept, and not written, until the streams are done.
        unsafe { result::memcpy_htod_async(address, home, copies.cu_stream()) }.unwrap();
        ready.record(&copies).unwrap();
        if left_out != LeftOut::Ready {
            compute.wait(&ready).unwrap();
        }
        found.push((slot.min(0).unwrap(), slot.max(0).unwrap()));
        released.record(&compute).unwrap();
    }
    let found = found
        .iter()
        .map(|(least, most)| (least.to_scalar().unwrap(), most.to_scalar().unwrap()))
        .collect();
    copies.synchronize().unwrap();
    found
}

pub fn is_right(found: &[(f32, f32)]) -> bool {
    let blocks = (0..VISITS).map(|visit| (visit % BLOCKS) as f32);
    found.iter().copied().eq(blocks.map(|block| (block, block)))
}

#[test]
fn two_events_a_visit_keep_copies_and_compute_apart() {
    let found = chain(LeftOut::Nothing);
    assert!(is_right(&found), "{found:?}");
}

/// Timing events measure on the device, and say nothing before they have come.
#[test]
fn timing_events_order_and_measure() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let from = stream.record_event(timed).unwrap();
    let x = Tensor::ones((64, 64), DType::F32, &device).unwrap();
    let _y = x.matmul(&x).unwrap();
    let to = stream.record_event(timed).unwrap();
    to.synchronize().unwrap();
    assert!(from.try_is_complete().unwrap());
    assert!(from.elapsed_ms(&to).unwrap() > 0.0);
}
