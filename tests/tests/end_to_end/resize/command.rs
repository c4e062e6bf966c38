//! What the command line says of it.

use std::ffi::OsStr;

use imprint_tests::{
    disks::{assert_clean, disks},
    files::{self, MIB},
    programs::{Home, Running, wait_until},
};

use super::support::assert_table;

/// Opening a pipe for reading would wait for who writes to it.
#[test]
fn a_pipe_is_refused_at_once_whatever_length_it_is_to_get() {
    let home = Home::new();
    home.ok([arg("push"), arg(&disks().v1), arg("lab/pc")]);
    files::run(std::process::Command::new("mkfifo").arg(home.place("pipe")));
    for size in ["256M", "100M"] {
        let ended = home.run([arg("restore"), arg("lab/pc"), arg("pipe"), arg("--size"), arg(size)]);
        assert_eq!(ended.code(), 5, "{ended}");
    }
}

fn arg<T: AsRef<OsStr> + ?Sized>(argument: &T) -> &OsStr {
    argument.as_ref()
}

#[test]
fn the_command_line_says_what_it_did_and_goes_on_after_a_kill() {
    let home = Home::new();
    home.ok([arg("push"), arg(&disks().v1), arg("lab/pc")]);
    let target = home.place("disk.raw");
    let restore = || [arg("restore"), arg("lab/pc"), arg("disk.raw"), arg("--size"), arg("256M"), arg("--grow")];
    for delay in [5, 40, 120] {
        let running = Running::start(&mut home.command(restore()));
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = running.kill();
    }
    // A tool that was started by who was killed still has the target, for a moment.
    let mut ended = home.run(restore());
    wait_until("the target is free", || {
        if ended.code() == 5 {
            ended = home.run(restore());
        }
        ended.code() != 5
    });
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.contains("the partition table was made to fit 256 MiB"), "{ended}");
    assert!(ended.stderr.contains("partition 1 was grown from 190 MiB to 254 MiB, its filesystem with it"), "{ended}");
    assert_table(&target);
    assert_clean(&target);
    let ended = home.run([arg("verify"), arg("./disk.raw")]);
    assert_eq!(ended.code(), 8);
    assert!(ended.stderr.contains("grown after the restore"), "{ended}");
    let result = home.result([arg("update"), arg("disk.raw")]);
    assert_eq!((&result["table"], &result["target_bytes"]), (&"refitted".into(), &(256 * MIB).into()));
    home.ok([arg("verify"), arg("./disk.raw")]);
    let refused = home.run([arg("restore"), arg("lab/pc"), arg("small.raw"), arg("--size"), arg("100M")]);
    assert_eq!(refused.code(), 5);
    assert!(refused.stderr.contains("partition 1 ends behind it") && refused.stderr.contains("resize2fs"), "{refused}");
}
