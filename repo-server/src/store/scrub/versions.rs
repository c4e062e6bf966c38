//! Which versions need what is not there.
//!
//! Each node is looked at once, whichever trees have it: what is wrong below it is counted once and added wherever it is
//! met, so that trees that share cost what differs, also where damage is in what they share.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use imprint_content::{
    Extent, NodeId, ObjectId, Selector,
    tree::{Child, Node},
};
use tracing::warn;

use super::{
    ScrubControl, ScrubPhase,
    report::{DamagedVersion, ScrubFinding},
};
use crate::{
    Error, PackId,
    catalog::{Catalog, Damage, Location, Root, RootKind, VersionKey, VersionRecord},
    clock::now_unix_ms,
    pack::Purpose,
    store::{Store, reclaim::Marks},
};

/// What is wrong below a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Below {
    chunks: u64,
    nodes: u64,
    bytes: u64,
    /// Where the first of it is, from where the node starts.
    first: Option<u64>,
}

impl Below {
    const fn node(bytes: u64) -> Self {
        Self { chunks: 0, nodes: 1, bytes, first: Some(0) }
    }

    /// Adds what is wrong below a child that starts at `offset`.
    fn add(&mut self, other: Self, offset: u64) {
        self.chunks = self.chunks.saturating_add(other.chunks);
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.first = self.first.or(other.first.map(|first| first.saturating_add(offset)));
    }
}

/// What walking all versions came to.
#[derive(Debug, Default)]
pub(in crate::store) struct WalkedVersions {
    pub(in crate::store) versions: u64,
    pub(in crate::store) damaged: u64,
    /// Objects that a tree needs, that are there, and of which the catalog that is compared knows no place.
    pub(in crate::store) lacking: u64,
    /// Likewise, but it knows that they were found damaged, elsewhere.
    pub(in crate::store) lost: u64,
    /// Why that catalog cannot be compared.
    pub(in crate::store) unreadable: Option<Error>,
}

/// A catalog that should know where everything is that a version needs.
pub(in crate::store) struct Compared<'a> {
    catalog: &'a dyn Catalog,
    known: Option<Known>,
    lacking: HashSet<ObjectId>,
    lost: HashSet<ObjectId>,
    unreadable: Option<Error>,
}

struct Known {
    packs: HashSet<PackId>,
    damaged: HashSet<ObjectId>,
}

impl<'a> Compared<'a> {
    pub(in crate::store) fn new(catalog: &'a dyn Catalog) -> Self {
        Self { catalog, known: None, lacking: HashSet::new(), lost: HashSet::new(), unreadable: None }
    }

    async fn compare(&mut self, kind: Purpose, here: &[(ObjectId, Location)]) {
        if self.unreadable.is_none() {
            self.unreadable = self.try_compare(kind, here).await.err();
        }
    }

    /// Not in packs that the catalog does not know: opening adds those.
    async fn try_compare(&mut self, kind: Purpose, here: &[(ObjectId, Location)]) -> Result<(), Error> {
        let known = match &mut self.known {
            Some(known) => known,
            unknown => unknown.insert(Known::by(self.catalog).await?),
        };
        let places = self.catalog.locate(kind, here.iter().map(|(id, _)| *id).collect()).await?;
        let nowhere = here.iter().zip(places).filter(|(_, place)| place.is_none()).map(|(here, _)| here);
        for (id, _) in nowhere.filter(|(_, at)| known.packs.contains(&at.pack)) {
            let found = if known.damaged.contains(id) { &mut self.lost } else { &mut self.lacking };
            found.insert(*id);
        }
        Ok(())
    }
}

impl Known {
    async fn by(catalog: &dyn Catalog) -> Result<Self, Error> {
        let packs = catalog.packs().await?.into_iter().map(|pack| pack.id).collect();
        let damaged = catalog.unhealed_damage(usize::MAX).await?.into_iter().map(|it| it.id).collect();
        Ok(Self { packs, damaged })
    }
}

