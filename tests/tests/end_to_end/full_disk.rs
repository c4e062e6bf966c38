//! A full disk is boring: pushes are refused, everything else goes on, and when there is room again, so do they.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use imprint_server::{
    RepositoryId, UploadId,
    blocking::Blocking,
    catalog::{Catalog, EmbeddedCatalog, UploadRecord},
    files::Files,
};
use imprint_tests::{
    devices::{LoopDevice, Mounted},
    files::{self, MIB, allocated, assert_same, packs, run},
    programs::{Ended, Home},
    random::Random,
    server::Server,
};

const DISK_BYTES: u64 = 256 * MIB;
const OPTIONS: [&str; 6] = ["--reserve", "32", "--grace", "0m", "--gc-every", "off"];
const RESERVE_BYTES: u64 = 32 * MIB;

/// A small disk. Fields go away in their order.
struct SmallDisk {
    mounted: Mounted,
    _device: LoopDevice,
    home: Home,
    random: Random,
}

impl SmallDisk {
    /// `None` where no loop device can be made.
    fn new() -> Option<Self> {
        let home = Home::new();
        let image = home.place("disk.raw");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let device = LoopDevice::over(&image)?;
        // No blocks for root alone, and a journal that leaves room.
        run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-m", "0", "-J", "size=4"]).arg(device.node()));
        let mounted = Mounted::new(device.node(), "noatime");
        // Not ours, and no empty directory without it.
        fs::remove_dir(mounted.path().join("lost+found")).unwrap();
        Some(Self { mounted, _device: device, home, random: Random::new(1) })
    }

    fn data(&self) -> PathBuf {
        self.mounted.path().join("repository")
    }

    fn serve(&mut self) -> Server {
        let server = Server::start_with(&self.data(), &OPTIONS);
        self.home.use_repository(server.url());
        server
    }

    fn filler(&self) -> PathBuf {
        self.mounted.path().join("filler")
    }

