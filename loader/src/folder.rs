//! Where the files of a checkpoint are: a directory, or a table inside the program. The rest of
//! the crate asks here by plain file name and cannot tell the two apart.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::foreign::Format;
use crate::manifest::MANIFEST;
use crate::storage::{EmbeddedStorage, FileStorage, Storage};

/// No configuration or tokenizer file comes near this; reading more would be a mistake.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub(crate) enum Folder {
    Disk {
        dir: PathBuf,
        location: String,
        /// Where its files may really be; see [`homes`].
        homes: Vec<PathBuf>,
    },
    /// A model in one file, or in a few parts of one: of what is beside them, only a file under the
    /// model's own name belongs to it.
    Single {
        folder: Box<Folder>,
        /// The file, which comes first where there are parts.
        name: String,
        location: String,
    },
    Embedded {
        name: &'static str,
        files: Vec<(&'static str, &'static [u8])>,
    },
}

impl Folder {
    pub fn on_disk(dir: &Path) -> Result<Self, Error> {
        let location = dir.display().to_string();
        let problem = match fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => {
                return Ok(Self::Disk {
                    dir: dir.to_path_buf(),
                    homes: homes(dir),
                    location,
                });
            }
            Ok(_) => match Format::of(&location) {
                Some(format) if format != Format::Consolidated => {
                    return Err(Error::OtherFormat {
                        file: location,
                        format,
                    });
                }
                _ => "it is a file",
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => "it does not exist",
            Err(source) => {
                return Err(Error::Io {
                    action: "open",
                    file: location,
                    source,
                });
            }
        };
        Err(Error::NotACheckpoint { location, problem })
    }

    pub fn single(self, name: String) -> Self {
        Self::Single {
            location: self.display(&name),
            folder: Box::new(self),
            name,
        }
    }

    /// The directory or the name, for messages.
    pub fn location(&self) -> &str {
        match self {
            Self::Disk { location, .. } | Self::Single { location, .. } => location,
            Self::Embedded { name, .. } => name,
        }
    }

    /// A file of this folder as the user would name it.
    pub fn display(&self, name: &str) -> String {
        match self {
            Self::Disk { dir, .. } => dir.join(name).display().to_string(),
            Self::Single {
                folder,
                name: own,
                location,
            } => match own_file(own, name) {
                Some(own) => folder.display(&own),
                None => location.clone(),
            },
            Self::Embedded { name: folder, .. } => format!("{folder}/{name}"),
        }
    }

    /// The whole file, or `None` where there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        check_name(name)?;
        match self {
            Self::Disk { dir, homes, .. } => match self.find_file(&dir.join(name), name, homes)? {
                Some(path) => self.read_from_disk(&path, name),
                None => Ok(None),
            },
            Self::Single {
                folder, name: own, ..
            } => match own_file(own, name) {
                Some(own) => folder.read(&own),
                None => Ok(None),
            },
            Self::Embedded { files, .. } => Ok(find(files, name).map(<[u8]>::to_vec)),
        }
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> Result<bool, Error> {
        check_name(name)?;
        match self {
            Self::Disk { dir, homes, .. } => {
                Ok(self.find_file(&dir.join(name), name, homes)?.is_some())
            }
            Self::Single {
                folder, name: own, ..
            } => match own_file(own, name) {
                Some(own) => folder.has(&own),
                None => Ok(false),
            },
            Self::Embedded { files, .. } => Ok(find(files, name).is_some()),
        }
    }

    /// The size of a file; `None` where there is none.
    pub fn file_bytes(&self, name: &str) -> Result<Option<u64>, Error> {
        check_name(name)?;
        Ok(match self {
            Self::Disk { dir, homes, .. } => {
                let path = self.find_file(&dir.join(name), name, homes)?;
                path.and_then(|path| fs::metadata(path).ok())
                    .map(|file| file.len())
            }
            Self::Single {
                folder, name: own, ..
            } => match own_file(own, name) {
                Some(own) => folder.file_bytes(&own)?,
                None => None,
            },
            Self::Embedded { files, .. } => find(files, name).map(|file| file.len() as u64),
        })
    }

    /// The folder of that name inside this one; `None` where there is none.
    pub fn inside(&self, inner: &str) -> Result<Option<Self>, Error> {
        let Self::Disk { homes, .. } = self else {
            return Ok(None);
        };
        let found = self.find_folder(inner)?;
        Ok(found.map(|dir| Self::Disk {
            location: dir.display().to_string(),
            dir,
            homes: homes.clone(),
        }))
    }