/// Walks the tree of each of these roots that is a version's, and tells of those that need what is not there. Versions are
/// looked up in the store's catalog, and then in `also`. What is there is looked up in `compared`.
pub(in crate::store) async fn walk_versions(
    store: &Store,
    also: Option<&dyn Catalog>,
    compared: Option<Compared<'_>>,
    roots: &[Root],
    control: &ScrubControl,
    found: &(dyn Fn(ScrubFinding) + Send + Sync),
) -> Result<WalkedVersions, Error> {
    let mut roots: Vec<&Root> = roots.iter().filter(|root| root.kind != RootKind::Base).collect();
    roots.sort_by_key(|root| (root.version.image.clone(), root.version.number));
    control.begin(ScrubPhase::Trees, roots.len() as u64);
    let mut walk = VersionWalk { store, control, visited: Marks::default(), damaged: HashMap::new(), compared };
    let mut outcome = WalkedVersions { versions: roots.len() as u64, ..Default::default() };
    for root in roots {
        if let Some(below) = walk.version(root.node).await?
            && let Some(version) = damaged_version(store, also, root, below).await?
        {
            outcome.damaged += 1;
            found(ScrubFinding::Version(version));
        }
        control.advance(1);
    }
    if let Some(compared) = walk.compared {
        (outcome.lacking, outcome.lost) = (compared.lacking.len() as u64, compared.lost.len() as u64);
        outcome.unreadable = compared.unreadable;
    }
    Ok(outcome)
}

/// `None` when the version was given up since its tree was listed: a collection may have taken what it needed.
async fn damaged_version(
    store: &Store,
    also: Option<&dyn Catalog>,
    root: &Root,
    below: Below,
) -> Result<Option<DamagedVersion>, Error> {
    let found = match (find_version(store.catalog(), root).await?, also) {
        (None, Some(also)) => find_version(also, root).await?,
        (found, _) => found,
    };
    let Some((version, is_removed)) = found else { return Ok(None) };
    let bytes = if below == Below::node(0) { version.data_bytes } else { below.bytes };
    Ok(Some(DamagedVersion {
        version: root.version.clone(),
        is_removed,
        chunks: below.chunks,
        nodes: below.nodes,
        bytes,
        first_offset: below.first.unwrap_or(0),
    }))
}

async fn find_version(catalog: &dyn Catalog, root: &Root) -> Result<Option<(VersionRecord, bool)>, Error> {
    let VersionKey { image, number } = root.version.clone();
    match catalog.version(image.clone(), Selector::Number(number)).await {
        Ok(version) => return Ok(Some((version, false))),
        Err(Error::VersionNotFound { .. }) => {}
        Err(Error::ImageNotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    }
    let before = VersionKey { image: image.clone(), number: number.saturating_sub(1) };
    let removed = catalog.removed_versions(Some(image), Some(before), 1).await?;
    let same = removed.into_iter().map(|removed| removed.version).find(|it| it.number == number);
    Ok(same.map(|version| (version, true)))
}

struct VersionWalk<'a> {
    store: &'a Store,
    control: &'a ScrubControl,
    /// Nodes that were walked with all below them.
    visited: Marks,
    /// Those of them, and those that cannot be read, below which something is wrong.
    damaged: HashMap<NodeId, Below>,
    compared: Option<Compared<'a>>,
}

/// A node that is being walked.
struct Frame {
    id: NodeId,
    node: Arc<Node>,
    /// Where its parent has it.
    offset: u64,
    /// Children that were not walked before.
    new: HashMap<NodeId, Arc<Node>>,
    /// The next child, and where it starts.
    next: (usize, u64),
    below: Below,
}

