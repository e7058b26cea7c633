//! The archive that `torch.save` writes: a zip whose entries are stored as they are, so that each is
//! a stretch of the file. Every number is held against the length of the file before it is believed.
//! Checksums of entries are not looked at, as those of other weights are not. Knows no pickle.

use std::collections::BTreeMap;

use super::problem::TorchProblem;
use crate::json::shorten;
use crate::{Error, Storage};

/// A hundred times more than the largest published projector needs.
const DIRECTORY_BYTES_MAX: u64 = 1 << 20;

const END: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: u64 = 22;
const COMMENT_BYTES_MAX: u64 = u16::MAX as u64;
const LOCATOR: [u8; 4] = *b"PK\x06\x07";
const LOCATOR_BYTES: u64 = 20;
const END_64: [u8; 4] = *b"PK\x06\x06";
const END_64_BYTES: u64 = 56;
const LISTED: [u8; 4] = *b"PK\x01\x02";
const LISTED_BYTES: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_BYTES: u64 = 30;

/// What stands in a field whose value is in another place, with more bits.
const ELSEWHERE: u64 = u32::MAX as u64;
const SHORT_ELSEWHERE: u64 = u16::MAX as u64;

const ENCRYPTED: u16 = 1;
/// Sizes come after the data, and may be 0 before it.
const SIZES_AFTER: u16 = 1 << 3;
const STORED: u16 = 0;

/// An entry as the directory lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed {
    flags: u16,
    method: u16,
    bytes: u64,
    packed_bytes: u64,
    /// Where its local header begins.
    header_at: u64,
}

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub offset: u64,
    pub bytes: u64,
}

/// The directory of one archive.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    storage: &'a dyn Storage,
    entries: BTreeMap<String, Listed>,
    directory: Stretch,
}

