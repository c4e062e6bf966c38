//! Looks at a repository that nobody has open, as a whole, and changes nothing in it.
//!
//! The rule that must not be broken: nothing is written below the repository's directory, whatever state that is in. All
//! damage is evidence.
//!
//! The catalog is derived once more, from the journal and from what is intact in packs, in a directory of its own. With
//! that the trees of all versions are walked, and the repository's own catalog is compared with it. So a check also works
//! where the catalog is lost.

mod agreement;
mod journal;
mod packs;
mod report;
mod scratch;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use imprint_content::ImageName;

use super::{
    LookLock, Store,
    directory::{PACKS, read_superblock},
    scrub::{Compared, ScrubControl, ScrubFinding, walk_versions},
};
use crate::{
    Error, PackId, RepositoryId,
    blocking::Blocking,
    catalog::{Catalog, EmbeddedCatalog, MarkEnd, Root, RootKind, VersionKey, VersionRecord},
    files::Files,
    storage::LocalPacks,
};
use journal::CopiedJournal;
use packs::VerifiedPacks;
use scratch::Scratch;

pub use report::{CheckFinding, CheckReport, DamagedFile, Remedy};

/// Optional behaviour of a check.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Where the catalog is derived: some 80 bytes for each object, for as long as the check takes. Not in the repository.
    pub scratch: PathBuf,
    /// Memory for the derived catalog's cache, in bytes.
    pub cache_bytes: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { scratch: std::env::temp_dir(), cache_bytes: 32 << 20 }
    }
}

const JOURNAL: &str = "journal";
const CATALOG: &str = "catalog";
/// Packs that are read and verified at once. Each takes up to 64 MiB.
const READ_AHEAD: usize = 2;
/// Versions read from a catalog at once.
const PAGE: usize = 256;

type Tell<'a> = &'a (dyn Fn(CheckFinding) + Send + Sync);

/// Checks the repository in `dir`. Findings are told as they are found.
///
/// # Errors
/// [`Error::Locked`] when somebody has it open; [`Error::NoRepository`]; [`Error::Incompatible`]; [`Error::BadRequest`] for a
/// directory to derive the catalog in that is in the repository; what keeps the check
/// itself from being done. Damage is no error.
pub async fn check(
    dir: &Path,
    options: &CheckOptions,
    control: &ScrubControl,
    tell: Tell<'_>,
) -> Result<CheckReport, Error> {
    let lock = LookLock::take(dir)?;
    let mut checker = Checker { dir, tell, report: CheckReport::default() };
    if let Some(repository) = checker.repository()? {
        let scratch = Scratch::create(&options.scratch, dir)?;
        checker.everything(repository, &scratch, options, control).await?;
    }
    drop(lock);
    Ok(checker.report)
}

struct Checker<'a> {
    dir: &'a Path,
    tell: Tell<'a>,
    report: CheckReport,
}

