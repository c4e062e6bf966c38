//! Pushes an image: reads, cuts, asks what the repository lacks, sends that, commits.

mod resend;
mod session;
mod spool;
mod stream;
mod transfer;

use std::{collections::BTreeMap, collections::HashSet, sync::Arc};

use imprint_content::{
    CaptureMode, ContentRecord, ImageName, NodeId, ObjectId, Profile, Ref, TagName, tree::TreeBuilder,
};
use imprint_proto::{Kind, v1};

use crate::{
    DiskLayout, Error, Phase, Progress, Repository, Version,
    disk::Cutting,
    extents::ExtentMap,
    ingest::{Base, Pieces},
    source::{Source, SourceKind},
};

use session::{Commit, Session};
use spool::Prepared;

/// Bases that are tried until one is not removed meanwhile: a repository that answers wrongly must not keep us for ever.
const MAX_BASES: usize = 16;

/// Optional behaviour of a push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// What the user says about the version.
    pub message: String,
    /// The user's own names and values.
    pub labels: BTreeMap<String, String>,
    /// Tags to set to the version.
    pub tags: Vec<TagName>,
    /// Who pushes.
    pub who: String,
    /// What becomes of space that filesystems do not use.
    pub capture_mode: CaptureMode,
}

/// What a push did.
#[derive(Debug, Clone)]
pub struct PushOutcome {
    /// The version it made.
    pub version: Version,
    /// Number of the version it was compared with.
    pub base: Option<u64>,
    /// Length of the image.
    pub image_bytes: u64,
    /// Bytes in data extents.
    pub data_bytes: u64,
    /// Data extents.
    pub chunks: u64,
    /// Chunks that were sent.
    pub new_chunks: u64,
    /// Their bytes before compression.
    pub new_bytes: u64,
    /// Their bytes after compression.
    pub sent_bytes: u64,
    /// Tree nodes that were sent.
    pub new_nodes: u64,
    /// Their bytes before compression.
    pub node_bytes: u64,
    /// Bytes of data that were captured although no filesystem uses them.
    pub unused_bytes: u64,
}

/// Pushes `source` as the next version of `image`, compared with the newest one. Durable when it returns.
///
/// # Errors
/// Nothing was committed, except when only the answer to the commit was lost.
pub async fn push(
    repository: &Repository,
    source: Source,
    image: &ImageName,
    options: PushOptions,
    progress: Arc<Progress>,
) -> Result<PushOutcome, Error> {
    let profile = choose_profile(repository)?;
    if options.capture_mode == CaptureMode::Omit && profile.min_file_run.is_none() {
        return Err(Error::Unsupported(format!(
            "free space cannot be left out: this repository cuts by profile {}, which does not look at disks",
            profile.number
        )));
    }
    // Limits are checked before hours of reading, not after.
    let draft = ContentRecord {
        sector_size: source.sector_size(),
        capture_mode: options.capture_mode,
        message: options.message,
        labels: options.labels,
        ..ContentRecord::new(NodeId::from_bytes([0; 32]), 0, profile)
    };
    draft.check_limits().map_err(|error| Error::Unsupported(error.to_string()))?;
    let (source, plain) = match (source.kind(), profile.min_file_run) {
        (SourceKind::Stream, Some(_)) => {
            match spool::prepare(source, repository.trees().spool_directory(), &progress).await? {
                Prepared::Spooled(source) => (source, None),
                Prepared::Plain(source, layout) => (source, Some(layout)),
            }
        }
        _ => (source, None),
    };
    let stamp = source.stamp()?;
    progress.begin(Phase::Preparing, source.length().unwrap_or(0));
    let (cutting, layout) = match plain {
        Some(layout) => (Cutting::undivided(profile), Some(layout)),
        None => Cutting::of_push(&source, profile, options.capture_mode).await?,
    };
    let (mut session, base, damaged) = open_on_newest(repository, image, profile, &progress).await?;
    progress.enter(Phase::Transferring);
    let base_extents = base.as_ref().map(|(_, extents)| extents);
    let known_nodes = nodes_of(base_extents, &damaged)?;
    let base_of_pieces = base_extents.map(|extents| Base { extents: extents.clone(), damaged: Arc::new(damaged) });
    let pieces = Pieces::read(&source, &cutting, base_of_pieces.as_ref(), &progress);
    let extents = session.send_pieces(pieces, known_nodes, repository.trees().spool_directory()).await?;
    source.unchanged_since(&stamp)?;
    progress.enter(Phase::Finishing);
    let content = ContentRecord {
        root: extents.root().id,
        length: extents.length(),
        base: base.as_ref().map(|(version, _)| version.id),
        layout: layout.map_or_else(Vec::new, |layout| DiskLayout { image_bytes: extents.length(), ..layout }.encode()),
        ..draft
    };
    let commit = Commit { content: &content, tags: &options.tags, who: &options.who };
    let version = resend::commit(&mut session, commit, &source, &extents).await?;
    repository.trees().store(&extents);
    Ok(PushOutcome {
        base: base.map(|(version, _)| version.number),
        image_bytes: extents.length(),
        data_bytes: extents.root().summary.data,
        unused_bytes: progress.unused_bytes(),
        ..session.outcome(version)
    })
}

