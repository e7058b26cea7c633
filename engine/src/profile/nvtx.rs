#![expect(
    unsafe_code,
    reason = "a library is looked up by name, and its functions are called"
)]
//! NVTX ranges with the names of the stages, for NVIDIA's profilers (`nsys profile engine ...`).
//! The library is looked for when the program runs: where there is none, a range is nothing. Sound
//! because the two functions have had these signatures since NVTX came to be, and get a number, or
//! text that ends with a zero and that they copy.

/// A range from now until it is dropped.
#[derive(Debug)]
pub(super) struct Range(Option<u64>);

impl Range {
    pub fn start(name: &str) -> Self {
        Self(library::start(name))
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            library::end(id);
        }
    }
}

#[cfg(target_os = "linux")]
mod library {
    use std::ffi::{CStr, c_char, c_void};
    use std::sync::OnceLock;

    /// Its names, newest last: NVIDIA's toolkits bring one of them.
    const NAMES: [&CStr; 2] = [c"libnvToolsExt.so.1", c"libnvtx3interop.so.1"];

    /// Longer than any stage's name.
    const NAME_BYTES: usize = 32;

    #[derive(Debug, Clone, Copy)]
    struct Library {
        start: unsafe extern "C" fn(*const c_char) -> u64,
        end: unsafe extern "C" fn(u64),
    }

    fn library() -> Option<&'static Library> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        LIBRARY.get_or_init(load).as_ref()
    }

    fn load() -> Option<Library> {
        NAMES.into_iter().find_map(|name| {
            // SAFETY: a name and flags; what is opened stays open as long as the program runs.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
            let find = |symbol: &CStr| {
                // SAFETY: `handle` is an open library.
                let found: *mut c_void = unsafe { libc::dlsym(handle, symbol.as_ptr()) };
                (!found.is_null()).then_some(found)
            };
            if handle.is_null() {
                return None;
            }
            let (start, end) = (find(c"nvtxRangeStartA")?, find(c"nvtxRangeEnd")?);
            // SAFETY: these are the signatures of these functions (see the module).
            unsafe {
                Some(Library {
                    start: std::mem::transmute::<
                        *mut c_void,
                        unsafe extern "C" fn(*const c_char) -> u64,
                    >(start),
                    end: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(u64)>(end),
                })
            }
        })
    }

    pub fn start(name: &str) -> Option<u64> {
        let library = library()?;
        let mut text = [0_u8; NAME_BYTES];
        let length = name.len().min(NAME_BYTES - 1);
        text[..length].copy_from_slice(&name.as_bytes()[..length]);
        // SAFETY: the text ends with a zero, and is copied before the call returns.
        Some(unsafe { (library.start)(text.as_ptr().cast()) })
    }

    pub fn end(id: u64) {
        if let Some(library) = library() {
            // SAFETY: a number that `start` gave.
            unsafe { (library.end)(id) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod library {
    pub fn start(_name: &str) -> Option<u64> {
        None
    }

    pub fn end(_id: u64) {}
}
