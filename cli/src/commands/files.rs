//! The report files of a run: their places are tried before anything is loaded, and the files are
//! written when the run is over, however it ended.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use engine::profile::files::{self, RunRecord};

use crate::args::{FileKind, FilesArgs};
use crate::failure::{Failure, Usage};
use crate::output::{Console, build_whole, gigabytes, try_place};

/// Files that can be written.
#[derive(Debug)]
pub struct Files {
    wanted: Vec<(FileKind, PathBuf)>,
}

impl Files {
    /// Makes the folder that was asked for, and tries every place.
    pub fn prepare(args: &FilesArgs) -> Result<Self, Failure> {
        let wanted = args.wanted();
        if let Some(folder) = &args.profile_dir {
            fs::create_dir_all(folder).map_err(|source| Failure::not_written(folder, source))?;
        }
        for (index, (_, path)) in wanted.iter().enumerate() {
            if wanted[..index].iter().any(|(_, other)| other == path) {
                return Err(Usage::SameFile { path: path.clone() }.into());
            }
            try_place(path).map_err(|source| Failure::not_written(path, source))?;
        }
        Ok(Self { wanted })
    }

    pub fn any(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Writes them all, and says so. One that fails does not keep the others from being written;
    /// the first failure is the one returned.
    pub fn write(&self, run: &RunRecord<'_>, console: &Console) -> Result<(), Failure> {
        let mut written = Ok(());
        for (kind, path) in &self.wanted {
            match build_whole(path, |to| build(*kind, run, to)) {
                Ok(bytes) => console.say(format_args!(
                    "Wrote {} ({}){}",
                    path.display(),
                    gigabytes(bytes),
                    what_for(*kind)
                )),
                Err(source) => written = written.and(Err(Failure::not_written(path, source))),
            }
        }
        written
    }
}

fn build(kind: FileKind, run: &RunRecord<'_>, to: &mut impl Write) -> io::Result<()> {
    match kind {
        FileKind::Trace => files::write_trace(run, to),
        FileKind::TimingTsv => files::write_tsv(run, to),
        FileKind::StatsJson => files::write_stats(run, to),
        FileKind::Flamegraph => files::write_flamegraph(run, to),
        FileKind::Report => files::write_html(run, to),
    }
}

fn what_for(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Trace => ", to be opened in ui.perfetto.dev",
        FileKind::Report | FileKind::Flamegraph => ", to be opened in a browser",
        FileKind::TimingTsv | FileKind::StatsJson => "",
    }
}
