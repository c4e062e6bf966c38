//! A damaged copy of a repository, and what must be true of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use imprint_client::Error;
use imprint_proto::Kind;
use imprint_server::store::{
    Directory, OpenMode, StoreOptions,
    check::{CheckFinding, CheckOptions, check},
    scrub::ScrubControl,
};
use imprint_tests::{
    client::Client,
    damage::Damage,
    files::{self, are_same, length},
    programs::DEADLINE,
};
use tempfile::TempDir;

use super::oracle::{Healthy, all_answers, file_name};

pub(crate) struct Hit<'a> {
    healthy: &'a Healthy,
    dir: TempDir,
    /// Below the repository.
    file: PathBuf,
    pub(crate) what: String,
}

/// What a check reports: files that are no packs, packs and versions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    files: Vec<String>,
    packs: Vec<String>,
    versions: Vec<String>,
}

impl<'a> Hit<'a> {
    pub(crate) fn new(healthy: &'a Healthy, file: &Path, damage: Damage) -> Self {
        let dir = tempfile::tempdir().unwrap();
        files::run(Command::new("cp").arg("-r").arg(healthy.repository()).arg(dir.path()));
        let inside = file.strip_prefix(healthy.repository()).unwrap();
        damage.inflict(&dir.path().join("repository").join(inside));
        let what = format!("{damage:?} in {}, {} bytes", inside.display(), length(file));
        Self { healthy, dir, file: inside.to_owned(), what }
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// The pack's id, or what else an error must name.
    fn name(&self) -> String {
        file_name(&self.file).trim_end_matches(".pack").to_owned()
    }

    /// Restores a version; what comes without an error must be right.
    ///
    /// bupstash#375: it ends, whatever is damaged.
    async fn restore(&self, client: &Client, reference: &str, disk: &Path) -> Result<(), Error> {
        let target = client.place("target.raw");
        let _ = fs::remove_file(&target);
        let restored = tokio::time::timeout(DEADLINE, client.try_restore(reference, &target)).await;
        restored.unwrap_or_else(|_| panic!("{}: restoring {reference} hangs", self.what))?;
        assert!(are_same(&target, disk), "{}: {reference} has wrong bytes", self.what);
        Ok(())
    }

    /// These versions cannot be restored, with an error that names the pack; all others can.
    pub(crate) async fn assert_only_suffering(&self, suffering: &[&str]) {
        let client = Client::try_embedded(&self.repository()).await.unwrap();
        let damaged = self.restore_all(&client, suffering).await;
        for error in damaged {
            assert!(error.contains(&self.name()), "{}: {error}", self.what);
        }
        assert_eq!(all_answers(&client).await.unwrap(), self.healthy.answers, "{}", self.what);
    }

    /// The same, where the catalog was derived from what is left: what is gone is only missing then.
    pub(crate) async fn assert_only_suffering_after_rebuild(&self, suffering: &[&str], reported: &[String]) {
        let client = Client::try_embedded(&self.repository()).await.unwrap();
        for error in self.restore_all(&client, suffering).await {
            assert!(
                error.contains(&self.name()) || !reported.is_empty() || error.contains("is missing"),
                "{}: {error}",
                self.what
            );
        }
        assert_eq!(all_answers(&client).await.unwrap(), self.healthy.answers, "{}", self.what);
    }

    /// Restores all versions; the errors of those that suffer.
    async fn restore_all(&self, client: &Client, suffering: &[&str]) -> Vec<String> {
        let mut errors = Vec::new();
        for version in &self.healthy.versions {
            let restored = self.restore(client, &version.reference, &version.disk).await;
            let suffers = suffering.contains(&version.reference.as_str());
            match restored {
                Ok(()) => assert!(!suffers, "{}: {} was restored", self.what, version.reference),
                Err(error) => {
                    assert!(suffers, "{}: {} suffers: {}", self.what, version.reference, with_causes(&error));
                    assert_eq!(error.kind(), Kind::Corrupt, "{}: {error:?}", self.what);
                    errors.push(with_causes(&error));
                }
            }
        }
        errors
    }

    /// What `imprint-server check` finds.
    pub(crate) async fn check(&self) -> Checked {
        let checked = Mutex::new(Checked::default());
        let tell = |finding| {
            let mut checked = checked.lock().unwrap();
            match finding {
                CheckFinding::File(file) => checked.files.push(file_name(&file.path)),
                CheckFinding::Pack(_, found) => checked.packs.push(found.pack.to_string()),
                CheckFinding::Version(found) => {
                    checked.versions.push(format!("{}@{}", found.version.image, found.version.number));
                }
                CheckFinding::Note(_) => {}
            }
        };
        let report = check(&self.repository(), &CheckOptions::default(), &ScrubControl::new(), &tell).await;
        let report = report.unwrap_or_else(|error| panic!("{}: {}", self.what, with_causes(&error)));
        let mut checked = checked.into_inner().unwrap();
        checked.versions.sort();
        assert_eq!(report.has_damage(), checked != Checked::default(), "{}: {report:?} {checked:?}", self.what);
        checked
    }

    /// A check reports this pack and the versions that suffer, and nothing else.
    pub(crate) async fn assert_check_finds_this_pack(&self, suffering: &[&str]) {
        let mut versions: Vec<_> = suffering.iter().map(ToString::to_string).collect();
        versions.sort();
        let expected = Checked { files: Vec::new(), packs: vec![self.name()], versions };
        assert_eq!(self.check().await, expected, "{}", self.what);
    }

    /// A check reports this file, which is no pack, and nothing else.
    pub(crate) async fn assert_check_finds_this_file(&self) {
        let mut checked = self.check().await;
        checked.files.dedup();
        assert_eq!(checked, Checked { files: vec![self.name()], ..Checked::default() }, "{}", self.what);
    }

    /// Whether a check finds something wrong with the catalog; it blames nothing else.
    pub(crate) async fn check_finds_the_catalog(&self) -> bool {
        let mut checked = self.check().await;
        checked.files.dedup();
        let found = !checked.files.is_empty();
        let files = if found { vec!["catalog".to_owned()] } else { Vec::new() };
        assert_eq!(checked, Checked { files, ..Checked::default() }, "{}", self.what);
        found
    }

    /// Rebuilds the catalog; the packs that it reports.
    pub(crate) async fn rebuild(&self) -> Result<Vec<String>, imprint_server::Error> {
        let outcome = loop {
            match Directory::rebuild(&self.repository(), StoreOptions::default()).await {
                // A client of this process that was dropped a moment ago is still closing it.
                Err(imprint_server::Error::Locked { .. }) => tokio::task::yield_now().await,
                rebuilt => break rebuilt?,
            }
        };
        Ok(outcome.damaged.iter().chain(&outcome.unreadable).map(ToString::to_string).collect())
    }

    pub(crate) fn assert_only_this_pack(&self, reported: &[String]) {
        assert!(reported.iter().all(|pack| *pack == self.name()), "{}: {reported:?}", self.what);
    }

    /// It is neither opened nor rebuilt, the errors name the file, and no file was changed by trying. Opened twice, since the
    /// first try may have changed what the second one sees.
    pub(crate) async fn assert_refused_and_untouched(&self) {
        let damaged = fs::read(self.repository().join(&self.file)).ok();
        let name = match damaged {
            // Without a superblock it is no repository.
            None if self.name() == "superblock" => "repository".into(),
            _ => self.name(),
        };
        let expect = |refused: Option<imprint_server::Error>| {
            let error = refused.unwrap_or_else(|| panic!("{}: it is not refused", self.what));
            assert!(with_causes(&error).contains(&name), "{}: {error}", self.what);
            assert_eq!(fs::read(self.repository().join(&self.file)).ok(), damaged, "{}: it was changed", self.what);
        };
        for _ in 0..2 {
            expect(Directory::open(&self.repository(), OpenMode::Existing, StoreOptions::default()).await.err());
        }
        expect(self.rebuild().await.err());
    }

    /// Whether it is opened and answers all; answers that differ without an error are wrong.
    pub(crate) async fn answers_rightly_or_refuses(&self) -> bool {
        let client = match Client::try_embedded(&self.repository()).await {
            Ok(client) => client,
            Err(error) => {
                assert!(with_causes(&error).contains("catalog"), "{}: {}", self.what, with_causes(&error));
                return false;
            }
        };
        let mut all = true;
        match all_answers(&client).await {
            Ok(answers) => assert_eq!(answers, self.healthy.answers, "{}", self.what),
            Err(_) => all = false,
        }
        for version in &self.healthy.versions {
            all &= self.restore(&client, &version.reference, &version.disk).await.is_ok();
        }
        all
    }

    /// Nothing is missing.
    pub(crate) async fn assert_answers_all(&self) {
        self.assert_only_suffering(&[]).await;
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
