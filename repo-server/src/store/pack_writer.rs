//! Writes the packs of one upload, or of a collection that repacks: one after the other, in the order in which objects arrive.
//!
//! A full pack is sealed in the background while the next one fills. An object counts as stored once the pack that
//! has it is sealed and in the catalog; [`PackWriter::seal_all`] waits for that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use imprint_content::{ObjectId, Payload};
use tokio::task::JoinHandle;

use crate::{
    Error, PackId, RepositoryId, UploadId,
    catalog::Catalog,
    pack::{FinishedPack, PackBuilder, PackHeader, Purpose},
    storage::{PackSink, PackStorage},
};

/// Bytes collected before they are appended.
const APPEND_BYTES: usize = 1 << 20;
/// An open pack is sealed at this age, so that a slow push does not lose hours of work to a crash.
const MAX_OPEN: Duration = Duration::from_secs(120);
/// Packs of one upload that are being sealed at once.
const SEALS_IN_FLIGHT: usize = 2;

/// What became durable.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    pub(super) objects: Vec<ObjectId>,
    pub(super) bytes: u64,
}

/// Writes packs of one purpose.
pub(super) struct PackWriter {
    repository: RepositoryId,
    packs: Arc<dyn PackStorage>,
    catalog: Arc<dyn Catalog>,
    /// Holds what is sealed; a collection needs no hold, because what is added is stamped for its mark.
    holder: Option<UploadId>,
    purpose: Purpose,
    appended: u64,
    open: Option<OpenPack>,
    sealing: FuturesUnordered<JoinHandle<Result<Sealed, Error>>>,
}

struct OpenPack {
    builder: PackBuilder,
    sink: Box<dyn PackSink>,
    buffer: Vec<u8>,
    opened: Instant,
}

impl PackWriter {
    pub(super) fn new(
        repository: RepositoryId,
        packs: Arc<dyn PackStorage>,
        catalog: Arc<dyn Catalog>,
        holder: Option<UploadId>,
        purpose: Purpose,
    ) -> Self {
        Self { repository, packs, catalog, holder, purpose, appended: 0, open: None, sealing: FuturesUnordered::new() }
    }

    /// Records written so far; an object that was sent again to the pack that has it is none.
    pub(super) const fn appended(&self) -> u64 {
        self.appended
    }

    /// Appends an object, unless the open pack has it already. Returns what was sealed meanwhile.
    ///
    /// # Errors
    /// After an error the upload must end; packs sealed before it stay.
    pub(super) async fn append(&mut self, id: ObjectId, payload: &Payload) -> Result<Sealed, Error> {
        let mut sealed = Sealed::default();
        let is_done =
            |open: &OpenPack| !open.builder.has_room(payload.stored.len()) || open.opened.elapsed() > MAX_OPEN;
        if let Some(full) = self.open.take_if(|open| is_done(open)) {
            sealed = self.start_sealing(full).await?;
        }
        if self.open.is_none() {
            self.open = Some(self.create().await?);
        }
        let Some(open) = &mut self.open else { return Ok(sealed) };
        if open.builder.contains(&id) {
            return Ok(sealed);
        }
        open.builder.push(id, payload, &mut open.buffer);
        self.appended += 1;
        if open.buffer.len() >= APPEND_BYTES {
            let full = std::mem::replace(&mut open.buffer, Vec::with_capacity(APPEND_BYTES + (256 << 10)));
            open.sink.append(full.into()).await?;
        }
        Ok(sealed)
    }

    /// Seals the open pack and waits until everything appended so far is durable and in the catalog.
    pub(super) async fn seal_all(&mut self) -> Result<Sealed, Error> {
        let mut sealed = Sealed::default();
        if let Some(open) = self.open.take() {
            sealed = self.start_sealing(open).await?;
        }
        while !self.sealing.is_empty() {
            sealed.add(self.next_sealed().await?);
        }
        Ok(sealed)
    }

    async fn create(&mut self) -> Result<OpenPack, Error> {
        let header = PackHeader { repository: self.repository, pack: PackId::random(), purpose: self.purpose };
        let sink = self.packs.create(header.pack).await?;
        Ok(OpenPack { builder: PackBuilder::new(header), sink, buffer: Vec::new(), opened: Instant::now() })
    }

    async fn start_sealing(&mut self, open: OpenPack) -> Result<Sealed, Error> {
        let mut sealed = Sealed::default();
        while self.sealing.len() >= SEALS_IN_FLIGHT {
            sealed.add(self.next_sealed().await?);
        }
        let (catalog, holder) = (Arc::clone(&self.catalog), self.holder);
        self.sealing.push(tokio::spawn(seal(open, catalog, holder)));
        Ok(sealed)
    }

    async fn next_sealed(&mut self) -> Result<Sealed, Error> {
        match self.sealing.next().await {
            Some(Ok(result)) => result,
            Some(Err(stopped)) => Err(Error::TaskFailed { what: "sealing a pack", why: stopped.to_string() }),
            None => Ok(Sealed::default()),
        }
    }
}

impl Sealed {
    fn add(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.bytes += other.bytes;
    }
}

/// Durable first, known second: the catalog never names bytes that a crash could take.
async fn seal(open: OpenPack, catalog: Arc<dyn Catalog>, holder: Option<UploadId>) -> Result<Sealed, Error> {
    let OpenPack { builder, mut sink, mut buffer, .. } = open;
    let FinishedPack { record, objects } = builder.finish(&mut buffer);
    sink.append(Bytes::from(buffer)).await?;
    sink.seal().await?;
    let sealed = Sealed { objects: objects.iter().map(|(id, _)| *id).collect(), bytes: record.bytes };
    catalog.add_pack(record, objects, holder).await?;
    Ok(sealed)
}
