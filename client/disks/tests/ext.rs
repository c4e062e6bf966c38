//! ext2, ext3 and ext4 as `mke2fs` makes them, against `dumpe2fs` and the kernel.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

mod common;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use common::*;
use imprint_disks::Reason;

/// What is free must be exactly what `dumpe2fs` says.
fn assert_exact(image: &Image, kind: &str) {
    let layout = image.layout();
    let partition = only(&layout);
    assert_eq!(partition.content.identity.as_ref().unwrap().kind, kind);
    if let Err(reason) = &partition.content.map {
        panic!("plain bytes: {reason}");
    }
    let expected = dumpe2fs_free(&image.path);
    assert!(!expected.is_empty());
    assert_eq!(free(&layout), expected);
}

#[test]
fn every_feature_that_is_known() {
    let matrix: &[(&str, &[&str])] = &[
        ("ext2", &["-t", "ext2"]),
        ("ext2", &["-t", "ext2", "-b", "1024"]),
        ("ext2", &["-t", "ext2", "-b", "2048", "-O", "^resize_inode,^sparse_super"]),
        ("ext2", &["-t", "ext2", "-r", "0", "-b", "1024", "-O", "none"]),
        ("ext2", &["-t", "ext2", "-b", "1024", "-I", "128"]),
        ("ext3", &["-t", "ext3"]),
        ("ext3", &["-t", "ext3", "-b", "1024"]),
        ("ext4", &["-t", "ext4", "-L", "root"]),
        ("ext4", &["-t", "ext4", "-b", "1024"]),
        ("ext4", &["-t", "ext4", "-b", "1024", "-g", "1024"]),
        ("ext4", &["-t", "ext4", "-O", "^64bit"]),
        ("ext4", &["-t", "ext4", "-O", "^metadata_csum,uninit_bg"]),
        ("ext4", &["-t", "ext4", "-O", "^64bit,^metadata_csum,uninit_bg", "-b", "1024"]),
        ("ext4", &["-t", "ext4", "-O", "^metadata_csum,^uninit_bg"]),
        ("ext4", &["-t", "ext4", "-O", "metadata_csum_seed"]),
        ("ext4", &["-t", "ext4", "-O", "^flex_bg", "-b", "1024"]),
        ("ext4", &["-t", "ext4", "-O", "^extent,^64bit"]),
        ("ext4", &["-t", "ext4", "-O", "^has_journal"]),
        ("ext4", &["-t", "ext4", "-O", "inline_data"]),
        ("ext4", &["-t", "ext4", "-O", "inline_data", "-I", "1024"]),
        ("ext4", &["-t", "ext4", "-O", "bigalloc"]),
        ("ext4", &["-t", "ext4", "-O", "bigalloc", "-C", "65536"]),
        ("ext4", &["-t", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "8192"]),
        ("ext4", &["-t", "ext4", "-O", "meta_bg,^resize_inode"]),
        ("ext4", &["-t", "ext4", "-O", "meta_bg,^resize_inode,^flex_bg", "-b", "1024", "-g", "512"]),
        ("ext4", &["-t", "ext4", "-O", "sparse_super2", "-b", "1024"]),
        ("ext4", &["-t", "ext4", "-O", "mmp"]),
        ("ext4", &["-t", "ext4", "-O", "quota,project"]),
        ("ext4", &["-t", "ext4", "-O", "ea_inode,large_dir,casefold,encrypt,verity,stable_inodes"]),
        ("ext4", &["-t", "ext4", "-O", "orphan_file,fast_commit"]),
        ("ext4", &["-t", "ext4", "-E", "packed_meta_blocks=1"]),
        ("ext4", &["-t", "ext4", "-G", "256", "-b", "1024"]),
        ("ext4", &["-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1"]),
    ];
    for (kind, options) in matrix {
        println!("{kind} {options:?}");
        assert_exact(&Image::ext(100 * MIB, 12 * MIB, options), kind);
    }
}