fn choose_profile(repository: &Repository) -> Result<Profile, Error> {
    let number = repository.description().default_profile;
    let profile = u16::try_from(number).ok().and_then(|number| Profile::from_number(number).ok());
    profile.ok_or_else(|| {
        Error::Unsupported(format!("the repository cuts by profile {number}, which this imprint does not know"))
    })
}

/// An upload, the version it is based on with its extents, and what the repository has lost of that.
type OpenedOnBase<'a> = (Session<'a>, Option<(Version, ExtentMap)>, HashSet<ObjectId>);

/// Opens an upload on the newest version. If that is removed before it is open, on the one that is the newest then.
async fn open_on_newest<'a>(
    repository: &'a Repository,
    image: &ImageName,
    profile: Profile,
    progress: &Arc<Progress>,
) -> Result<OpenedOnBase<'a>, Error> {
    for _ in 1..MAX_BASES {
        match try_open_on_newest(repository, image, profile, progress).await {
            Err(error) if error.kind() == Kind::NotFound => {}
            opened => return opened,
        }
    }
    try_open_on_newest(repository, image, profile, progress).await
}

async fn try_open_on_newest<'a>(
    repository: &'a Repository,
    image: &ImageName,
    profile: Profile,
    progress: &Arc<Progress>,
) -> Result<OpenedOnBase<'a>, Error> {
    let base = find_base(repository, image, profile, progress).await?;
    let open = v1::OpenUpload {
        image: image.to_string(),
        upload_id: bytes::Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes()),
        base: base.as_ref().map(|(version, _)| version.key()),
        profile: profile.number.into(),
    };
    let (session, damaged) = Session::open(repository, open, progress).await?;
    Ok((session, base, damaged))
}

/// The newest version and its extents, if there is one that was cut by the same profile.
async fn find_base(
    repository: &Repository,
    image: &ImageName,
    profile: Profile,
    progress: &Progress,
) -> Result<Option<(Version, ExtentMap)>, Error> {
    let newest = Ref::latest(image.clone());
    let version = match repository.retrying(progress, || repository.version(&newest)).await {
        Ok(version) => version,
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if version.content.profile != profile.number {
        return Ok(None);
    }
    match repository.tree(&version, None, progress).await {
        Ok(extents) => Ok(Some((version, extents))),
        // A damaged base is no base: everything is asked about, and what is missing is sent again.
        Err(error) if error.kind() == Kind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

/// The nodes of the base's tree, computed from its extents.
fn nodes_of(extents: Option<&ExtentMap>, damaged: &HashSet<ObjectId>) -> Result<HashSet<NodeId>, Error> {
    let mut nodes = HashSet::new();
    let Some(extents) = extents else { return Ok(nodes) };
    let (mut tree, mut finished) = (TreeBuilder::new(), Vec::new());
    let mut cursor = extents.cursor_at(0)?;
    while let Some(placed) = cursor.read()? {
        tree.push(placed.extent, &mut finished);
        nodes.extend(finished.drain(..).map(|node| node.id));
    }
    let _ = tree.finish(&mut finished);
    nodes.extend(finished.drain(..).map(|node| node.id));
    nodes.retain(|id| !damaged.contains(&(*id).into()));
    Ok(nodes)
}
