#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the system is asked about ranges of addresses")
)]
//! Memory policy, by the system's own calls: the C library has none. Sound because none of them
//! changes what memory holds: pages are placed, moved whole, or asked about, and the kernel writes
//! only to the numbers given to it for its answer, which live through the call. Where a call is
//! refused, or there is none, nothing has happened.

use std::io;

/// What the system calls a page, at the least.
#[cfg(target_os = "linux")]
const PAGE_BYTES: usize = 4096;

/// Of `mbind`: move what is elsewhere, as far as it can be.
#[cfg(target_os = "linux")]
const MPOL_MF_MOVE: libc::c_ulong = 2;

/// One page of so much memory is asked about.
#[cfg(target_os = "linux")]
const STRIDE_BYTES: usize = 2 << 20;

/// Prefers `node` for the whole pages inside `memory`, and moves those that are elsewhere.
#[cfg(target_os = "linux")]
pub fn prefer(node: u32, memory: &[u8]) -> io::Result<()> {
    let start = memory.as_ptr().addr().next_multiple_of(PAGE_BYTES);
    let end = (memory.as_ptr().addr() + memory.len()) / PAGE_BYTES * PAGE_BYTES;
    if end <= start {
        return Ok(());
    }
    let mut nodes = Nodes::default();
    nodes.add(node);
    // SAFETY: the range lies inside `memory`; see the module.
    let said = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            end - start,
            libc::c_ulong::from(libc::MPOL_PREFERRED.unsigned_abs()),
            nodes.0.as_ptr(),
            Nodes::COUNT,
            MPOL_MF_MOVE,
        )
    };
    match said {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The nodes of pages spread over `memory`; pages that nobody has touched yet are left out.
#[cfg(target_os = "linux")]
pub fn nodes(memory: &[u8]) -> Option<Vec<u32>> {
    let pages: Vec<*const u8> = memory.chunks(STRIDE_BYTES).map(<[u8]>::as_ptr).collect();
    let mut nodes = vec![0_i32; pages.len()];
    // SAFETY: both lists have this many entries; without nodes to move to, nothing is moved. See
    // the module.
    let said = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0_usize,
            pages.len(),
            pages.as_ptr(),
            std::ptr::null::<i32>(),
            nodes.as_mut_ptr(),
            0_usize,
        )
    };
    // A page without a node has an error in its place.
    (said == 0).then(|| {
        nodes
            .into_iter()
            .filter_map(|n| n.try_into().ok())
            .collect()
    })
}

/// The node that is preferred for the middle of `memory`, if any is.
#[cfg(all(target_os = "linux", test))]
pub fn preferred(memory: &[u8]) -> Option<u32> {
    const MPOL_F_ADDR: libc::c_ulong = 2;
    let (mut policy, mut nodes) = (0_i32, Nodes::default());
    let middle = &memory[memory.len() / 2];
    // SAFETY: see the module.
    let said = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut policy,
            nodes.0.as_mut_ptr(),
            Nodes::COUNT,
            std::ptr::from_ref(middle),
            MPOL_F_ADDR,
        )
    };
    let told = said == 0 && policy == libc::MPOL_PREFERRED;
    told.then(|| nodes.first()).flatten()
}

/// A set of nodes, as the kernel reads it.
#[cfg(target_os = "linux")]
#[derive(Default)]
struct Nodes([libc::c_ulong; 16]);

#[cfg(target_os = "linux")]
impl Nodes {
    const BITS: u32 = libc::c_ulong::BITS;
    /// The kernel counts one more than there are.
    const COUNT: libc::c_ulong = 16 * Self::BITS as libc::c_ulong + 1;

    fn add(&mut self, node: u32) {
        if let Some(word) = self.0.get_mut((node / Self::BITS) as usize) {
            *word |= 1 << (node % Self::BITS);
        }
    }

    #[cfg(test)]
    fn first(&self) -> Option<u32> {
        let words = self.0.iter().enumerate();
        let mut set = words.filter(|(_, word)| **word != 0);
        set.next()
            .map(|(index, word)| index as u32 * Self::BITS + word.trailing_zeros())
    }
}

#[cfg(not(target_os = "linux"))]
pub fn prefer(_node: u32, _memory: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub fn nodes(_memory: &[u8]) -> Option<Vec<u32>> {
    None
}

#[cfg(all(not(target_os = "linux"), test))]
pub fn preferred(_memory: &[u8]) -> Option<u32> {
    None
}
