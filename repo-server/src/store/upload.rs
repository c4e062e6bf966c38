//! One upload: what to send, what was received, and the commit that makes it a version.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use imprint_content::{ChunkId, ContentRecord, NodeId, ObjectId, Payload, Profile, TagName, VersionId};
use imprint_proto::limits::MAX_DAMAGED_IDS;

use crate::{
    Error,
    catalog::{BaseRecord, NewVersion, UploadRecord, UploadState, UploadUse, VersionRecord},
    clock::now_unix_ms,
    pack::Purpose,
};

use super::{
    Store,
    closure::{ClosureCheck, Missing},
    pack_writer::{PackWriter, Sealed},
};

/// Objects that a client may have been told to send and has not sent, or that are not sealed yet. About 150 bytes each
/// with their entry in an open pack. Where they are that small, packs are sealed early.
const MAX_UNSEALED: usize = 256 << 10;

/// What a client asks to be committed.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The content record as the client encoded it.
    pub content_record: Bytes,
    /// Tags to set to the version in the same step.
    pub tags: Vec<TagName>,
    /// Who pushed, as the client says.
    pub who: String,
}

/// What a commit came to.
#[derive(Debug, Clone)]
pub enum UploadOutcome {
    /// It is a version now, and durable.
    Committed(Box<VersionRecord>),
    /// Nothing was decided: send these and commit again.
    Missing(Missing),
}

/// An upload in progress.
pub struct Upload {
    store: Store,
    pub(super) record: UploadRecord,
    base: Option<BaseRecord>,
    /// Until a node was missing: a base that lost one may have lost what is below it too, even when it is sent again.
    base_vouches: bool,
    profile: Profile,
    chunks: PackWriter,
    nodes: PackWriter,
    /// Asked for or received, and not in a sealed pack yet.
    unsealed: HashSet<ObjectId>,
    max_unsealed: usize,
    new_stored_bytes: u64,
    /// Damaged objects when it was opened.
    damaged: Vec<ObjectId>,
    _in_use: UploadUse,
}

impl Store {
    /// Opens an upload, or finds that it was committed before.
    pub async fn open_upload(
        &self,
        record: UploadRecord,
        profile: Profile,
    ) -> Result<Result<Upload, VersionRecord>, Error> {
        // Before it is opened, so that it does not expire in between.
        let in_use = self.catalog.use_upload(record.id);
        let base = match self.catalog.open_upload(record.clone()).await? {
            UploadState::Committed(version) => return Ok(Err(*version)),
            UploadState::Open { base } => base.map(|base| *base),
        };
        let damaged = match base {
            Some(_) => self.damaged_objects().await?,
            None => Vec::new(),
        };
        let writer = |purpose| {
            PackWriter::new(self.repository, self.packs.clone(), self.catalog.clone(), Some(record.id), purpose)
        };
        Ok(Ok(Upload {
            store: self.clone(),
            base,
            base_vouches: true,
            profile,
            chunks: writer(Purpose::Chunks),
            nodes: writer(Purpose::Nodes),
            unsealed: HashSet::new(),
            max_unsealed: MAX_UNSEALED,
            new_stored_bytes: 0,
            damaged,
            _in_use: in_use,
            record,
        }))
    }

    /// As many as an answer has room for. What is not among them the commit finds missing: it trusts no base then.
    async fn damaged_objects(&self) -> Result<Vec<ObjectId>, Error> {
        let damage = self.catalog.unhealed_damage(MAX_DAMAGED_IDS).await?;
        // One object may be damaged in several packs.
        let distinct: BTreeSet<ObjectId> = damage.into_iter().map(|object| object.id).collect();
        Ok(distinct.into_iter().collect())
    }
}

impl Upload {
    /// What was damaged, and not healed, when it was opened: the base may lack it. At most [`MAX_DAMAGED_IDS`] of it, and
    /// nothing without a base.
    #[must_use]
    pub fn damaged(&self) -> &[ObjectId] {
        &self.damaged
    }

    /// For each id of one kind whether the client shall send it. What it need not send is held until the upload ends.
    pub async fn ask(&mut self, kind: Purpose, ids: Vec<ObjectId>) -> Result<Vec<bool>, Error> {
        self.make_room(ids.len()).await?;
        let locations = self.store.catalog.locate_and_hold(self.record.id, kind, ids.clone()).await?;
        Ok(ids.iter().zip(locations).map(|(id, found)| found.is_none() && self.unsealed.insert(*id)).collect())
    }

    /// Seals early where objects are so small that their ids would take more memory than their bytes.
    async fn make_room(&mut self, objects: usize) -> Result<(), Error> {
        if self.unsealed.len() + objects <= self.max_unsealed {
            return Ok(());
        }
        self.seal().await?;
        if self.unsealed.len() + objects > self.max_unsealed {
            let why = format!("more than {} objects were asked about and not sent", self.max_unsealed);
            return Err(Error::BadRequest(why));
        }
        Ok(())
    }

