//! A healthy repository, and what is known of it without asking it.

use std::{
    collections::{HashMap, HashSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use imprint_content::{NodeId, ObjectId, tree::Node};
use imprint_server::{
    PackId,
    pack::{HEADER_BYTES, Purpose, ScanItem, decode_record, scan},
};
use imprint_tests::{
    client::Client,
    damage::Damage,
    files::{self, MIB, length, packs},
    random::Random,
};
use tempfile::TempDir;

/// Of each object: the file of its pack, and its record in it.
type Places = HashMap<ObjectId, (String, Range<u64>)>;

/// Two images with versions that share, tags that moved and went, a removed version and a pinned one.
pub(crate) struct Healthy {
    dir: TempDir,
    /// Each live version, the disk that it is, and the objects that it needs.
    pub(crate) versions: Vec<Stored>,
    /// Where each object is: its pack, and its record in it. Each has one place.
    places: Places,
    /// All that can be asked of it.
    pub(crate) answers: String,
}

pub(crate) struct Stored {
    pub(crate) reference: String,
    pub(crate) disk: PathBuf,
    needs: HashSet<ObjectId>,
}

impl Healthy {
    pub(crate) async fn make(random: &mut Random) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let mut disks = Vec::new();
        for (image, count) in [("lab/pc", 3), ("vm/web", 2)] {
            let mut disk = any_disk(random);
            for number in 1..=count {
                let change = (number as usize * MIB as usize)..(number as usize * MIB as usize + 200_000);
                random.fill(&mut disk[change]);
                let path = files::write(dir.path(), &format!("{number}-{}", image.replace('/', "-")), &disk);
                let client = Client::embedded(&repository).await;
                client.push_tagged(&path, image, &format!("t{}", number % 2)).await;
                disks.push((format!("{image}@{number}"), path));
            }
        }
        let client = Client::embedded(&repository).await;
        let answers = all_answers(&client).await.unwrap();
        let mut roots = Vec::new();
        for (reference, _) in &disks {
            roots.push(client.version(reference).await.content.root);
        }
        drop(client);
        // Opened once more, so that the catalog has tables and not only a log, and closed.
        drop(Client::embedded(&repository).await);
        let _ = fs::remove_file(repository.join("reserve"));

        let (places, nodes) = read_packs(&repository);
        let needs = roots.into_iter().map(|root| needs(root, &nodes));
        let versions = disks.into_iter().zip(needs);
        let versions = versions.map(|((reference, disk), needs)| Stored { reference, disk, needs }).collect();
        let healthy = Self { dir, versions, places, answers };
        assert!(nodes.values().any(|node| node.level() > 0), "all trees are one leaf");
        let needed: HashSet<_> = healthy.versions.iter().flat_map(|version| &version.needs).collect();
        assert!(healthy.places.keys().all(|id| needed.contains(id)), "an object that no version needs");
        healthy
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        packs(&self.repository())
    }

    /// The files of the catalog that hold something; not what RocksDB says for people.
    pub(crate) fn catalog_files(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.repository().join("catalog")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = all.filter(|file| !file_name(file).starts_with("LOG") && length(file) > 0).collect();
        files.sort();
        files
    }

    /// The versions that need a record that this damage of a pack hits.
    pub(crate) fn suffering(&self, pack: &Path, damage: Damage) -> Vec<&str> {
        let pack = file_name(pack);
        let is_hit = |id: &ObjectId| {
            let (place, record) = &self.places[id];
            *place == pack && hits(damage, record)
        };
        let suffering = self.versions.iter().filter(|version| version.needs.iter().any(is_hit));
        suffering.map(|version| version.reference.as_str()).collect()
    }

    fn records(&self, pack: &Path) -> Vec<&Range<u64>> {
        let pack = file_name(pack);
        let mut records: Vec<_> = self.places.values().filter(|(place, _)| *place == pack).map(|(_, at)| at).collect();
        records.sort_by_key(|record| record.start);
        records
    }

    /// Where one record ends and the next begins, the last first.
    pub(crate) fn borders(&self, pack: &Path) -> Vec<u64> {
        let mut borders: Vec<u64> = self.records(pack).iter().map(|record| record.end).collect();
        borders.push(HEADER_BYTES as u64);
        borders.sort_unstable_by(|a, b| b.cmp(a));
        borders
    }
}

fn hits(damage: Damage, record: &Range<u64>) -> bool {
    match damage {
        Damage::FlipBit(bit) => record.contains(&(bit / 8)),
        Damage::Flip(byte) => record.contains(&byte),
        Damage::Truncate(left) | Damage::Zero(left) => record.end > left,
        Damage::Remove => true,
    }
}

/// Zeros, then text or noise, in turns: chunks of both codecs, and enough extents for a tree with inner nodes.
fn any_disk(random: &mut Random) -> Vec<u8> {
    let mut disk = random.bytes(8 * MIB as usize);
    for (number, piece) in disk.chunks_mut(80 << 10).enumerate() {
        let (zeros, data) = piece.split_at_mut(piece.len().min(64 << 10));
        zeros.fill(0);
        if number % 2 == 0 {
            data.iter_mut().for_each(|byte| *byte = b"all work and no play"[usize::from(*byte) % 20]);
        }
    }
    disk
}

/// Where all objects are, and all nodes, as the packs' bytes say.
fn read_packs(repository: &Path) -> (Places, HashMap<NodeId, Node>) {
    let (mut places, mut nodes) = (HashMap::new(), HashMap::new());
    for path in packs(repository) {
        let bytes = Bytes::from(fs::read(&path).unwrap());
        let pack: PackId = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        for item in scan(pack, &bytes) {
            let ScanItem::Record(record) = item else { panic!("{item:?} of a healthy pack") };
            let range = record.range();
            let slice = bytes.slice(range.start as usize..range.end as usize);
            if let Ok((_, payload)) = decode_record(Purpose::Nodes, &slice) {
                let raw = payload.decode().unwrap();
                nodes.insert(NodeId::of(&raw), Node::decode(&raw).unwrap());
            }
            let twice = places.insert(record.header.id, (file_name(&path), range));
            assert_eq!(twice, None, "an object with two places");
        }
    }
    (places, nodes)
}

fn needs(root: NodeId, nodes: &HashMap<NodeId, Node>) -> HashSet<ObjectId> {
    let (mut needs, mut stack) = (HashSet::from([root.into()]), vec![root]);
    while let Some(node) = stack.pop().map(|id| &nodes[&id]) {
        needs.extend(node.references());
        if let Node::Inner { children, .. } = node {
            stack.extend(children.iter().map(|child| child.id));
        }
    }
    needs
}

/// Images, tags with their counters, and versions, as text.
pub(crate) async fn all_answers(client: &Client) -> Result<String, imprint_client::Error> {
    let mut text = format!("{:?}\n", client.repository.images().await?);
    for image in ["lab/pc", "vm/web"] {
        text += &format!("{:?}\n", client.repository.versions(&image.parse().unwrap()).await?);
    }
    Ok(text)
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
