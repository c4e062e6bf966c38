//! `imprint images`.

use clap::Args;
use imprint_client::Image;
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    failure::CliError,
    size::{count, size},
    table::{Align, Table},
    text::printable,
    time,
    version_document::VersionDocument,
};

/// List the images of the repository.
#[derive(Debug, Args)]
pub(crate) struct Images {}

impl Images {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let images: Vec<Item> = context.open().await?.images().await?.iter().map(Item::from).collect();
        context.output.listing("image", &images, table)?;
        if images.is_empty() {
            context.output.remark("no images yet: `imprint push SOURCE IMAGE` stores one");
        }
        Ok(Exit::Done)
    }
}

/// One image.
#[derive(Debug, Serialize)]
struct Item {
    name: String,
    versions: u64,
    newest: Option<VersionDocument>,
    tags: Vec<TagDocument>,
    #[serde(skip)]
    newest_cells: [String; 3],
}

/// One of its tags.
#[derive(Debug, Serialize)]
struct TagDocument {
    name: String,
    number: u64,
    counter: u64,
}

impl From<&Image> for Item {
    fn from(image: &Image) -> Self {
        let tag = |tag: &imprint_client::Tag| TagDocument {
            name: tag.name.clone(),
            number: tag.number,
            counter: tag.counter,
        };
        let newest_cells = image.newest.as_ref().map_or_else(Default::default, |newest| {
            [format!("@{}", newest.number), time::local(newest.committed_unix_ms), size(newest.content.length)]
        });
        Self {
            name: image.name.to_string(),
            versions: image.versions,
            newest: image.newest.as_ref().map(VersionDocument::from),
            tags: image.tags.iter().map(tag).collect(),
            newest_cells,
        }
    }
}

fn table(images: &[Item]) -> Table {
    let mut table = Table::new([
        ("IMAGE", Align::Left),
        ("VERSIONS", Align::Right),
        ("NEWEST", Align::Right),
        ("WHEN", Align::Left),
        ("SIZE", Align::Right),
        ("TAGS", Align::Left),
    ]);
    for image in images {
        let [newest, when, length] = image.newest_cells.clone();
        let tags: Vec<_> = image.tags.iter().map(|tag| format!("{}@{}", printable(&tag.name), tag.number)).collect();
        table.row([image.name.clone(), count(image.versions), newest, when, length, tags.join(" ")]);
    }
    table
}
