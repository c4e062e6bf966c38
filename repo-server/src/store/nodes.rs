//! Reads tree nodes: located, fetched, checked against their ids, decoded, cached.

use std::{collections::HashMap, sync::Arc};

use imprint_content::{NodeId, ObjectId, tree::Node};

use crate::{
    Error,
    blocking::Blocking,
    catalog::{Catalog, Location},
    pack::{Purpose, decode_record},
    storage::PackStorage,
};

use super::fetch::{ReadPlan, plan_reads, read_where_it_is};

/// Decoded nodes kept in memory, in entries of about 50 bytes: at most some 25 MB.
const CACHED_ENTRIES: u64 = 500_000;

/// Reads nodes of any tree. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct NodeReader {
    packs: Arc<dyn PackStorage>,
    catalog: Arc<dyn Catalog>,
    blocking: Blocking,
    cache: Arc<quick_cache::sync::Cache<NodeId, Arc<Node>, EntryWeight>>,
}

#[derive(Debug, Clone)]
struct EntryWeight;

impl quick_cache::Weighter<NodeId, Arc<Node>> for EntryWeight {
    fn weight(&self, _id: &NodeId, node: &Arc<Node>) -> u64 {
        8 + match &**node {
            Node::Leaf(extents) => extents.len() as u64,
            Node::Inner { children, .. } => children.len() as u64,
        }
    }
}

impl NodeReader {
    pub(super) fn new(packs: Arc<dyn PackStorage>, catalog: Arc<dyn Catalog>, blocking: Blocking) -> Self {
        let cache = quick_cache::sync::Cache::with_weighter(8192, CACHED_ENTRIES, EntryWeight);
        Self { packs, catalog, blocking, cache: Arc::new(cache) }
    }

    /// One node.
    ///
    /// # Errors
    /// [`Error::ObjectMissing`] when no pack has it, [`Error::RecordCorrupt`] when its bytes are wrong.
    pub async fn node(&self, id: NodeId) -> Result<Arc<Node>, Error> {
        match self.nodes(&[id]).await?.remove(&id) {
            Some(node) => Ok(node),
            None => Err(Error::ObjectMissing(id.into())),
        }
    }

    /// Those of these nodes that a pack has and whose bytes are right.
    pub async fn intact(&self, ids: &[NodeId]) -> Result<HashMap<NodeId, Arc<Node>>, Error> {
        let found = self.nodes(ids).await;
        if !matches!(found, Err(Error::RecordCorrupt { .. } | Error::PackMissing(_))) {
            return found;
        }
        // One of them is damaged: find out which.
        let mut intact = HashMap::new();
        for id in ids {
            match self.nodes(&[*id]).await {
                Ok(nodes) => intact.extend(nodes),
                Err(Error::RecordCorrupt { .. } | Error::PackMissing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(intact)
    }

    /// Those of these nodes that a pack has.
    async fn nodes(&self, ids: &[NodeId]) -> Result<HashMap<NodeId, Arc<Node>>, Error> {
        let mut nodes = HashMap::with_capacity(ids.len());
        let mut wanted: Vec<ObjectId> = Vec::new();
        for id in ids {
            match self.cache.get(id) {
                Some(node) => drop(nodes.insert(*id, node)),
                None => wanted.push((*id).into()),
            }
        }
        if wanted.is_empty() {
            return Ok(nodes);
        }
        let locations = self.catalog.locate(Purpose::Nodes, wanted.clone()).await?;
        let located = wanted.iter().zip(locations).filter_map(|(id, location)| Some((*id, location?)));
        for read in plan_reads(located.collect()) {
            for node in self.read(read).await? {
                self.cache.insert(node.0, Arc::clone(&node.1));
                nodes.insert(node.0, node.1);
            }
        }
        Ok(nodes)
    }

    /// Nodes that were just located, in no order. They are not kept in the cache: whoever walks everything would drive out
    /// what others need.
    pub(super) async fn located(&self, nodes: Vec<(ObjectId, Location)>) -> Result<Vec<(NodeId, Arc<Node>)>, Error> {
        let mut found = Vec::with_capacity(nodes.len());
        let mut wanted = Vec::new();
        for (id, location) in nodes {
            let node = NodeId::from_slice(id.as_bytes()).and_then(|id| Some((id, self.cache.get(&id)?)));
            match node {
                Some(node) => found.push(node),
                None => wanted.push((id, location)),
            }
        }
        for read in plan_reads(wanted) {
            found.extend(self.read(read).await?);
        }
        Ok(found)
    }

    async fn read(&self, plan: ReadPlan<ObjectId>) -> Result<Vec<(NodeId, Arc<Node>)>, Error> {
        let reads = read_where_it_is(&*self.packs, &*self.catalog, Purpose::Nodes, plan).await?;
        let decode = move || {
            let records = reads.iter().flat_map(|(plan, bytes)| plan.records.iter().map(move |at| (plan, bytes, at)));
            records.map(|(plan, bytes, (id, location))| decode(id, location, &plan.slice(bytes, location))).collect()
        };
        self.blocking.run(decode).await
    }
}

fn decode(id: &ObjectId, location: &Location, record: &bytes::Bytes) -> Result<(NodeId, Arc<Node>), Error> {
    let corrupt = |why: String| Error::RecordCorrupt { pack: location.pack, offset: location.offset.into(), why };
    let (found, payload) = decode_record(Purpose::Nodes, record).map_err(|error| corrupt(error.to_string()))?;
    let raw = payload.decode().map_err(|error| corrupt(error.to_string()))?;
    let node_id = NodeId::of(&raw);
    if found != *id || ObjectId::from(node_id) != *id {
        return Err(corrupt(format!("it holds another node than {id}")));
    }
    let node = Node::decode(&raw).map_err(|error| corrupt(error.to_string()))?;
    Ok((node_id, Arc::new(node)))
}
