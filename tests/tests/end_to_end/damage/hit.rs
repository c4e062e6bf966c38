//! A damaged copy of a repository, and what must be true of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use imprint_client::Error;
use imprint_proto::Kind;
use imprint_server::store::{Directory, OpenMode, StoreOptions};
use imprint_tests::{
    client::Client,
    damage::Damage,
    files::{self, are_same, length},
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
    async fn restore(&self, client: &Client, reference: &str, disk: &Path) -> Result<(), Error> {
        let target = client.place("target.raw");
        let _ = fs::remove_file(&target);
        client.try_restore(reference, &target).await?;
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
