//! Swap areas, from `/proc/swaps`.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{SystemError, escape::unescape, read_text};

const SWAPS: &str = "/proc/swaps";

/// Paths of the devices and files that are swapped to. A kernel without swap has none.
pub fn read() -> Result<Vec<PathBuf>, SystemError> {
    match read_text(Path::new(SWAPS)) {
        Ok(text) => Ok(parse(&text)),
        Err(SystemError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().skip(1);
    lines.filter_map(|line| line.split_ascii_whitespace().next()).map(plain).collect()
}

fn plain(escaped: &str) -> PathBuf {
    OsString::from_vec(unescape(escaped)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_files_are_listed() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/sda2                               partition\t1000\t\t0\t\t-2\n\
                    /var/swap\\040file                       file\t\t1000\t\t0\t\t-3\n";
        assert_eq!(parse(text), [Path::new("/dev/sda2"), Path::new("/var/swap file")]);
    }

    #[test]
    fn without_swap_there_is_only_the_heading() {
        assert!(parse("Filename\tType\tSize\tUsed\tPriority\n").is_empty());
        assert!(parse("").is_empty());
    }
}
