//! Which GGUF file is meant: a path may name the file, any part of a split one, a folder with one
//! model, or a folder and a part of the name. Knows names of files and nothing that is in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::header;
use crate::Error;
use crate::folder::{Folder, is_plain};

const ENDING: &str = ".gguf";

/// Names in a message.
const NAMES_MAX: usize = 40;

/// A file that holds a model or the first part of one.
#[derive(Debug)]
pub(crate) struct Found {
    pub folder: Folder,
    pub name: String,
}

/// The numbers in the name of a part, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartName<'a> {
    pub stem: &'a str,
    pub number: u64,
    pub count: u64,
}

impl<'a> PartName<'a> {
    /// `STEM-00001-of-00003.gguf`.
    pub fn of(name: &'a str) -> Option<Self> {
        let rest = without_ending(name)?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            let all = text.len() == 5 && text.bytes().all(|letter| letter.is_ascii_digit());
            all.then(|| text.parse().ok()).flatten()
        };
        Some(Self {
            stem,
            number: digits(number)?,
            count: digits(count)?,
        })
    }

    /// The name of the part of that number, with the ending that `name` has.
    pub fn name(self, number: u64, name: &str) -> String {
        let ending = &name[name.len() - ENDING.len()..];
        format!("{}-{number:05}-of-{:05}{ending}", self.stem, self.count)
    }
}

fn without_ending(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(ENDING.len())?;
    let ending = name.get(at..)?;
    ending.eq_ignore_ascii_case(ENDING).then(|| &name[..at])
}

/// Whether a file of this format is no language model, by its name: a projector for images or sound,
/// or what a quantiser keeps of its measurements.
pub(crate) fn is_beside(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    without_ending(&name).is_some() && (name.contains("mmproj") || name.contains("imatrix"))
}

/// `None` where the path leads to no GGUF file, and it is for others to say what it is.
pub(crate) fn find(path: &Path) -> Result<Option<Found>, Error> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => in_folder(path, None),
        Ok(meta) if meta.is_file() => file(path),
        Ok(_) => Ok(None),
        Err(_) => picked(path),
    }
}

fn file(path: &Path) -> Result<Option<Found>, Error> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    if !is_plain(name) {
        return Ok(None);
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(None),
    };
    let folder = Folder::on_disk(parent)?;
    // Some programs store models under names without an ending.
    let is_one = match without_ending(name) {
        Some(_) => true,
        None => match folder.open(name) {
            Ok(Some(storage)) => header::is_gguf(storage.as_ref()),
            _ => false,
        },
    };
    let name = name.to_owned();
    Ok(is_one.then_some(Found { folder, name }))
}

/// `FOLDER:PART`, where there is no file of that name.
fn picked(path: &Path) -> Result<Option<Found>, Error> {
    let Some((folder, pick)) = path.to_str().and_then(|path| path.rsplit_once(':')) else {
        return Ok(None);
    };
    match is_plain(pick) && Path::new(folder).is_dir() {
        true => in_folder(Path::new(folder), Some(pick)),
        false => Ok(None),
    }
}

fn in_folder(path: &Path, pick: Option<&str>) -> Result<Option<Found>, Error> {
    let folder = Folder::on_disk(path)?;
    let names = folder.names();
    let is_safetensors = |name: &String| name.ends_with(".safetensors");
    if pick.is_none() && names.iter().any(is_safetensors) {
        return Ok(None);
    }
    // A split model has one name here, that of its first part.
    let mut models: BTreeMap<String, String> = BTreeMap::new();
    for name in &names {
        let Some(stem) = without_ending(name).filter(|_| !is_beside(name)) else {
            continue;
        };
        let (stem, first) = match PartName::of(name) {
            Some(part) => (part.stem.to_owned(), part.name(1, name)),
            None => (stem.to_owned(), name.clone()),
        };
        models.insert(first, stem);
    }
    let choose = |of: &dyn Fn(&str) -> bool| {
        let chosen = models.iter().filter(|(_, stem)| of(stem));
        chosen.map(|(first, _)| first.clone()).collect::<Vec<_>>()
    };
    let mut chosen = match pick {
        None => choose(&|_| true),
        Some(pick) => match choose(&|stem| names_part(stem, pick)) {
            none if none.is_empty() => choose(&|stem| contains(stem, pick)),
            some => some,
        },
    };
    let list = |names: Vec<String>| names.into_iter().take(NAMES_MAX).collect();
    match (chosen.len(), pick) {
        (1, _) => Ok(chosen.pop().map(|name| Found { folder, name })),
        (0, None) => Ok(None),
        (0, Some(pick)) => Err(Error::NoSuchGguf {
            location: folder.location().into(),
            pick: pick.into(),
            found: list(models.into_keys().collect()),
        }),
        _ => Err(Error::SeveralGguf {
            location: folder.location().into(),
            found: list(chosen),
        }),
    }
}

/// Whether `pick` stands in the name between hyphens and dots: `Q4_K` does not in `a-Q4_K_M`.
fn names_part(stem: &str, pick: &str) -> bool {
    let (stem, pick) = (stem.to_ascii_lowercase(), pick.to_ascii_lowercase());
    let is_border = |letter: Option<char>| letter.is_none_or(|letter| matches!(letter, '-' | '.'));
    stem.match_indices(&pick).any(|(at, _)| {
        let (before, after) = (&stem[..at], &stem[at + pick.len()..]);
        is_border(before.chars().next_back()) && is_border(after.chars().next())
    })
}

fn contains(stem: &str, pick: &str) -> bool {
    let (stem, pick) = (stem.to_ascii_lowercase(), pick.to_ascii_lowercase());
    stem.contains(&pick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_five_digits_twice() {
        let part = PartName::of("a-b-00002-of-00003.gguf").unwrap();
        assert_eq!((part.stem, part.number, part.count), ("a-b", 2, 3));
        assert_eq!(part.name(1, "x.GGUF"), "a-b-00001-of-00003.GGUF");
        for name in [
            "a-2-of-3.gguf",
            "a-00002-of-00003.bin",
            "a-0000x-of-00003.gguf",
            "é",
        ] {
            assert_eq!(PartName::of(name), None, "{name}");
        }
    }

    #[test]
    fn a_pick_is_a_whole_part_of_the_name() {
        assert!(names_part("model-Q4_K_M", "q4_k_m"));
        assert!(names_part("model.Q4_K_M", "Q4_K_M"));
        assert!(names_part("model-UD-Q4_K_XL", "UD-Q4_K_XL"));
        assert!(!names_part("model-Q4_K_M", "Q4_K"));
        assert!(!names_part("model-IQ4_XS", "Q4_XS"));
    }
}
