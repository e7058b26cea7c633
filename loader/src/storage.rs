//! Bytes that can be read at a position: a file, or memory inside the program. Direct I/O lives
//! here and nowhere else; this module must not know what the bytes mean.
//!
//! Direct I/O goes around the page cache: a model larger than RAM would otherwise evict itself
//! once per token. Where a file system refuses it, the same call reads through the page cache and
//! [`Storage::access_report`] says so.

#![cfg_attr(
    target_os = "macos",
    expect(
        unsafe_code,
        reason = "fcntl(F_NOCACHE) has no safe equivalent; it takes an open descriptor and an \
                  integer, and touches no memory of ours"
    )
)]

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Error;

/// Offset, length and memory alignment that direct reads keep to. Disks would take sectors of 512,
/// but a read whose pages are not those of the file can cost a fifth of the rate (measured in a
/// virtual machine).
pub const DIRECT_ALIGN_BYTES: usize = 4096;

/// Whether a read may use the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    Buffered,
    Direct,
}

/// What [`Access::Direct`] really does with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessReport {
    Direct,
    PageCache,
    Embedded,
}

impl AccessReport {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct I/O",
            Self::PageCache => "page cache",
            Self::Embedded => "embedded in the program",
        }
    }
}

impl fmt::Display for AccessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A source of bytes. Reads are positional, so that any number of threads may read at once.
pub trait Storage: fmt::Debug + Send + Sync {
    /// The file as the user knows it, for messages.
    fn name(&self) -> &str;

