//! Disks whose filesystems are understood.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails where it stands

use std::{ffi::OsStr, fs::File};

use imprint_tests::{disks::disks, programs::Home};

fn arg<T: AsRef<OsStr> + ?Sized>(argument: &T) -> &OsStr {
    argument.as_ref()
}

#[test]
fn inspect_says_what_is_there() {
    let home = Home::new();
    let found = home.result([arg("inspect"), arg(&disks().v1)]);
    let partition = &found["partitions"][0];
    assert_eq!(
        (&found["table"], &partition["filesystem"], &partition["plain"]),
        (&"gpt".into(), &"ext4".into(), &serde_json::Value::Null)
    );
    assert!(!home.repository().exists());
    let nothing = home.place("nothing.raw");
    File::create(&nothing).unwrap().set_len(1 << 20).unwrap();
    let said = home.ok([arg("inspect"), arg(&nothing)]).stdout;
    assert!(said.ends_with("no partition table\nall of it is plain bytes: no known filesystem\n"), "{said}");
}