#[test]
fn label_and_uuid_and_number_of_files() {
    let uuid = "5d6ac7b1-6a41-4a0e-9f43-2f9c0f8e5b11";
    let image = Image::ext(64 * MIB, MIB, &["-t", "ext4", "-L", "root", "-U", uuid]);
    let layout = image.layout();
    let content = &only(&layout).content;
    let identity = content.identity.clone().unwrap();
    assert_eq!((identity.label.as_deref(), identity.uuid.as_deref()), (Some("root"), Some(uuid)));
    let stats = run(Command::new("dumpe2fs").arg("-h").arg(&image.path));
    let field =
        |name| stats.lines().find_map(|line: &str| line.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap();
    let used = field("Inode count:") - field("Free inodes:");
    // All but the reserved ones; the root directory is one of those, lost+found is not.
    assert_eq!(content.map.as_ref().unwrap().files(), used - 10);
}

#[test]
fn nearly_full_and_fragmented() {
    for options in [&["-t", "ext2", "-b", "1024"][..], &["-t", "ext4"], &["-t", "ext4", "-O", "^extent,^64bit"]] {
        let image = Image::ext(64 * MIB, 40 * MIB, options);
        // Every third file goes; what is written then lies in the holes.
        let script: String = (1..2000)
            .filter(|n| n % 3 == 0)
            .map(|n| format!("rm \"directory-{}/{}/file {n}\"\n", n % 7, n % 3))
            .collect();
        image.debugfs(&script);
        let large = image.beside("large");
        fs::write(&large, noise(9 << 20, 9)).unwrap();
        image.debugfs(&format!("write {} large\n", large.display()));
        assert_exact(&image, if options[1] == "ext2" { "ext2" } else { "ext4" });
        run(Command::new("e2fsck").arg("-fn").arg(&image.path));
    }
}

#[test]
fn boundaries_are_where_files_begin_and_end() {
    let image = Image::ext(64 * MIB, 8 * MIB, &["-t", "ext4", "-b", "4096"]);
    let layout = image.layout();
    let map = only(&layout).content.map.as_ref().unwrap();
    let found: BTreeSet<u64> = map.boundaries(0..u64::MAX).collect();
    let mut expected = BTreeSet::new();
    let inodes = run(Command::new("dumpe2fs").arg("-h").arg(&image.path));
    let count =
        inodes.lines().find_map(|line| line.strip_prefix("Inode count:")).unwrap().trim().parse::<u64>().unwrap();
    let script: String = (8..count.min(1500)).map(|inode| format!("ex <{inode}>\n")).collect();
    let path = image.beside("extents");
    fs::write(&path, script).unwrap();
    let listing = run(Command::new("debugfs").arg("-f").arg(&path).arg(&image.path));
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for line in listing.lines() {
        // Level, depth, and more: " 0/ 0   1/  1     0 -   170  1234 -  1404    171"
        if line.starts_with("debugfs:") {
            collect(&mut runs, &mut expected);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [level, depth, _, _, _, "-", _, first, "-", last, _, ..] = words[..]
            && level.trim_end_matches('/') == depth
        {
            let (first, last) = (first.parse::<u64>().unwrap(), last.parse::<u64>().unwrap());
            match runs.last_mut() {
                Some((_, end)) if *end == first => *end = last + 1,
                _ => runs.push((first, last + 1)),
            }
        }
    }
    collect(&mut runs, &mut expected);
    assert!(expected.len() > 50);
    assert_eq!(found, expected);
}

fn collect(runs: &mut Vec<(u64, u64)>, expected: &mut BTreeSet<u64>) {
    for (start, end) in runs.drain(..).filter(|(start, end)| (end - start) * 4096 >= OPTIONS.min_run_bytes) {
        expected.extend([start * 4096, end * 4096]);
    }
}

#[test]
fn what_is_not_clean_is_plain_bytes() {
    let unclean = |commands: &str| {
        let image = Image::ext(64 * MIB, MIB, &["-t", "ext4"]);
        image.debugfs(commands);
        reason(&image.layout())
    };
    assert!(matches!(unclean("feature needs_recovery\n"), Reason::Unclean(_)));
    assert!(matches!(unclean("ssv state 0\n"), Reason::Unclean(_)));
    assert!(matches!(unclean("ssv state 3\n"), Reason::Unclean(_)));
    assert!(matches!(unclean("ssv last_orphan 12\n"), Reason::Unclean(_)));
    assert!(matches!(unclean("feature orphan_present\n"), Reason::Unclean(_)));
    assert_eq!(unclean("sif <12> links_count 0\n"), Reason::Unclean("a deleted file is still there"));
}

/// partclone#303: an unknown feature means a full copy, never a guess.
#[test]
fn what_is_not_known_is_plain_bytes() {
    let unknown = |commands: &str| {
        let image = Image::ext(64 * MIB, MIB, &["-t", "ext4", "-O", "^metadata_csum"]);
        image.debugfs(commands);
        reason(&image.layout())
    };
    for set in ["incompat", "ro_compat", "compat"] {
        let found = unknown(&format!("ssv feature_{set} 0x40000046\n"));
        assert!(matches!(found, Reason::UnknownFeatures { bits: 0x4000_0000.., .. }), "{set}: {found}");
    }
}

#[test]
fn counts_that_do_not_agree_are_plain_bytes() {
    let wrong = |commands: &str| {
        let image = Image::ext(64 * MIB, MIB, &["-t", "ext2", "-b", "1024"]);
        image.debugfs(commands);
        reason(&image.layout())
    };
    assert!(matches!(wrong("ssv free_blocks_count 7\n"), Reason::Disagreement { .. }));
    assert!(matches!(wrong("ssv free_inodes_count 7\n"), Reason::Disagreement { .. }));
    assert!(matches!(wrong("setb 60000\n"), Reason::Disagreement { .. }));
    let is_free = Reason::Invalid { what: "a block of a file", why: "is free" };
    assert_eq!(wrong("sif <12> block[0] 60000\n"), is_free);
    let owners = wrong("sif <13> block[0] 30\nsif <14> block[0] 30\n");
    assert_eq!(owners, Reason::Invalid { what: "a block", why: "has two owners" });
}

/// All counts agree: one block has two owners, and another has none.
#[test]
fn a_block_that_changed_its_owner_is_plain_bytes() {
    for options in [&["-t", "ext2", "-b", "1024"][..], &["-t", "ext4", "-O", "^extent,^64bit,^metadata_csum"]] {
        let image = Image::ext(64 * MIB, MIB, options);
        let block = run(Command::new("debugfs").args(["-R", "bmap sparse 0"]).arg(&image.path));
        image.debugfs(&format!("sif \"directory-4/1/file 4\" block[0] {}\n", block.trim()));
        let expected = Reason::Invalid { what: "a block", why: "has two owners, and another none" };
        assert_eq!(reason(&image.layout()), expected);
    }
}

/// In use, counted, and nobody's.
#[test]
fn a_block_without_an_owner_is_plain_bytes() {
    let image = Image::ext(64 * MIB, MIB, &["-t", "ext2", "-b", "1024"]);
    let listing = run(Command::new("dumpe2fs").arg(&image.path));
    let all =
        listing.lines().find_map(|line| line.strip_prefix("Free blocks:")).unwrap().trim().parse::<u64>().unwrap();
    let group = listing.split("\nGroup 7:").nth(1).unwrap().split(" free blocks").next().unwrap();
    let group = group.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    image.debugfs(&format!(
        "setb 60000\nset_bg 7 free_blocks_count {}\nssv free_blocks_count {}\n",
        group - 1,
        all - 1
    ));
    let what = "blocks in use and blocks of files";
    assert!(matches!(reason(&image.layout()), Reason::Disagreement { what: found, .. } if found == what));
}

/// After the kernel wrote to it: extents, holes, attributes, deleted files. Needs root, and a kernel with ext4.
#[test]
fn what_the_kernel_writes() {
    for options in
        [&["-t", "ext4"][..], &["-t", "ext4", "-O", "bigalloc"], &["-t", "ext3", "-b", "1024"], &["-t", "ext2"]]
    {
        let image = Image::ext(128 * MIB, 20 * MIB, options);
        let mount = image.beside("mount");
        fs::create_dir(&mount).unwrap();
        let mounted = output(Command::new("mount").args(["-o", "loop"]).arg(&image.path).arg(&mount));
        if !mounted.status.success() {
            println!("skipped: no loop mounts: {}", String::from_utf8_lossy(&mounted.stderr));
            return;
        }
        let written = write_through_kernel(&mount);
        run(Command::new("umount").arg(&mount));
        written.unwrap();
        assert_exact(&image, if options.len() > 3 && options[1] == "ext4" { "ext4" } else { options[1] });
    }
}

fn write_through_kernel(mount: &Path) -> std::io::Result<()> {
    for n in (1..400).filter(|n| n % 2 == 0) {
        let _ = fs::remove_file(mount.join(format!("directory-{}/{}/file {n}", n % 7, n % 3)));
    }
    fs::write(mount.join("large"), noise(15 << 20, 3))?;
    tree(&mount.join("more"), 6 * MIB);
    let file = fs::File::create(mount.join("appended"))?;
    for n in 0..300u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(3000, n), (n * 7919 % 300) * 9000)?;
    }
    file.sync_all()?;
    // Reserved and not written; only ext4 can.
    output(Command::new("fallocate").args(["-l", "3MiB"]).arg(mount.join("reserved")));
    Ok(())
}