impl<'a> Archive<'a> {
    pub fn read(storage: &'a dyn Storage) -> Result<Self, Error> {
        let (directory, count) = find_directory(storage)?;
        let bytes = take(storage, directory.offset, directory.bytes)?;
        let entries = list(&bytes, count).map_err(|problem| fail(storage, problem))?;
        Ok(Self {
            storage,
            entries,
            directory,
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The whole entry, which may have so many bytes at most.
    pub fn content(&self, name: &str, what: &'static str, max: u64) -> Result<Vec<u8>, Error> {
        let place = self.place(name)?;
        if place.bytes > max {
            return Err(fail(
                self.storage,
                TorchProblem::TooLarge {
                    what,
                    bytes: place.bytes,
                    max_bytes: max,
                },
            ));
        }
        take(self.storage, place.offset, place.bytes)
    }

    /// Where the bytes of an entry are. Its local header must say what the directory does.
    pub fn place(&self, name: &str) -> Result<Stretch, Error> {
        let entry = || shorten(name.to_owned());
        let Some(listed) = self.entries.get(name) else {
            return Err(fail(self.storage, TorchProblem::NoEntry { entry: entry() }));
        };
        let damaged = |problem| {
            let entry = entry();
            fail(self.storage, TorchProblem::Entry { entry, problem })
        };
        if listed.flags & ENCRYPTED != 0 {
            return Err(damaged("it is encrypted"));
        }
        if listed.method != STORED {
            let entry = entry();
            return Err(fail(self.storage, TorchProblem::Compressed { entry }));
        }
        if listed.packed_bytes != listed.bytes {
            return Err(damaged("it is stored in more or fewer bytes than it has"));
        }
        let name_bytes = name.len() as u64;
        let fits = listed
            .header_at
            .checked_add(LOCAL_BYTES + name_bytes)
            .is_some_and(|end| end <= self.directory.offset);
        if !fits {
            return Err(damaged("its header is not before the directory"));
        }
        let header = take(self.storage, listed.header_at, LOCAL_BYTES + name_bytes)?;
        let (fixed, local_name) = header.split_at(LOCAL_BYTES as usize);
        let short = |at| u64::from(u16_at(fixed, at));
        let long = |at| u64::from(u32_at(fixed, at));
        if fixed[..4] != LOCAL {
            return Err(damaged("there is no header where it should begin"));
        }
        if short(26) != name_bytes || local_name != name.as_bytes() {
            return Err(damaged("its header has another name than the directory"));
        }
        let flags = u16_at(fixed, 6);
        if u16_at(fixed, 8) != listed.method || flags & ENCRYPTED != listed.flags & ENCRYPTED {
            return Err(damaged("its header has another method than the directory"));
        }
        let is_said = |size| size != ELSEWHERE && !(size == 0 && flags & SIZES_AFTER != 0);
        if [long(18), long(22)]
            .into_iter()
            .any(|size| is_said(size) && size != listed.bytes)
        {
            return Err(damaged("its header has another size than the directory"));
        }
        // Neither the position, which is inside the file, nor two lengths of 16 bits overflow.
        let offset = listed.header_at + LOCAL_BYTES + name_bytes + short(28);
        match offset.checked_add(listed.bytes) {
            Some(end) if end <= self.directory.offset => Ok(Stretch {
                offset,
                bytes: listed.bytes,
            }),
            _ => Err(damaged("it reaches into the directory")),
        }
    }
}

pub(super) fn fail(storage: &dyn Storage, problem: TorchProblem) -> Error {
    Error::Torch {
        file: storage.name().into(),
        problem,
    }
}

/// Bytes of the file that are known to be in it, and few.
fn take(storage: &dyn Storage, offset: u64, bytes: u64) -> Result<Vec<u8>, Error> {
    let mut taken = vec![0; usize::try_from(bytes).unwrap_or(0)];
    storage.read_at(offset, &mut taken)?;
    Ok(taken)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// The callers have looked at the length.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Where the directory is, and how many entries it has.
fn find_directory(storage: &dyn Storage) -> Result<(Stretch, u64), Error> {
    let file_bytes = storage.len();
    if file_bytes < END_BYTES {
        return Err(fail(storage, TorchProblem::NoArchive));
    }
    let tail_bytes = file_bytes.min(END_BYTES + COMMENT_BYTES_MAX);
    let tail_at = file_bytes - tail_bytes;
    let tail = take(storage, tail_at, tail_bytes)?;
    // A comment of any length may follow, so the record is looked for from the end.
    let last = tail.len() - END_BYTES as usize;
    let is_end = |at: &usize| {
        let comment = tail.len() - at - END_BYTES as usize;
        tail[*at..*at + 4] == END && usize::from(u16_at(&tail, at + 20)) == comment
    };
    let Some(at) = (0..=last).rev().find(is_end) else {
        return Err(fail(storage, TorchProblem::NoArchive));
    };
    let end = &tail[at..];
    let end_at = tail_at + at as u64;
    let here = Ends {
        disks: [u16_at(end, 4).into(), u16_at(end, 6).into()],
        counts: [u16_at(end, 8).into(), u16_at(end, 10).into()],
        bytes: u32_at(end, 12).into(),
        offset: u32_at(end, 16).into(),
    };
    let (ends, limit) = match find_wide(storage, end_at)? {
        Some((wide, at)) if here.agrees(&wide) => (wide, at),
        Some(_) => {
            let problem = "its two ends say different things";
            return Err(fail(storage, TorchProblem::Archive { problem }));
        }
        None => (here, end_at),
    };
    ends.directory(limit)
        .map_err(|problem| fail(storage, problem))
}

/// What the record at the end of the archive says.
#[derive(Debug, Clone, Copy)]
struct Ends {
    disks: [u64; 2],
    counts: [u64; 2],
    bytes: u64,
    offset: u64,
}

impl Ends {
    /// Whether the record in 64 bits says the same, but for what is only there.
    fn agrees(&self, wide: &Self) -> bool {
        let same = |narrow, wide, elsewhere| narrow == elsewhere || narrow == wide;
        let shorts = |ends: &Self| [ends.disks, ends.counts].concat().into_iter();
        same(self.bytes, wide.bytes, ELSEWHERE)
            && same(self.offset, wide.offset, ELSEWHERE)
            && shorts(self)
                .zip(shorts(wide))
                .all(|(narrow, wide)| same(narrow, wide, SHORT_ELSEWHERE))
    }

    fn directory(&self, limit: u64) -> Result<(Stretch, u64), TorchProblem> {
        let damaged = |problem| Err(TorchProblem::Archive { problem });
        if self.disks != [0, 0] || self.counts[0] != self.counts[1] {
            return damaged("it is one of several parts");
        }
        let end = self.offset.checked_add(self.bytes);
        if end.is_none_or(|end| end > limit) {
            return damaged("its directory is not in front of its end");
        }
        if self.bytes > DIRECTORY_BYTES_MAX {
            return Err(TorchProblem::TooLarge {
                what: "the directory",
                bytes: self.bytes,
                max_bytes: DIRECTORY_BYTES_MAX,
            });
        }
        let directory = Stretch {
            offset: self.offset,
            bytes: self.bytes,
        };
        Ok((directory, self.counts[1]))
    }
}

/// The same record with numbers of 64 bits, where there is one, and where it begins.
fn find_wide(storage: &dyn Storage, end_at: u64) -> Result<Option<(Ends, u64)>, Error> {
    let Some(locator_at) = end_at.checked_sub(LOCATOR_BYTES) else {
        return Ok(None);
    };
    let locator = take(storage, locator_at, LOCATOR_BYTES)?;
    if locator[..4] != LOCATOR {
        return Ok(None);
    }
    let at = u64_at(&locator, 8);
    let fits = at
        .checked_add(END_64_BYTES)
        .is_some_and(|end| end <= locator_at);
    let damaged = || {
        let problem = "its end in 64 bits is not where it should be";
        fail(storage, TorchProblem::Archive { problem })
    };
    if !fits {
        return Err(damaged());
    }
    let wide = take(storage, at, END_64_BYTES)?;
    if wide[..4] != END_64 {
        return Err(damaged());
    }
    let ends = Ends {
        disks: [u32_at(&wide, 16).into(), u32_at(&wide, 20).into()],
        counts: [u64_at(&wide, 24), u64_at(&wide, 32)],
        bytes: u64_at(&wide, 40),
        offset: u64_at(&wide, 48),
    };
    Ok(Some((ends, at)))
}

/// The entries of the directory, which ends with the last of them.
fn list(directory: &[u8], count: u64) -> Result<BTreeMap<String, Listed>, TorchProblem> {
    const CUT: TorchProblem = TorchProblem::Archive {
        problem: "its directory is cut short",
    };
    let mut entries = BTreeMap::new();
    let mut rest = directory;
    let mut left = count;
    while left > 0 {
        let (fixed, names) = rest.split_at_checked(LISTED_BYTES).ok_or(CUT)?;
        if fixed[..4] != LISTED {
            return Err(TorchProblem::Archive {
                problem: "its directory lists something else than entries",
            });
        }
        let length = |at| usize::from(u16_at(fixed, at));
        let (name, names) = names.split_at_checked(length(28)).ok_or(CUT)?;
        let (extra, names) = names.split_at_checked(length(30)).ok_or(CUT)?;
        let (_comment, names) = names.split_at_checked(length(32)).ok_or(CUT)?;
        let Ok(name) = str::from_utf8(name) else {
            return Err(TorchProblem::Archive {
                problem: "the name of an entry is not UTF-8",
            });
        };
        let listed = listed(fixed, extra).ok_or_else(|| TorchProblem::Entry {
            entry: shorten(name.into()),
            problem: "its sizes in 64 bits are missing",
        })?;
        if entries.insert(name.to_owned(), listed).is_some() {
            return Err(TorchProblem::Entry {
                entry: shorten(name.into()),
                problem: "it is listed twice",
            });
        }
        rest = names;
        left -= 1;
    }
    match rest.is_empty() {
        true => Ok(entries),
        false => Err(TorchProblem::Archive {
            problem: "its directory goes on after the last entry",
        }),
    }
}

/// `None` where numbers should be in the extra field and are not.
fn listed(fixed: &[u8], extra: &[u8]) -> Option<Listed> {
    let mut wide = wide_numbers(extra);
    let mut number = |at| match u64::from(u32_at(fixed, at)) {
        ELSEWHERE => wide.next(),
        number => Some(number),
    };
    // In the order in which the extra field has them.
    let (bytes, packed_bytes, header_at) = (number(24)?, number(20)?, number(42)?);
    Some(Listed {
        flags: u16_at(fixed, 8),
        method: u16_at(fixed, 10),
        bytes,
        packed_bytes,
        header_at,
    })
}

/// The numbers of 64 bits in an extra field.
fn wide_numbers(extra: &[u8]) -> impl Iterator<Item = u64> {
    const WIDE: u16 = 1;
    let mut rest = extra;
    let mut found: &[u8] = &[];
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let Some((data, tail)) = tail.split_at_checked(u16_at(head, 2).into()) else {
            break;
        };
        if u16_at(head, 0) == WIDE {
            found = data;
            break;
        }
        rest = tail;
    }
    found.chunks_exact(8).map(|bytes| u64_at(bytes, 0))
}