impl Checker<'_> {
    fn damaged_file(&mut self, path: PathBuf, offset: Option<u64>, why: String, remedy: Remedy) {
        self.report.damaged_files += 1;
        self.report.advise(remedy);
        (self.tell)(CheckFinding::File(DamagedFile { path, offset, why }));
    }

    fn note(&self, text: String) {
        (self.tell)(CheckFinding::Note(text));
    }

    /// Which repository it is: from the superblock, or else from the journal.
    fn repository(&mut self) -> Result<Option<RepositoryId>, Error> {
        let files = Files::default();
        let journal = self.dir.join(JOURNAL);
        match read_superblock(&files, self.dir) {
            Ok(superblock) => return Ok(Some(superblock.repository)),
            Err(Error::FileCorrupt { path, why }) => self.damaged_file(path, None, why, Remedy::Backup),
            Err(error) => return Err(error),
        }
        match crate::catalog::journal::repository_in(&files, &journal) {
            Ok(repository) => Ok(Some(repository)),
            Err(Error::FileCorrupt { path, why }) => {
                self.damaged_file(path, Some(0), why, Remedy::Backup);
                Ok(None)
            }
            Err(Error::Io { .. }) => {
                self.damaged_file(journal, None, "it cannot be opened".into(), Remedy::Backup);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn everything(
        &mut self,
        repository: RepositoryId,
        scratch: &Scratch,
        options: &CheckOptions,
        control: &ScrubControl,
    ) -> Result<(), Error> {
        let blocking = Blocking::for_this_machine();
        let journal = self.journal(repository, scratch).await?;
        let derived = {
            let (path, blocking, cache) = (scratch.path().to_owned(), blocking.clone(), options.cache_bytes);
            let open = move || EmbeddedCatalog::open(&path, repository, blocking, &Files::default(), cache);
            Arc::new(Blocking::for_this_machine().run(open).await?)
        };
        let own = self.own_catalog(repository, scratch, &blocking, &journal).await?;
        self.note_unfinished_entry(&journal, own.as_ref()).await?;
        let packs = LocalPacks::open_to_look(self.dir.join(PACKS), blocking.clone(), Files::default());
        let store = Store::new(repository, Arc::new(packs), derived.clone(), blocking);
        let verified = self.packs(&store, &derived, control).await?;
        let places = match &own {
            Some(own) => self.compare(own, &store, &journal, &verified).await?,
            None => None,
        };
        self.judge_packs(own.as_ref(), &derived, verified.damaged, places.as_ref()).await?;
        self.versions(&store, own.as_ref(), places.is_some(), control).await
    }

    /// Copies what is valid of the journal.
    async fn journal(&mut self, repository: RepositoryId, scratch: &Scratch) -> Result<CopiedJournal, Error> {
        let path = self.dir.join(JOURNAL);
        let copied = CopiedJournal::make(&path, repository, scratch)?;
        self.report.journal_entries = copied.entries;
        if let Some(why) = &copied.damage {
            self.damaged_file(path, Some(copied.end.offset), why.clone(), Remedy::Backup);
        }
        Ok(copied)
    }

    /// What stands behind the last valid entry was never acknowledged, if the catalog had applied that and no more.
    async fn note_unfinished_entry(&self, journal: &CopiedJournal, own: Option<&EmbeddedCatalog>) -> Result<(), Error> {
        if journal.rest == 0 || journal.damage.is_some() {
            return Ok(());
        }
        let applied = match own {
            Some(own) => Some(own.applied().await?),
            None => None,
        };
        let what = match applied {
            Some(applied) if applied == journal.end => {
                "it was never acknowledged, and opening the repository cuts it off"
            }
            _ => "whether it was acknowledged is not known, because the catalog does not have the entry before it",
        };
        let (rest, offset) = (journal.rest, journal.end.offset);
        self.note(format!(
            "{} ends with {rest} bytes, from byte {offset} on, that are no whole entry: {what}",
            self.dir.join(JOURNAL).display()
        ));
        Ok(())
    }

    /// The repository's own catalog, if it can be read.
    async fn own_catalog(
        &mut self,
        repository: RepositoryId,
        scratch: &Scratch,
        blocking: &Blocking,
        journal: &CopiedJournal,
    ) -> Result<Option<EmbeddedCatalog>, Error> {
        let path = self.dir.join(CATALOG);
        if !Files::default().exists(&path)? {
            self.note(format!("there is no {}; opening the repository derives it anew", path.display()));
            return Ok(None);
        }
        let open = {
            let (dir, scratch, blocking) = (self.dir.to_owned(), scratch.path().to_owned(), blocking.clone());
            move || EmbeddedCatalog::open_to_look(&dir, &scratch, repository, blocking)
        };
        let own = match blocking.run(open).await {
            Ok(own) => own,
            Err(error @ (Error::FileCorrupt { .. } | Error::Catalog(_))) => {
                self.damaged_catalog(&error);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match own.read_everything().await {
            Ok(entries) => self.report.catalog_entries = Some(entries),
            Err(error @ (Error::FileCorrupt { .. } | Error::Catalog(_))) => {
                self.damaged_catalog(&error);
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let applied = own.applied().await?;
        if journal.damage.is_none() && !journal.has(applied)? {
            let why = format!(
                "it lacks entry {} up to byte {}, which the catalog has, or has another one there",
                applied.sequence, applied.offset
            );
            self.damaged_file(
                self.dir.join(JOURNAL),
                Some(journal.end.offset.min(applied.offset)),
                why,
                Remedy::Backup,
            );
        }
        Ok(Some(own))
    }

    fn damaged_catalog(&mut self, error: &Error) {
        let why = match error {
            Error::FileCorrupt { why, .. } => why.clone(),
            error => error.to_string(),
        };
        self.damaged_file(self.dir.join(CATALOG), None, why, Remedy::Rebuild);
    }

    /// Compares the repository's catalog with the derived one.
    async fn compare(
        &mut self,
        own: &EmbeddedCatalog,
        store: &Store,
        journal: &CopiedJournal,
        verified: &VerifiedPacks,
    ) -> Result<Option<HashMap<PackId, u64>>, Error> {
        let applied = own.applied().await?;
        let is_behind = applied != journal.end;
        if is_behind && journal.damage.is_none() && journal.has(applied)? {
            let behind = journal.end.sequence.saturating_sub(applied.sequence);
            self.note(format!(
                "the catalog is {behind} decisions behind the journal; opening the repository applies them"
            ));
        }
        let compared = async {
            let different = match is_behind || journal.damage.is_some() {
                true => None,
                false => agreement::different_decision(own, store.catalog()).await?,
            };
            Ok::<_, Error>((different, agreement::compare_places(own, store, &verified.whole).await?))
        };
        let (different, places) = match compared.await {
            Ok(compared) => compared,
            Err(error @ (Error::FileCorrupt { .. } | Error::Catalog(_) | Error::ImageNotFound(_))) => {
                self.damaged_catalog(&error);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let catalog = self.dir.join(CATALOG);
        if let Some(what) = different {
            let why = format!("it does not say what the journal says: {what}");
            self.damaged_file(catalog.clone(), None, why, Remedy::Rebuild);
        }
        if places.wrong > 0 {
            let why = format!("it says of {} objects that they are where they are not", places.wrong);
            self.damaged_file(catalog, None, why, Remedy::Rebuild);
        }
        Ok(Some(places.in_pack))
    }

    /// Walks the trees of all versions that journal or catalog know.
    async fn versions(
        &mut self,
        store: &Store,
        own: Option<&EmbeddedCatalog>,
        is_comparable: bool,
        control: &ScrubControl,
    ) -> Result<(), Error> {
        let mark = store.catalog().begin_mark().await?;
        store.catalog().end_mark(mark.id, MarkEnd::Abandoned).await?;
        let mut roots = mark.roots;
        if let Some(own) = own {
            let known: HashSet<(ImageName, u64)> =
                roots.iter().map(|root| (root.version.image.clone(), root.version.number)).collect();
            let more = versions_of(own).await?.into_iter();
            // Decisions that the journal lost. Where it did not, it has the last word.
            if self.report.damaged_files > 0 {
                roots.extend(more.filter(|root| !known.contains(&(root.version.image.clone(), root.version.number))));
            }
        }
        let tell = |finding| match finding {
            ScrubFinding::Version(version) => (self.tell)(CheckFinding::Version(version)),
            ScrubFinding::Pack(_) => {}
        };
        let also = own.map(|own| own as &dyn Catalog);
        let compared = also.filter(|_| is_comparable).map(Compared::new);
        let walked = walk_versions(store, also, compared, &roots, control, &tell).await?;
        if let Some(error) = &walked.unreadable {
            self.damaged_catalog(error);
        }
        if walked.lost > 0 {
            let why = format!(
                "it calls {} objects damaged that versions need and that are intact in other packs",
                walked.lost
            );
            self.damaged_file(self.dir.join(CATALOG), None, why, Remedy::Push);
        }
        if walked.lacking > 0 {
            let why = format!(
                "it does not know of {} objects that versions need and that are in packs it knows",
                walked.lacking
            );
            self.damaged_file(self.dir.join(CATALOG), None, why, Remedy::Rebuild);
        }
        (self.report.versions, self.report.damaged_versions) = (walked.versions, walked.damaged);
        if walked.damaged > 0 {
            self.report.advise(Remedy::Push);
        }
        Ok(())
    }
}

async fn versions_of(catalog: &dyn Catalog) -> Result<Vec<Root>, Error> {
    let root = |version: VersionRecord, is_removed| {
        let committed_unix_ms = version.committed_unix_ms;
        let kind = match is_removed {
            true => RootKind::Removed { committed_unix_ms },
            false => RootKind::Live { committed_unix_ms },
        };
        let VersionRecord { image, number, content, .. } = version;
        Root { node: content.root, version: VersionKey { image, number }, kind }
    };
    let mut roots = Vec::new();
    let mut after = None;
    loop {
        let images = catalog.images(after.clone(), PAGE).await?;
        let Some(last) = images.last() else { break };
        after = Some(last.name.clone());
        for image in images {
            roots.extend(catalog.versions(image.name, 0, usize::MAX).await?.into_iter().map(|it| root(it, false)));
        }
    }
    let removed = catalog.removed_versions(None, None, usize::MAX).await?;
    roots.extend(removed.into_iter().map(|removed| root(removed.version, true)));
    Ok(roots)
}
