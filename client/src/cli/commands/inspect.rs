//! `imprint inspect`.

use std::{fmt, path::PathBuf};

use clap::Args;
use imprint_client::{DiskLayout, inspect, source::Source};
use serde::Serialize;

use crate::cli::{Exit, context::Context, disk_table::DiskTable, failure::CliError, size::size, text::printable};

/// Show what is on a disk: partitions, filesystems, and the space that they do not use.
///
/// Needs no repository, and reads little more than the filesystems' own structures. What is not understood, or is not
/// clean, is plain bytes to Imprint, and the output says why.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A raw image file or a block device.
    disk: PathBuf,
}

impl Inspect {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let source = Source::open(&self.disk).map_err(imprint_client::Error::from)?;
        let layout = inspect(&source).await?;
        let disk = self.disk.display().to_string();
        context.output.result(&Report { disk, unused_bytes: layout.unused_bytes(), layout })?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Report {
    disk: String,
    unused_bytes: u64,
    #[serde(flatten)]
    layout: DiskLayout,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (disk, bytes) = (printable(&self.disk), size(self.layout.image_bytes));
        write!(f, "{disk}  {bytes}, {}", DiskTable(&self.layout))?;
        match self.unused_bytes {
            0 => Ok(()),
            bytes => write!(f, "\nfilesystems do not use {}", size(bytes)),
        }
    }
}