    /// Stores objects that [`check`] accepted, in their order.
    pub async fn store(&mut self, purpose: Purpose, objects: Vec<(ObjectId, Payload)>) -> Result<(), Error> {
        for (id, payload) in objects {
            if !self.unsealed.contains(&id) {
                self.make_room(1).await?;
                self.unsealed.insert(id);
            }
            let sealed = match purpose {
                Purpose::Chunks => self.chunks.append(id, &payload).await?,
                Purpose::Nodes => self.nodes.append(id, &payload).await?,
            };
            self.settle(sealed);
        }
        Ok(())
    }

    /// Makes everything received durable. Called before a commit, and when a client goes away, so that it need not
    /// send again what it sent.
    pub async fn seal(&mut self) -> Result<(), Error> {
        let (chunks, nodes) = tokio::join!(self.chunks.seal_all(), self.nodes.seal_all());
        self.settle(chunks?);
        self.settle(nodes?);
        Ok(())
    }

    /// Seals, checks the tree's closure and commits. Durable when it returns a version.
    pub async fn commit(&mut self, request: CommitRequest) -> Result<UploadOutcome, Error> {
        let content = ContentRecord::decode(&request.content_record).map_err(Error::BadMessage)?;
        self.check_record(&content)?;
        let id = content.id();
        match self.check_and_commit(content, request).await {
            Err(error) => self.committed_meanwhile(id).await.ok_or(error),
            outcome => outcome,
        }
    }

    /// Another stream of the same upload may have committed the same: then that is the answer, as for a repetition.
    async fn committed_meanwhile(&mut self, id: VersionId) -> Option<UploadOutcome> {
        match self.store.catalog.open_upload(self.record.clone()).await {
            Ok(UploadState::Committed(version)) if version.id == id => Some(UploadOutcome::Committed(version)),
            _ => None,
        }
    }

    async fn check_and_commit(
        &mut self,
        content: ContentRecord,
        request: CommitRequest,
    ) -> Result<UploadOutcome, Error> {
        self.seal().await?;
        // What is damaged may be below any node of the base.
        let catalog = &self.store.catalog;
        let is_healthy = !catalog.are_trees_in_doubt().await? && catalog.unhealed_damage(1).await?.is_empty();
        let base = self.base.as_ref().filter(|_| self.base_vouches && is_healthy).map(|base| base.root);
        let check = ClosureCheck::new(&self.store.nodes, &*self.store.catalog, self.record.id, base).await;
        let totals = match check.run(content.root).await? {
            Ok(totals) => totals,
            Err(missing) => {
                self.base_vouches &= missing.nodes.is_empty();
                return Ok(UploadOutcome::Missing(missing));
            }
        };
        if totals.length != content.length {
            return Err(Error::BadRequest(format!(
                "the record says {} bytes, the tree has {}",
                content.length, totals.length
            )));
        }
        let version = NewVersion {
            upload: self.record.id,
            image: self.record.image.clone(),
            content,
            tags: request.tags,
            committed_unix_ms: now_unix_ms(),
            who: request.who,
            data_bytes: totals.data,
            new_chunks: self.chunks.appended(),
            new_stored_bytes: self.new_stored_bytes,
        };
        Ok(UploadOutcome::Committed(Box::new(self.store.catalog.commit(version).await?)))
    }

    /// For tests, which do not send a quarter of a million objects.
    #[cfg(test)]
    pub(super) const fn limit_unsealed(&mut self, objects: usize) {
        self.max_unsealed = objects;
    }

    fn check_record(&self, content: &ContentRecord) -> Result<(), Error> {
        if content.profile != self.profile.number {
            return Err(Error::BadRequest("the record names another profile than the upload".into()));
        }
        let base = self.base.as_ref().map(|base| base.id);
        if content.base.is_some() && content.base != base {
            return Err(Error::BadRequest("the record names another base than the upload".into()));
        }
        Ok(())
    }

    fn settle(&mut self, sealed: Sealed) {
        self.new_stored_bytes += sealed.bytes;
        for id in sealed.objects {
            self.unsealed.remove(&id);
        }
    }
}

/// Decodes a received object and hashes it: the server believes no client.
///
/// # Errors
/// [`Error::WrongBytes`], or [`Error::BadRequest`] when it cannot be decoded or is no node.
pub fn check(purpose: Purpose, id: ObjectId, payload: &Payload, scratch: &mut Vec<u8>) -> Result<(), Error> {
    payload.decode_into(scratch).map_err(|error| Error::BadRequest(format!("object {id}: {error}")))?;
    let actual: ObjectId = match purpose {
        Purpose::Chunks => ChunkId::of(scratch).into(),
        Purpose::Nodes => {
            imprint_content::tree::Node::decode(scratch).map_err(Error::BadMessage)?;
            NodeId::of(scratch).into()
        }
    };
    if actual == id { Ok(()) } else { Err(Error::WrongBytes(id)) }
}