impl VersionWalk<'_> {
    /// What is wrong with the tree of a version.
    async fn version(&mut self, root: NodeId) -> Result<Option<Below>, Error> {
        let mut new = self.load(&[(root, 0)]).await?;
        if let Some(node) = new.remove(&root) {
            self.walk(root, node).await?;
        }
        Ok(self.damaged.get(&root).copied())
    }

    async fn walk(&mut self, root: NodeId, node: Arc<Node>) -> Result<(), Error> {
        let mut stack = vec![self.frame(root, node, 0).await?];
        while let Some(frame) = stack.last_mut() {
            let Some(child) = frame.next_child() else {
                let Frame { id, offset, below, .. } = *frame;
                stack.pop();
                if below.first.is_some() {
                    self.damaged.insert(id, below);
                    if let Some(parent) = stack.last_mut() {
                        parent.below.add(below, offset);
                    }
                }
                continue;
            };
            let (Child { id, summary }, offset) = child;
            match frame.new.remove(&id) {
                Some(node) => {
                    if node.summary() != summary || node.level() + 1 != frame.node.level() {
                        // Not what this parent says. That costs whoever restores through this parent.
                        frame.below.add(Below::node(0), offset);
                    }
                    let below = self.frame(id, node, offset).await?;
                    stack.push(below);
                }
                None => {
                    if let Some(below) = self.damaged.get(&id) {
                        frame.below.add(*below, offset);
                    }
                }
            }
        }
        Ok(())
    }

    async fn frame(&mut self, id: NodeId, node: Arc<Node>, offset: u64) -> Result<Frame, Error> {
        self.control.expect_going_on()?;
        let (mut new, mut below) = (HashMap::new(), Below::default());
        match &*node {
            Node::Leaf(extents) => below = self.leaf(extents).await?,
            Node::Inner { children, .. } => {
                let children: Vec<_> = children.iter().map(|child| (child.id, child.summary.data)).collect();
                new = self.load(&children).await?;
            }
        }
        Ok(Frame { id, node, offset, new, next: (0, 0), below })
    }

    /// Chunks that are located nowhere, or that are not as long as the tree says.
    async fn leaf(&mut self, extents: &[Extent]) -> Result<Below, Error> {
        let ids: Vec<ObjectId> = extents.iter().filter_map(|extent| extent.chunk().map(ObjectId::from)).collect();
        let locations = self.store.catalog().locate(Purpose::Chunks, ids.clone()).await?;
        if let Some(compared) = &mut self.compared {
            let here: Vec<_> = ids.into_iter().zip(&locations).filter_map(|(id, at)| Some((id, (*at)?))).collect();
            compared.compare(Purpose::Chunks, &here).await;
        }
        let mut locations = locations.into_iter();
        let (mut below, mut offset) = (Below::default(), 0);
        for extent in extents {
            if extent.chunk().is_some() {
                let length = locations.next().flatten().map(|location| u64::from(location.raw_length));
                if length != Some(extent.length) {
                    below.add(Below { chunks: 1, nodes: 0, bytes: extent.length, first: Some(0) }, offset);
                }
            }
            offset = offset.saturating_add(extent.length);
        }
        Ok(below)
    }

    /// Those of these nodes that were not walked before. Those that cannot be read are noted as damaged, with the bytes
    /// that are said to be below them.
    async fn load(&mut self, nodes: &[(NodeId, u64)]) -> Result<HashMap<NodeId, Arc<Node>>, Error> {
        let ids: Vec<ObjectId> = nodes.iter().map(|(id, _)| (*id).into()).collect();
        let locations = self.store.catalog().locate(Purpose::Nodes, ids.clone()).await?;
        let (mut wanted, mut places) = (Vec::new(), HashMap::new());
        for ((id, location), (node, bytes)) in ids.into_iter().zip(locations).zip(nodes) {
            match location {
                Some(location) => {
                    if self.visited.insert(&location)? {
                        places.insert(*node, *bytes);
                        wanted.push((id, location));
                    }
                }
                None => _ = self.damaged.insert(*node, Below::node(*bytes)),
            }
        }
        if let Some(compared) = &mut self.compared {
            compared.compare(Purpose::Nodes, &wanted).await;
        }
        let read = self.read(wanted).await?;
        for (node, bytes) in places {
            if !read.contains_key(&node) {
                self.damaged.insert(node, Below::node(bytes));
            }
        }
        Ok(read)
    }

    async fn read(&self, wanted: Vec<(ObjectId, Location)>) -> Result<HashMap<NodeId, Arc<Node>>, Error> {
        match self.store.nodes.located(wanted.clone()).await {
            Ok(nodes) => return Ok(nodes.into_iter().collect()),
            Err(error) if is_damage(&error) => {}
            Err(error) => return Err(error),
        }
        // One of them is damaged: find out which.
        let mut intact = HashMap::new();
        for (id, location) in wanted {
            match self.store.nodes.located(vec![(id, location)]).await {
                Ok(nodes) => intact.extend(nodes),
                Err(error) if is_damage(&error) => self.quarantine(id, &location, &error).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(intact)
    }

    /// A node that went bad since its pack was verified.
    async fn quarantine(&self, id: ObjectId, at: &Location, error: &Error) -> Result<(), Error> {
        warn!(pack = %at.pack, %error, "a node cannot be read");
        let why = error.to_string();
        let damage =
            Damage { pack: at.pack, kind: Purpose::Nodes, objects: vec![id], why, found_unix_ms: now_unix_ms() };
        self.store.catalog().quarantine(damage).await.map(drop)
    }
}

impl Frame {
    fn next_child(&mut self) -> Option<(Child, u64)> {
        let Node::Inner { children, .. } = &*self.node else { return None };
        let (index, offset) = self.next;
        let child = *children.get(index)?;
        self.next = (index + 1, offset.saturating_add(child.summary.length));
        Some((child, offset))
    }
}

const fn is_damage(error: &Error) -> bool {
    matches!(error, Error::RecordCorrupt { .. } | Error::PackMissing(_) | Error::ObjectMissing(_))
}