    /// The path of a folder inside this one, which must not be a link out of its homes.
    fn find_folder(&self, inner: &str) -> Result<Option<PathBuf>, Error> {
        check_name(inner)?;
        let Self::Disk { dir, homes, .. } = self else {
            return Ok(None);
        };
        let path = dir.join(inner);
        match path.canonicalize() {
            Ok(target) if homes.iter().any(|home| target.starts_with(home)) => {}
            Ok(target) => {
                return Err(Error::LinkOut {
                    file: self.display(inner),
                    location: self.location().into(),
                    target: target.display().to_string(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("open", inner, source)),
        }
        match path.is_dir() {
            true => Ok(Some(path)),
            false => Err(self.not_a_file(inner, "it is no directory")),
        }
    }

    /// What the files of a folder inside this one are called, without the ending that they all
    /// have; nothing where there is no such folder.
    pub fn names_in(&self, inner: &str, ending: &str) -> Result<Vec<String>, Error> {
        let Some(path) = self.find_folder(inner)? else {
            return Ok(Vec::new());
        };
        let entries = fs::read_dir(&path).map_err(|source| self.io("open", inner, source))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.io("read", inner, source))?;
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(ending));
            names.extend(name.filter(|name| is_plain(name)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// A file of a folder inside this one, or `None` where there is none.
    pub fn read_in(&self, inner: &str, name: &str) -> Result<Option<Vec<u8>>, Error> {
        check_name(inner)?;
        check_name(name)?;
        let Self::Disk { dir, homes, .. } = self else {
            return Ok(None);
        };
        let named = format!("{inner}/{name}");
        match self.find_file(&dir.join(inner).join(name), &named, homes)? {
            Some(path) => self.read_from_disk(&path, &named),
            None => Ok(None),
        }
    }

    /// The file of that path, `None` where there is none. Only a file that is one, and is in a
    /// home: reading a pipe waits for ever, a device has no end, and a link out of the checkpoint
    /// would read what was never part of it.
    fn find_file(
        &self,
        path: &Path,
        name: &str,
        homes: &[PathBuf],
    ) -> Result<Option<PathBuf>, Error> {
        let link = match fs::symlink_metadata(path) {
            Ok(meta) => meta.is_symlink(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("open", name, source)),
        };
        if link {
            let target = match path.canonicalize() {
                Ok(target) => target,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(self.not_a_file(name, "it is a link to nothing"));
                }
                Err(source) => return Err(self.io("open", name, source)),
            };
            if !homes.iter().any(|home| target.starts_with(home)) {
                return Err(Error::LinkOut {
                    file: self.display(name),
                    location: self.location().into(),
                    target: target.display().to_string(),
                });
            }
        }
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(path.to_path_buf())),
            Ok(meta) if meta.is_dir() => Err(self.not_a_file(name, "it is a directory")),
            Ok(_) => Err(self.not_a_file(name, "it is a pipe, a socket or a device")),
            Err(source) => Err(self.io("open", name, source)),
        }
    }

    fn not_a_file(&self, name: &str, problem: &'static str) -> Error {
        Error::NotAFile {
            file: self.display(name),
            problem,
        }
    }

    fn read_from_disk(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("open", name, source)),
        };
        let mut bytes = Vec::new();
        // One byte past the limit tells a file that is too large from one that just fits.
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.io("read", name, source))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let found_bytes = std::fs::metadata(path).map_or(FILE_BYTES_MAX + 1, |meta| meta.len());
            return Err(Error::FileTooLarge {
                file: self.display(name),
                found_bytes,
                max_bytes: FILE_BYTES_MAX,
            });
        }
        Ok(Some(bytes))
    }

    /// The file for positional reads, or `None` where there is none.
    pub fn open(&self, name: &str) -> Result<Option<Arc<dyn Storage>>, Error> {
        check_name(name)?;
        match self {
            Self::Disk { dir, homes, .. } => {
                let Some(path) = self.find_file(&dir.join(name), name, homes)? else {
                    return Ok(None);
                };
                match FileStorage::open(&path) {
                    Ok(storage) => Ok(Some(Arc::new(storage))),
                    Err(source) => Err(self.io("open", name, source)),
                }
            }
            Self::Single { folder, .. } => folder.open(name),
            Self::Embedded { files, .. } => Ok(find(files, name).map(|bytes| {
                Arc::new(EmbeddedStorage::new(self.display(name), bytes)) as Arc<dyn Storage>
            })),
        }
    }

    /// The names of its files, in order, to say what is there instead of what was looked for.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Disk { dir, .. } => std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect(),
            Self::Single { folder, .. } => return folder.names(),
            Self::Embedded { files, .. } => files.iter().map(|(name, _)| (*name).into()).collect(),
        };
        names.sort();
        names
    }

    fn io(&self, action: &'static str, name: &str, source: io::Error) -> Error {
        Error::Io {
            action,
            file: self.display(name),
            source,
        }
    }
}

/// How deep inside a revision of a download cache a folder may be.
const CACHE_DEPTH_MAX: usize = 3;

/// The directories in which the files of a checkpoint may be when links are followed: its own, and
/// the store beside it where a download cache keeps the content (`snapshots/REVISION/FILE` links to
/// `blobs/HASH`), also from a folder inside a revision.
fn homes(dir: &Path) -> Vec<PathBuf> {
    let Ok(own) = dir.canonicalize() else {
        return Vec::new();
    };
    let mut around = own.ancestors().skip(1).take(CACHE_DEPTH_MAX);
    let snapshots = around.find(|path| path.file_name().is_some_and(|name| name == "snapshots"));
    let store = snapshots
        .and_then(Path::parent)
        .map(|cache| cache.join("blobs"));
    [own.clone()].into_iter().chain(store).collect()
}

/// The name that the model in the file `single` has for the file called `name` in a folder.
fn own_file(single: &str, name: &str) -> Option<String> {
    (name == MANIFEST).then(|| format!("{single}.{name}"))
}

/// Whether `name` names a file of the folder itself and nothing outside it.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_plain(name) {
        Ok(())
    } else {
        Err(Error::FileName { name: name.into() })
    }
}

fn find(files: &[(&'static str, &'static [u8])], name: &str) -> Option<&'static [u8]> {
    files
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, bytes)| *bytes)
}