    /// Bytes when it was opened.
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset` on, or fails: a file that ends early is [`Error::Shrunk`].
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error>;

    /// Like `read_at` for at least the first `need` bytes of `buf`, around the page cache where
    /// that is possible. `offset` and the address and length of `buf` are multiples of
    /// `direct_align`; what lies past `need` may or may not be filled.
    fn read_direct(&self, offset: u64, buf: &mut [u8], need: usize) -> Result<(), Error> {
        self.read_at(offset, &mut buf[..need])
    }

    /// What `read_direct` really does; the first time, reads one page to find out.
    fn access_report(&self) -> AccessReport;
}

/// What [`Access::Direct`] really does with all of these files: the least direct of them.
pub(crate) fn least_direct(files: &[Arc<dyn Storage>]) -> AccessReport {
    let mut reports = files.iter().map(|file| file.access_report());
    let first = reports.next().unwrap_or(AccessReport::PageCache);
    reports.fold(first, |all, one| {
        if all == one {
            all
        } else {
            AccessReport::PageCache
        }
    })
}

/// A file of a checkpoint directory.
#[derive(Debug)]
pub(crate) struct FileStorage {
    path: PathBuf,
    name: String,
    file: File,
    bytes: u64,
    /// Opened at the first direct read; `None` where the file system refuses.
    direct: OnceLock<Option<File>>,
    /// Set when a direct handle opened but the first read on it was refused.
    direct_refused: AtomicBool,
    /// Whether the first page came by a direct read; asked once.
    first_page: OnceLock<bool>,
}

impl FileStorage {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_path_buf(),
            name: path.display().to_string(),
            file,
            bytes,
            direct: OnceLock::new(),
            direct_refused: AtomicBool::new(false),
            first_page: OnceLock::new(),
        })
    }

    fn direct_file(&self) -> Option<&File> {
        if self.direct_refused.load(Ordering::Relaxed) || self.first_page.get() == Some(&false) {
            return None;
        }
        self.direct
            .get_or_init(|| {
                open_direct(&self.path)
                    .and_then(|direct| self.is_same(direct))
                    .inspect_err(|error| {
                        tracing::info!(file = %self.name, %error, "direct I/O refused at open");
                    })
                    .ok()
            })
            .as_ref()
    }

    /// Another file may stand under the name by now; its bytes are not those that the header of
    /// this one describes.
    fn is_same(&self, direct: File) -> io::Result<File> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let (ours, theirs) = (self.file.metadata()?, direct.metadata()?);
            if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
                return Err(io::Error::other("the file was replaced"));
            }
        }
        Ok(direct)
    }

    /// Reads until `need` bytes are there. `Ok(false)`: this file does not do direct reads.
    fn try_direct(&self, offset: u64, buf: &mut [u8], need: usize) -> Result<bool, Error> {
        let Some(file) = self.direct_file() else {
            return Ok(false);
        };
        let mut got = 0;
        while got < need {
            match read_some(file, offset + got as u64, &mut buf[got..]) {
                Ok(0) => return Err(self.shrunk()),
                Ok(n) => {
                    got += n;
                    // The next direct read would have to begin inside a page, and cannot. At the
                    // end of a file that shrank this finds nothing.
                    if got < need && got % DIRECT_ALIGN_BYTES != 0 {
                        self.read_at(offset + got as u64, &mut buf[got..need])?;
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && got == 0 => {
                    tracing::info!(file = %self.name, %error, "direct I/O refused at read");
                    self.direct_refused.store(true, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(error) => return Err(self.failed(offset, need, error)),
            }
        }
        Ok(true)
    }

    fn shrunk(&self) -> Error {
        Error::Shrunk {
            file: self.name.clone(),
            expected_bytes: self.bytes,
            found_bytes: self.file.metadata().map_or(0, |meta| meta.len()),
        }
    }

    fn failed(&self, offset: u64, bytes: usize, source: io::Error) -> Error {
        Error::Read {
            file: self.name.clone(),
            offset,
            bytes,
            source,
        }
    }
}

impl Storage for FileStorage {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let mut got = 0;
        while got < buf.len() {
            match read_some(&self.file, offset + got as u64, &mut buf[got..]) {
                Ok(0) => return Err(self.shrunk()),
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(offset, buf.len(), error)),
            }
        }
        Ok(())
    }

    fn read_direct(&self, offset: u64, buf: &mut [u8], need: usize) -> Result<(), Error> {
        if self.try_direct(offset, buf, need)? {
            return Ok(());
        }
        self.read_at(offset, &mut buf[..need])
    }

    fn access_report(&self) -> AccessReport {
        let direct = *self.first_page.get_or_init(|| {
            let need = usize::try_from(self.bytes)
                .unwrap_or(usize::MAX)
                .min(DIRECT_ALIGN_BYTES);
            let mut page = crate::AlignedBuf::new(DIRECT_ALIGN_BYTES);
            self.try_direct(0, page.as_mut_slice(), need)
                .unwrap_or(false)
        });
        match direct && !self.direct_refused.load(Ordering::Relaxed) {
            true => AccessReport::Direct,
            false => AccessReport::PageCache,
        }
    }
}

#[cfg(unix)]
fn read_some(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
fn read_some(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
}

#[cfg(target_os = "macos")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let file = File::open(path)?;
    // SAFETY: `file` owns an open descriptor for the whole call, and F_NOCACHE takes an integer.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) };
    if rc == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// A file that was compiled into the program.
#[derive(Debug)]
pub(crate) struct EmbeddedStorage {
    name: String,
    bytes: &'static [u8],
}

impl EmbeddedStorage {
    pub(crate) fn new(name: String, bytes: &'static [u8]) -> Self {
        Self { name, bytes }
    }
}

impl Storage for EmbeddedStorage {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| self.bytes.get(start..start.checked_add(buf.len())?));
        match found {
            Some(found) => {
                buf.copy_from_slice(found);
                Ok(())
            }
            None => Err(Error::Shrunk {
                file: self.name.clone(),
                expected_bytes: offset.saturating_add(buf.len() as u64),
                found_bytes: self.len(),
            }),
        }
    }

    fn access_report(&self) -> AccessReport {
        AccessReport::Embedded
    }
}