    /// Takes all room but `left` bytes; all of it, to the last block, for 0.
    fn fill_but(&self, left: u64) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).unwrap();
        let stat = rustix::fs::statvfs(self.mounted.path()).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        if left > 0 {
            let taken = rustix::fs::fallocate(
                &filler,
                rustix::fs::FallocateFlags::empty(),
                files::length(&self.filler()),
                free.saturating_sub(left).max(1),
            );
            return taken.unwrap();
        }
        for piece in [MIB as usize, 4096] {
            loop {
                match filler.write_all(&vec![0xff; piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
            filler.sync_data().unwrap();
        }
    }

    fn noise(&mut self, name: &str, mebibytes: u64) -> PathBuf {
        let bytes = self.random.bytes((mebibytes * MIB) as usize);
        files::write(self.home.place("").as_path(), name, &bytes)
    }

    fn push(&self, disk: &Path, image: &str) -> Ended {
        self.home.run([Path::new("push"), disk, Path::new(image)])
    }

    fn assert_restores(&self, reference: &str, disk: &Path) {
        let target = self.home.place("restored.raw");
        let _ = fs::remove_file(&target);
        self.home.ok([Path::new("restore"), Path::new(reference), &target]);
        assert_same(&target, disk);
    }
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn assert_full(ended: &Ended) {
    assert_ne!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.contains("disk is full"), "{ended}");
}

#[test]
fn on_a_full_disk_pushes_are_refused_and_everything_else_goes_on() {
    let Some(mut disk) = SmallDisk::new() else { return };
    let server = disk.serve();
    let reserve = disk.data().join("reserve");
    assert_eq!(allocated(&reserve), RESERVE_BYTES);
    let [first, second, large] = [disk.noise("first", 20), disk.noise("second", 8), disk.noise("large", 100)];
    assert_eq!(disk.push(&first, "lab/a").code(), 0);
    assert_eq!(disk.push(&second, "lab/b").code(), 0);

    // Less than a push needs: it is refused, and what it took comes back.
    disk.fill_but(40 * MIB);
    let before = packs(&disk.data());
    assert_full(&disk.push(&large, "lab/large"));
    assert!(packs(&disk.data()).len() <= before.len() + 1);
    assert_eq!(fs::read_dir(disk.data().join("packs/incoming")).unwrap().count(), 0);
    disk.assert_restores("lab/a", &first);

    // Not a byte is left. Restarting needs room too.
    disk.fill_but(0);
    assert_full(&disk.push(&large, "lab/large"));
    assert!(server.stop().success());
    disk.fill_but(0);
    let server = disk.serve();

    assert_full(&disk.push(&large, "lab/large"));
    // More than fits into the journal's last block.
    for round in 0..120 {
        disk.home.ok(["tag", "lab/a", &format!("round-{round}-{}", "x".repeat(40))]);
    }
    assert_eq!(allocated(&reserve), 0, "the reserve was given up");
    // A version of what is there needs no pack.
    let pushed = disk.push(&first, "lab/a");
    assert_eq!(pushed.code(), 0, "{pushed}");
    assert_full(&disk.push(&large, "lab/large"));
    disk.home.ok(["tag", "lab/b", "passing"]);
    disk.home.ok(["tag", "lab/b", "passing", "--delete"]);
    disk.home.ok(["remove", "lab/b@1"]);
    disk.home.ok(["tag", "lab/a", "later"]);
    // What nothing needs is given back without room for anything.
    let before = packs(&disk.data());
    let collected = disk.home.result(["gc"]);
    assert!(number(&collected["deleted_bytes"]) >= 8 * MIB, "{collected}");
    assert!(packs(&disk.data()).len() < before.len());
    disk.assert_restores("lab/a:later", &first);
    assert_eq!(disk.home.result(["stats"])["writes_stopped"], serde_json::Value::Null);

    fs::remove_file(disk.filler()).unwrap();
    let pushed = disk.push(&large, "lab/large");
    assert_eq!(pushed.code(), 0, "{pushed}");
    assert!(allocated(&reserve) >= RESERVE_BYTES, "the reserve is taken again");
    disk.assert_restores("lab/large", &large);
    drop(server);
}

/// RocksDB stops when it had no room and looks for some from time to time: a write waits for that.
#[tokio::test]
async fn rocksdb_goes_on_with_the_reserve_without_being_opened_again() {
    let Some(disk) = SmallDisk::new() else { return };
    fs::create_dir(disk.data()).unwrap();
    let files = Files::default().with_reserve(disk.data().join("reserve"), 64 * MIB);
    let (repository, blocking) = (RepositoryId::random(), Blocking::for_this_machine());
    let catalog = EmbeddedCatalog::create(&disk.data(), repository, blocking.clone(), &files, 1 << 20).unwrap();
    disk.fill_but(0);
    // Its log is longer than what is set aside for it.
    let upload = |_| UploadRecord { id: UploadId::random(), image: "lab/pc".parse().unwrap(), base: None };
    let mut opened = 0;
    while allocated(&disk.data().join("reserve")) > 0 {
        for _ in 0..100 {
            let some: Vec<_> = (0..32).map(|n| catalog.open_upload(upload(n))).collect();
            for outcome in futures::future::join_all(some).await {
                outcome.unwrap();
                opened += 1;
            }
        }
        assert!(opened < 1_000_000, "the disk never was full");
    }
    println!("{opened} writes before the reserve was given up");
    catalog.open_upload(upload(0)).await.unwrap();
    drop(catalog);
    EmbeddedCatalog::open(&disk.data(), repository, blocking, &files, 1 << 20).unwrap();
}

#[test]
fn a_reserve_may_be_left_out() {
    let Some(mut disk) = SmallDisk::new() else { return };
    let server = Server::start_with(&disk.data(), &["--reserve", "0"]);
    disk.home.use_repository(server.url());
    let small = disk.noise("small", 1);
    assert_eq!(disk.push(&small, "lab/a").code(), 0);
    assert!(!disk.data().join("reserve").exists());
}
