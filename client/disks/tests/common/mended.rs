//! Makes the checksums of a GPT and of an ext4 right again, so that changes are seen by what is behind them.
//!
//! Written apart from the code that checks them; what does not look like a structure is left as it is.

/// CRC-32C, not inverted in the end.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |raw| usize::from(u16::from_le_bytes([raw[0], raw[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn put16(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&(value as u16).to_le_bytes());
    }
}

pub(crate) fn mend(disk: &mut [u8]) {
    if disk.len() >= 4096 && disk[512..520] == *b"EFI PART" {
        mend_gpt(disk, 512);
        mend_gpt(disk, disk.len() - 512);
    } else if disk.len() >= 4096 && u16_at(disk, 1024 + 0x38) == 0xef53 {
        mend_ext(disk);
    }
}

fn mend_gpt(disk: &mut [u8], header: usize) {
    let start = u32_at(disk, header + 72).saturating_mul(512);
    let length = u32_at(disk, header + 80).saturating_mul(u32_at(disk, header + 84));
    if let Some(entries) = start.checked_add(length).and_then(|end| disk.get(start..end)) {
        let sum = crc32(entries);
        put(disk, header + 88, sum);
    }
    put(disk, header + 16, 0);
    let end = header + u32_at(disk, header + 12).clamp(92, 512);
    let sum = crc32(&disk[header..end]);
    put(disk, header + 16, sum);
}

/// For blocks of 1 KiB and one group, which the samples have, or the first of several.
fn mend_ext(disk: &mut [u8]) {
    const BLOCK: usize = 1024;
    let superblock = disk[1024..2048].to_vec();
    if u32_at(&superblock, 0x64) & 0x400 == 0 || u32_at(&superblock, 0x60) & 0x2000 != 0 {
        return;
    }
    let seed = crc32c(u32::MAX, &superblock[0x68..0x78]);
    let descriptor_bytes = if u32_at(&superblock, 0x60) & 0x80 == 0 { 32 } else { u16_at(&superblock, 0xfe) };
    let inode_bytes = u16_at(&superblock, 0x58).clamp(128, BLOCK);
    let inodes = u32_at(&superblock, 0x28).min(1024);
    let descriptor = 2 * BLOCK;
    let table = u32_at(disk, descriptor + 8).saturating_mul(BLOCK);
    for index in 0..inodes {
        mend_inode(disk, seed, index as u32 + 1, table.saturating_add(index * inode_bytes), inode_bytes);
    }
    for (place, bits, low, high) in [(0, u32_at(&superblock, 0x20), 0x18, 0x38), (4, inodes, 0x1a, 0x3a)] {
        let start = u32_at(disk, descriptor + place).saturating_mul(BLOCK);
        if let Some(bitmap) = disk.get(start..start.saturating_add((bits / 8).min(BLOCK))) {
            let sum = crc32c(seed, bitmap);
            put16(disk, descriptor + low, sum);
            if descriptor_bytes >= 64 {
                put16(disk, descriptor + high, sum >> 16);
            }
        }
    }
    if (32..=1024).contains(&descriptor_bytes) {
        put16(disk, descriptor + 0x1e, 0);
        let sum = crc32c(crc32c(seed, &0u32.to_le_bytes()), &disk[descriptor..descriptor + descriptor_bytes]);
        put16(disk, descriptor + 0x1e, sum);
    }
    let sum = crc32c(u32::MAX, &disk[1024..1024 + 0x3fc]);
    put(disk, 1024 + 0x3fc, sum);
}

fn mend_inode(disk: &mut [u8], seed: u32, number: u32, at: usize, length: usize) {
    let Some(raw) = at.checked_add(length).and_then(|end| disk.get(at..end)) else { return };
    let own = crc32c(crc32c(seed, &number.to_le_bytes()), &raw[0x64..0x68]);
    // The first block of a directory, or of a tree.
    let root = &raw[0x28..0x64];
    let is_directory = u16_at(raw, 0) & 0xf000 == 0x4000;
    let (block, is_leaf) = (u32_at(root, 12 + if u16_at(root, 6) == 0 { 8 } else { 4 }), u16_at(root, 6) == 0);
    let mut raw = raw.to_vec();
    put16(&mut raw, 0x7c, 0);
    let has_high = length > 128 && u16_at(&raw, 0x80) >= 4;
    if has_high {
        put16(&mut raw, 0x82, 0);
    }
    let sum = crc32c(own, &raw);
    put16(disk, at + 0x7c, sum);
    if has_high {
        put16(disk, at + 0x82, sum >> 16);
    }
    let start = block.saturating_mul(1024);
    let tail = match (is_leaf, is_directory) {
        (true, true) => 1012,
        (false, _) => 12 + 12 * u16_at(disk, start.saturating_add(4)).min(84),
        _ => return,
    };
    if start == 0 || start.saturating_add(1024) > disk.len() {
        return;
    }
    let sum = crc32c(own, &disk[start..start + tail]);
    put(disk, start + if is_leaf { 1020 } else { tail }, sum);
}
