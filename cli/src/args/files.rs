//! The report files of a run: which are wanted, and where they go.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Report files")]
pub struct FilesArgs {
    /// Write all of the files below into this folder, which is created if it is missing
    #[arg(long, value_name = "DIR")]
    pub profile_dir: Option<PathBuf>,
    /// The timeline for ui.perfetto.dev: stages, compute, copies and every slot
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// A table of the stages and of every decode step, tab-separated
    #[arg(long, value_name = "FILE")]
    pub timing_tsv: Option<PathBuf>,
    /// Totals, plan, machine, and the operations that took most, as JSON
    #[arg(long, value_name = "FILE")]
    pub stats_json: Option<PathBuf>,
    /// The stages as a picture (SVG): the wider, the longer
    #[arg(long, value_name = "FILE")]
    pub flamegraph: Option<PathBuf>,
    /// One HTML page with the timeline, waits, speed and memory; needs no network
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The raw tracing spans, as a Chrome trace; recording them costs a little speed
    #[cfg(feature = "profiling")]
    #[arg(long, value_name = "FILE")]
    pub spans: Option<PathBuf>,
}

/// A kind of report file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Trace,
    TimingTsv,
    StatsJson,
    Flamegraph,
    Report,
}

impl FilesArgs {
    /// Every file that is wanted, with its place. A place of its own goes before the folder.
    pub fn wanted(&self) -> Vec<(FileKind, PathBuf)> {
        let all = [
            (FileKind::Trace, &self.trace, "trace.json"),
            (FileKind::TimingTsv, &self.timing_tsv, "timing.tsv"),
            (FileKind::StatsJson, &self.stats_json, "stats.json"),
            (FileKind::Flamegraph, &self.flamegraph, "flamegraph.svg"),
            (FileKind::Report, &self.report, "report.html"),
        ];
        let placed = all.into_iter().filter_map(|(kind, file, name)| {
            let in_folder = || self.profile_dir.as_ref().map(|folder| folder.join(name));
            file.clone().or_else(in_folder).map(|path| (kind, path))
        });
        placed.collect()
    }
}
