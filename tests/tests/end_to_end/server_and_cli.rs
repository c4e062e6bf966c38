//! The real programs as a user meets them: every command, its exit code, and what it says.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    path::Path,
    process::Stdio,
};

use imprint_tests::{
    devices::{LoopDevice, Mounted},
    disks::{assert_clean, disks},
    files::{self, MIB, assert_same, copy_sparse, length, packs},
    programs::{Home, Running, feed, wait_until},
    random::Random,
    server::Server,
};
use serde_json::Value;

/// Text with every number as `N`, also those with a fraction or grouped digits, and every path in the home as `~`.
fn normalised(text: &str, home: &Home) -> String {
    let mut out = String::new();
    let text = text.replace(home.place("").to_str().unwrap(), "~/");
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if !c.is_ascii_digit() {
            out.push(c);
            continue;
        }
        let belongs = |next: char, after: Option<char>| {
            next.is_ascii_digit() || matches!(next, '.' | ' ') && after.is_some_and(|after| after.is_ascii_digit())
        };
        while let Some(&next) = rest.peek() {
            let mut ahead = rest.clone();
            ahead.next();
            if !belongs(next, ahead.peek().copied()) {
                break;
            }
            rest.next();
        }
        out.push('N');
    }
    out.replace("KiB", "B").replace("MiB", "B")
}

#[test]
fn numbers_are_normalised() {
    let home = Home::new();
    let target = home.place("x.raw");
    let text = format!("lab/pc@1 -> {}  4.00 GiB in 8 412 chunks, 2 of 3 in 2.8 s.", target.display());
    assert_eq!(normalised(&text, &home), "lab/pc@N -> ~/x.raw  N GiB in N chunks, N of N in N s.");
}

/// An argument, whether it is text or a path.
fn arg<T: AsRef<OsStr> + ?Sized>(argument: &T) -> &OsStr {
    argument.as_ref()
}

fn push(home: &Home, disk: &Path, image: &str) {
    home.ok([arg("push"), arg(disk), arg(image)]);
}

/// The commands that the help lists.
fn commands(home: &Home) -> BTreeSet<String> {
    let help = home.ok(["--help"]).stdout;
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// Runs every command on the repository that the home names, and checks what it says to programs.
fn every_command(home: &Home) -> BTreeSet<String> {
    let disks = disks();
    let mut used = BTreeSet::from(["help".to_owned()]);
    let mut result = |arguments: &[&OsStr]| {
        used.insert(arguments[0].to_str().unwrap().to_owned());
        home.result(arguments)
    };
    let size = length(&disks.v1);
    let target = home.place("target.raw");

    let label = ["--label", "os=debian", "-m", "the first"].map(arg);
    let pushed =
        result(&[&[arg("push"), arg(&disks.v1), arg("lab/pc"), arg("--tag"), arg("stable")][..], &label].concat());
    let version = &pushed["version"];
    assert_eq!((&version["ref"], &version["number"]), (&"lab/pc@1".into(), &1.into()));
    assert_eq!((&version["tags"], &version["message"]), (&serde_json::json!(["stable"]), &"the first".into()));
    assert_eq!((&version["labels"]["os"], &version["base"]), (&"debian".into(), &Value::Null));
    assert_eq!((&pushed["image_bytes"], &pushed["compared_with"]), (&size.into(), &Value::Null));
    assert!(version["who"].as_str().unwrap().starts_with("anna@"), "{version}");
    assert_eq!(pushed["new_chunks"], version["new_chunks"]);

    let pushed = result(&[arg("push"), arg(&disks.v2), arg("lab/pc")]);
    assert_eq!((&pushed["version"]["number"], &pushed["compared_with"]), (&2.into(), &1.into()));
    let (new, data) = (pushed["new_bytes"].as_u64().unwrap(), pushed["data_bytes"].as_u64().unwrap());
    assert!(new > 0 && new < data / 2, "{pushed}");

    let restored = result(&[arg("restore"), arg("lab/pc:stable"), arg(&target)]);
    assert_same(&target, &disks.v1);
    assert_eq!((&restored["version"]["number"], &restored["image_bytes"]), (&1.into(), &size.into()));
    assert_eq!(restored["target"], target.to_str().unwrap());

    let verified = result(&[arg("verify"), arg(&target)]);
    assert_eq!((&verified["equal"], &verified["version"]["number"]), (&true.into(), &1.into()));
    let verified = result(&[arg("verify"), arg("lab/pc@2")]);
    assert_eq!(verified["data_bytes"], data);

    let updated = result(&[arg("update"), arg(&target), arg("lab/pc")]);
    assert_eq!(updated["version"]["number"], 2);
    assert_same(&target, &disks.v2);
    let rolled = result(&[arg("rollback"), arg(&target)]);
    assert_eq!(rolled["version"]["number"], 1);
    assert_same(&target, &disks.v1);

    let diff = result(&["diff", "lab/pc@1", "lab/pc@2"].map(arg));
    assert_eq!((&diff["from"]["number"], &diff["to"]["number"]), (&1.into(), &2.into()));
    assert!(diff["changed_bytes"].as_u64() > Some(0) && diff["fetch_bytes"].as_u64() > Some(0), "{diff}");
    let shown = result(&["show", "lab/pc"].map(arg));
    let id = shown["version"]["id"].as_str().unwrap().to_owned();
    assert_eq!(id, pushed["version"]["id"].as_str().unwrap());

    let found = result(&[arg("inspect"), arg(&disks.v1)]);
    assert_eq!((&found["table"], &found["partitions"][0]["filesystem"]), (&"gpt".into(), &"ext4".into()));

    let tagged = result(&["tag", "lab/pc@2", "stable"].map(arg));
    assert_eq!((&tagged["tag"], &tagged["number"]), (&"stable".into(), &2.into()));
    let deleted = result(&["tag", "lab/pc", "stable", "--delete"].map(arg));
    assert_eq!(deleted["number"], Value::Null);

    let versions = home.ok(["versions", "lab/pc", "--json"]).events();
    let numbers: Vec<_> = versions.iter().map(|version| (&version["event"], version["number"].as_u64())).collect();
    assert_eq!(numbers, [(&"version".into(), Some(1)), (&"version".into(), Some(2))]);
    let images = home.ok(["images", "--json"]).events();
    assert_eq!((images.len(), &images[0]["event"], &images[0]["versions"]), (1, &"image".into(), &2.into()));
    assert_eq!(images[0]["newest"]["id"], id.as_str());

    // The digits of an id: as many as it takes to have a letter among at least eight.
    let digits = (8..=64).find(|&count| id[..count].contains(|c: char| c.is_ascii_alphabetic())).unwrap();
    let removed = result(&[arg("remove"), arg(&format!("lab/pc@{}", &id[..digits]))]);
    assert_eq!((&removed["number"], &removed["id"]), (&2.into(), &id.as_str().into()));
    let back = result(&["undelete", "lab/pc@2"].map(arg));
    assert_eq!(back["version"]["id"], id.as_str());
    let pinned = result(&["pin", "lab/pc@1"].map(arg));
    assert_eq!((&pinned["number"], &pinned["changed"]), (&1.into(), &true.into()));
    assert_eq!(result(&["unpin", "lab/pc@1"].map(arg))["changed"], true);
    result(&["tag", "lab/pc@1", "kept"].map(arg));
    let fates = home.ok(["forget", "lab/pc", "--keep-tag", "kept", "--json"]).events();
    let fates: Vec<_> = fates.iter().map(|fate| (fate["number"].as_u64(), fate["removed"].as_bool())).collect();
    assert_eq!(fates, [(Some(1), Some(false)), (Some(2), Some(true))]);
    // What was removed can still be brought back.
    let collected = result(&[arg("gc")]);
    assert_eq!((&collected["dry_run"], &collected["purged_versions"]), (&false.into(), &0.into()));
    let scrubbed = result(&[arg("scrub")]);
    assert_eq!((&scrubbed["damaged_packs"], &scrubbed["damaged_versions"]), (&0.into(), &0.into()));
    let stats = result(&[arg("stats")]);
    assert_eq!((&stats["images"], &stats["versions"], &stats["image_bytes"]), (&1.into(), &1.into(), &size.into()));
    used.extend(["versions", "images", "forget"].map(str::to_owned));
    used
}

#[test]
fn every_command_works_embedded() {
    let home = Home::new();
    assert_eq!(every_command(&home), commands(&home));
}

#[test]
fn every_command_works_through_a_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let home = Home::with_repository(server.url());
    every_command(&home);
    assert!(!packs(data.path()).is_empty() && !home.repository().exists());
    assert!(server.stop().success());
    // What the server has taken is there for whoever opens the directory.
    let home = Home::with_repository(data.path().to_str().unwrap());
    home.ok(["verify", "lab/pc@1"]);
}

#[test]
fn results_read_well() {
    let home = Home::new();
    let target = home.place("target.raw");
    let said = |arguments: &[&OsStr]| normalised(&home.ok(arguments).stdout, &home);
    assert_eq!(
        said(&[arg("push"), arg(&disks().v1), arg("lab/pc"), arg("--tag"), arg("stable"), arg("-m"), arg("first")]),
        "lab/pc@N  N B, N B data; N B new in N chunks, sent N B in N s\n"
    );
    assert_eq!(
        said(&[arg("push"), arg(&disks().v1), arg("lab/pc")]),
        "lab/pc@N  N B, N B data; nothing new in N s (compared with @N)\n"
    );
    assert_eq!(
        said(&[arg("restore"), arg("lab/pc:stable"), arg(&target)]),
        "lab/pc@N -> ~/target.raw  N B; kept N B, copied N B, wrote N B, zeroed N B; fetched N B in N chunks, N s\n"
    );
    assert_eq!(said(&[arg("verify"), arg(&target)]), "~/target.raw holds lab/pc@N: N B, read in N s\n");
    assert_eq!(said(&[arg("verify"), arg("lab/pc")]), "lab/pc@N is whole: N B, N B data in N chunks, read in N s\n");
    assert_eq!(said(&["tag", "lab/pc@2", "new"].map(arg)), "lab/pc:new is lab/pc@N\n");
    assert_eq!(said(&["tag", "lab/pc", "new", "--delete"].map(arg)), "lab/pc:new is deleted\n");
    assert_eq!(said(&["pin", "lab/pc"].map(arg)), "lab/pc@N is pinned\n");
    assert_eq!(said(&["pin", "lab/pc"].map(arg)), "lab/pc@N was pinned already\n");
    assert_eq!(said(&["unpin", "lab/pc"].map(arg)), "lab/pc@N is no longer pinned\n");
    assert_eq!(
        said(&["remove", "lab/pc@2"].map(arg)),
        "lab/pc@N is removed; `imprint undelete lab/pc@N` brings it back until N-N-N:N\n"
    );
    assert_eq!(said(&["undelete", "lab/pc@2"].map(arg)), "lab/pc@N is there again\n");
    home.ok(["remove", "lab/pc@2"]);
    let words = |text: String| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let versions: Vec<String> = words(said(&["versions", "lab/pc"].map(arg)));
    assert_eq!(versions, ["VERSION TAGS WHEN SIZE DATA NEW MESSAGE", "@N stable N-N-N:N N B N B N B first"]);
    let images: Vec<String> = words(said(&[arg("images")]));
    assert_eq!(images, ["IMAGE VERSIONS NEWEST WHEN SIZE TAGS", "lab/pc N @N N-N-N:N N B stable@N"]);
    let stats: Vec<String> = words(said(&[arg("stats")]));
    assert!(stats.contains(&"stored N B in N packs".into()), "{stats:?}");

    files::flip(&target, MIB + 5000);
    let ended = home.run([arg("verify"), arg(&target), arg("--against"), arg("lab/pc@1")]);
    assert_eq!(ended.code(), 8);
    let differs = normalised(&ended.stdout, &home);
    assert!(differs.starts_with("~/target.raw differs from lab/pc@N in N B of N B\n  N B from byte N\n"), "{differs}");
    let hint = normalised(&ended.stderr, &home);
    assert_eq!(hint, "  hint: `imprint restore lab/pc@N ~/target.raw` writes only what differs\n");
}

#[test]
fn quiet_says_nothing_but_results_and_errors() {
    let home = Home::new();
    let ended = home.ok([arg("push"), arg(&disks().v1), arg("lab/pc"), arg("--quiet")]);
    assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (1, ""));
    let ended = home.run(["show", "lab/pc@9", "-q"]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 2), "{ended}");
    let ended = home.ok([arg("push"), arg(&disks().v2), arg("lab/pc"), arg("--quiet"), arg("--json")]);
    assert_eq!(ended.events().len(), 1, "{ended}");
}

/// Runs a command that must fail, for people and for programs, and checks both.
fn fails(home: &Home, arguments: &[&OsStr], code: i32, reason: &str, said: &str) {
    let ended = home.run(arguments);
    assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{ended}");
    assert!(ended.stderr.starts_with("imprint: ") && ended.stderr.contains(said), "{said}: {ended}");
    let ended = Running::start(home.command(arguments).arg("--json")).finish();
    let error = ended.last_event("error");
    assert_eq!((ended.code(), error["reason"].as_str().unwrap()), (code, reason), "{ended}");
    let kind = ["internal", "", "not_found", "conflict", "invalid", "exhausted", "unavailable", "corrupt"];
    assert_eq!(error["kind"], kind[code as usize - 1], "{ended}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{ended}");
}

#[test]
fn what_is_not_there_has_exit_code_3() {
    let home = Home::new();
    for arguments in [&["images"][..], &["stats"], &["versions", "lab/pc"], &["verify", "lab/pc"]] {
        let arguments: Vec<_> = arguments.iter().map(arg).collect();
        fails(&home, &arguments, 3, "NO_REPOSITORY", "is not a repository");
        assert!(!home.repository().exists(), "looking at a repository created it");
    }
    push(&home, &disks().v1, "lab/pc");
    for (arguments, reason, said) in [
        (&["versions", "lab/no"][..], "IMAGE_NOT_FOUND", "there is no image lab/no\n  hint: `imprint images`"),
        (&["show", "lab/pc@2"], "VERSION_NOT_FOUND", "lab/pc has no version 2\n  hint: `imprint versions lab/pc`"),
        (&["show", "lab/pc:gone"], "TAG_NOT_FOUND", "lab/pc has no tag gone\n  hint: "),
        (&["show", "lab/pc@00000000a"], "VERSION_NOT_FOUND", "lab/pc has no version 00000000a"),
        (&["restore", "lab/pc:gone", "./target.raw"], "TAG_NOT_FOUND", "lab/pc has no tag gone"),
        (&["tag", "lab/pc@9", "stable"], "VERSION_NOT_FOUND", "lab/pc has no version 9"),
        (&["tag", "lab/pc", "gone", "--delete"], "TAG_NOT_FOUND", "lab/pc has no tag gone"),
        (&["remove", "lab/pc@9"], "VERSION_NOT_FOUND", "lab/pc has no version 9"),
        (&["diff", "lab/pc@1", "lab/pc@9"], "VERSION_NOT_FOUND", "lab/pc has no version 9"),
    ] {
        let arguments: Vec<_> = arguments.iter().map(arg).collect();
        fails(&home, &arguments, 3, reason, said);
    }
    assert!(!home.place("target.raw").exists());
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let home = Home::new();
    for arguments in [
        &[][..],
        &["paint"],
        &["push"],
        &["push", "x.raw", "lab//pc"],
        &["push", "x.raw", "../pc"],
        &["push", "x.raw", "lab/pc", "--tag", "latest"],
        &["push", "x.raw", "lab/pc", "--tag", "7"],
        &["push", "x.raw", "lab/pc", "--label", "novalue"],
        &["show", "lab/pc@beef"],
        &["show", "lab/pc@"],
        &["show", "lab/pc:"],
        &["show", "/dev/sda"],
        &["tag", "lab/pc@1", "latest"],
        &["images", "--repo", "ftp://host"],
        &["images", "--repo", ""],
        &["images", "--nonsense"],
    ] {
        let ended = home.run(arguments);
        assert_eq!(ended.code(), 2, "{arguments:?}: {ended}");
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{ended}");
    }
    assert!(!home.repository().exists());
}

#[test]
fn tags_and_removals_keep_their_rules() {
    let home = Home::new();
    for disk in [&disks().v1, &disks().v2, &disks().v1] {
        push(&home, disk, "lab/pc");
    }
    home.ok(["tag", "lab/pc@1", "stable"]);
    let said = "lab/pc@1 is tagged stable\n  hint: remove a tag with `imprint tag lab/pc TAG --delete` first";
    fails(&home, &["remove", "lab/pc@1"].map(arg), 4, "VERSION_TAGGED", said);
    for vague in ["lab/pc", "lab/pc:stable", "lab/pc:latest"] {
        fails(&home, &["remove", vague].map(arg), 5, "REFUSED", "does not say which version for certain");
    }
    fails(&home, &["tag", "lab/pc@1", "stable", "--delete"].map(arg), 5, "REFUSED", "--delete takes an image");
    home.ok(["tag", "lab/pc:stable", "proven"]);
    home.ok(["tag", "lab/pc@2", "stable"]);
    let number = |reference: &str| home.result(["show", reference])["version"]["number"].as_u64().unwrap();
    assert_eq!([number("lab/pc:stable"), number("lab/pc:proven"), number("lab/pc:latest")], [2, 1, 3]);
    home.ok(["tag", "lab/pc", "proven", "--delete"]);
    home.ok(["remove", "lab/pc@1"]);
    home.ok(["remove", "lab/pc@3"]);
    fails(&home, &["remove", "lab/pc@3"].map(arg), 3, "VERSION_NOT_FOUND", "lab/pc has no version 3");
    assert_eq!(number("lab/pc"), 2);
    assert_eq!(home.result([arg("push"), arg(&disks().v1), arg("lab/pc")])["version"]["number"], 4);
    home.ok(["tag", "lab/pc", "stable", "--delete"]);
    for number in ["lab/pc@2", "lab/pc@4"] {
        home.ok(["remove", number]);
    }
    // All are gone: an image without versions is listed as such.
    let images = home.ok(["images", "--json"]).events();
    assert_eq!((&images[0]["versions"], &images[0]["newest"]), (&0.into(), &Value::Null));
    assert_eq!(home.ok(["versions", "lab/pc"]).stdout, "");
    fails(&home, &["show", "lab/pc"].map(arg), 3, "VERSION_NOT_FOUND", "lab/pc has no version latest");
    assert_eq!(home.result([arg("push"), arg(&disks().v2), arg("lab/pc")])["version"]["number"], 5);
}

#[test]
fn a_directory_that_is_served_says_how_to_reach_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let home = Home::with_repository(data.path().to_str().unwrap());
    for arguments in [&[arg("images")][..], &[arg("push"), arg(&disks().v1), arg("lab/pc")]] {
        fails(&home, arguments, 7, "LOCKED", "is in use by imprint-server");
        let ended = home.run(arguments);
        let url = ended.stderr.split_once("hint: reach it with `--repo ").unwrap().1.split_once('`').unwrap().0;
        assert_eq!(url, server.url());
        home.ok([arguments, &[arg("--repo"), arg(url)]].concat());
    }
    // A second server hears the same.
    let mut second = std::process::Command::new(imprint_tests::programs::program("imprint-server"));
    let ended = Running::start(second.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path())).finish();
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("is in use by") && ended.stderr.contains(server.url()), "{ended}");
}

#[test]
fn a_repository_that_a_client_uses_says_so() {
    let home = Home::new();
    let mut command = home.command(["push", "-", "lab/pc"]);
    let mut pushing = Running::start(command.stdin(Stdio::piped()));
    let mut pipe = pushing.stdin();
    assert!(feed(&mut pipe, &Random::new(61).bytes(2_000_000)));
    wait_until("the push has begun", || home.repository().join("superblock").exists());
    fails(&home, &[arg("images")], 7, "LOCKED", &format!("is in use by imprint (process {})", pushing.id()));
    drop(pipe);
    assert_eq!(pushing.finish().code(), 0);
    home.ok(["images"]);
}

#[test]
fn a_server_that_is_not_there_is_an_error_with_its_address() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = Home::with_repository(&format!("http://127.0.0.1:{port}"));
    let said = format!("cannot reach http://127.0.0.1:{port}");
    fails(&home, &[arg("images")], 7, "UNREACHABLE", &said);
    fails(&home, &[arg("push"), arg(&disks().v1), arg("lab/pc")], 7, "UNREACHABLE", &said);
}

#[test]
fn a_server_that_speaks_something_else_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::with_repository(&format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            feed(&mut &stream, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let ended = home.run(["images"]);
    assert_eq!(ended.code(), 7, "{ended}");
}

#[test]
fn a_directory_with_something_else_does_not_become_a_repository() {
    let home = Home::new();
    fs::create_dir(home.repository()).unwrap();
    fs::write(home.repository().join("thesis.txt"), "precious").unwrap();
    fails(&home, &[arg("push"), arg(&disks().v1), arg("lab/pc")], 5, "NOT_EMPTY", "is neither empty nor a repository");
    assert_eq!(fs::read_dir(home.repository()).unwrap().count(), 1);
    fails(&home, &[arg("images")], 3, "NO_REPOSITORY", "is not a repository");
}

#[test]
fn sources_that_are_no_disks_are_refused() {
    let home = Home::new();
    for (source, said) in [
        (home.place(""), "is a directory, not a disk image"),
        (home.place("missing.raw"), "does not exist"),
        ("/dev/null".into(), "not a file or block device"),
    ] {
        fails(&home, &[arg("push"), arg(&source), arg("lab/pc")], 5, "SOURCE", said);
        assert!(!home.repository().exists(), "a refused source created a repository");
    }
}

#[test]
fn targets_that_are_no_disks_are_refused_and_stay_as_they_are() {
    let home = Home::new();
    push(&home, &disks().v1, "lab/pc");
    let directory = home.place("directory");
    fs::create_dir(&directory).unwrap();
    let repository = home.repository();
    let link = home.place("link");
    std::os::unix::fs::symlink(home.place("nothing"), &link).unwrap();
    let protected = files::write(&home.place(""), "protected.raw", b"keep me");
    let mut permissions = fs::metadata(&protected).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&protected, permissions).unwrap();
    let pack = packs(&repository).remove(0);
    let before = (fs::read(repository.join("superblock")).unwrap(), fs::read(&pack).unwrap());
    for (target, said) in [
        (directory.clone(), "is a directory\n  hint: name a file in it"),
        (home.place("no/such/place.raw"), "does not exist"),
        (repository.join("superblock"), "which belongs to the repository"),
        (repository.join("new.raw"), "which belongs to the repository"),
        (pack.clone(), "which belongs to the repository"),
        ("/dev/null".into(), "not a file or block device"),
        ("/dev/imprint-no-such-disk".into(), "there is no device"),
        (link.clone(), "is a symbolic link to something that does not exist"),
        (protected.clone(), "is read-only"),
    ] {
        let existed = target.exists();
        fails(&home, &[arg("restore"), arg("lab/pc"), arg(&target)], 5, "TARGET", said);
        assert_eq!(target.exists(), existed, "{}", target.display());
    }
    assert!(before == (fs::read(repository.join("superblock")).unwrap(), fs::read(&pack).unwrap()));
    assert_eq!(fs::read(&protected).unwrap(), b"keep me");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    home.ok(["verify", "lab/pc"]);
}

#[test]
fn devices_that_are_too_small_or_in_use_are_refused_and_stay_as_they_are() {
    let home = Home::new();
    push(&home, &disks().v1, "lab/pc");
    let small = files::write(&home.place(""), "small.raw", &Random::new(62).bytes(4 * MIB as usize));
    let copy = home.place("copy.raw");
    fs::copy(&small, &copy).unwrap();
    let Some(device) = LoopDevice::over(&small) else { return };
    let said = "bytes too few: partition 1 ends behind it\n  hint: use a target of at least";
    fails(&home, &[arg("restore"), arg("lab/pc"), arg(device.node())], 5, "TARGET", said);
    drop(device);
    assert_same(&small, &copy);

    // A filesystem of its own on the whole device, large enough for the image.
    let large = home.place("large.raw");
    File::create(&large).unwrap().set_len(length(&disks().v1) + 64 * MIB).unwrap();
    files::run(std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&large));
    let device = LoopDevice::over(&large).unwrap();
    for options in ["rw", "ro"] {
        let mounted = Mounted::new(device.node(), options);
        let said = format!("is in use: it is mounted at {}", mounted.path().display());
        let restore = home.run([arg("restore"), arg("lab/pc"), arg(device.node())]);
        assert_eq!(restore.code(), 5, "{said}: {restore}");
        assert!(restore.stderr.contains("is in use") && restore.stderr.contains(mounted.path().to_str().unwrap()));
        // The file behind the device is as much in use.
        let restore = home.run([arg("restore"), arg("lab/pc"), arg(&large)]);
        assert_eq!(restore.code(), 5, "{restore}");

        let pushed = home.run([arg("push"), arg(device.node()), arg("lab/mounted")]);
        match options {
            "rw" => {
                assert_eq!(pushed.code(), 5, "{pushed}");
                assert!(pushed.stderr.contains("may change while it is read"), "{pushed}");
                assert!(pushed.stderr.contains("remount,ro"), "{pushed}");
                let pushed = home.run([arg("push"), arg(&large), arg("lab/mounted")]);
                assert_eq!(pushed.code(), 5, "the file behind a mounted device: {pushed}");
            }
            _ => assert_eq!(pushed.code(), 0, "{pushed}"),
        }
    }
    files::run(std::process::Command::new("e2fsck").arg("-fn").arg(device.node()));
    assert_eq!(home.ok(["versions", "lab/mounted", "--json"]).events().len(), 1);
}

/// clonezilla#180: what one device held goes to one with another name.
#[test]
fn a_device_is_pushed_and_restored_by_the_command_line() {
    let home = Home::new();
    let (source, target) = (home.place("source.raw"), home.place("target.raw"));
    copy_sparse(&disks().v1, &source);
    fs::write(&target, Random::new(63).bytes(length(&source) as usize)).unwrap();
    let (Some(from), Some(to)) = (LoopDevice::read_only(&source), LoopDevice::over(&target)) else { return };
    home.ok([arg("push"), arg(from.node()), arg("lab/pc")]);
    home.ok([arg("restore"), arg("lab/pc"), arg(to.node())]);
    assert!(home.ok([arg("verify"), arg(to.node())]).stdout.contains("holds lab/pc@1"));
    drop(to);
    assert_same(&target, &source);
    assert_clean(&target);
}

#[test]
fn standard_input_is_a_source_like_any_other() {
    let home = Home::new();
    let from_file = home.result([arg("push"), arg(&disks().v1), arg("lab/file")]);
    let mut command = home.command(["push", "-", "lab/pipe", "--json"]);
    let ended = Running::start(command.stdin(File::open(&disks().v1).unwrap())).finish();
    assert_eq!(ended.code(), 0, "{ended}");
    let from_pipe = ended.last_event("result");
    assert_eq!(from_file["version"]["root"], from_pipe["version"]["root"]);
    assert_eq!((&from_pipe["new_chunks"], &from_pipe["new_nodes"]), (&0.into(), &0.into()));
}

#[test]
fn progress_is_told_to_programs() {
    let home = Home::new();
    let mut command = home.command(["push", "-", "lab/pc", "--json"]);
    let mut pushing = Running::start(command.stdin(Stdio::piped()));
    let mut pipe = pushing.stdin();
    assert!(feed(&mut pipe, &Random::new(64).bytes(MIB as usize)));
    // They come every second, whatever the source does.
    wait_until("two events", || pushing.stdout().matches("\"progress\"").count() >= 2);
    drop(pipe);
    let ended = pushing.finish();
    let events = ended.events();
    let progress: Vec<_> = events.iter().filter(|event| event["event"] == "progress").collect();
    assert!(progress.len() >= 2, "{ended}");
    let done = |event: &Value| event["done_bytes"].as_u64().unwrap();
    assert!(progress.windows(2).all(|pair| done(pair[0]) <= done(pair[1])), "{ended}");
    assert_eq!((&progress[0]["activity"], &progress[0]["total_bytes"]), (&"pushing".into(), &Value::Null));
    assert_eq!(events.last().unwrap()["event"], "result");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    push(&home, &disks().v1, "lab/pc");
    let mut child = home.command(["versions", "lab/pc"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_cannot_be_remembered_has_exit_code_1() {
    let home = Home::new();
    push(&home, &disks().v1, "lab/pc");
    fs::write(home.place("state"), "not a directory").unwrap();
    let target = home.place("target.raw");
    let ended = home.run([arg("restore"), arg("lab/pc"), arg(&target)]);
    assert_eq!(ended.code(), 1, "{ended}");
    assert!(ended.stderr.contains("because: "), "{ended}");
}

#[test]
fn a_full_disk_has_exit_code_6_and_the_repository_goes_on() {
    let Some(disk) = Mounted::memory(120) else { return };
    let repository = disk.path().join("repository");
    let home = Home::with_repository(repository.to_str().unwrap());
    // About as much as is left later, so that the first fits and the second does not.
    let small = files::write(&home.place(""), "small.raw", &Random::new(65).bytes(20 * MIB as usize));
    push(&home, &small, "lab/small");
    fails(&home, &[arg("push"), arg(&disks().noise), arg("lab/pc")], 6, "DISK_FULL", "disk is full");
    let target = home.place("target.raw");
    home.ok([arg("restore"), arg("lab/small"), arg(&target)]);
    assert_same(&target, &small);
    home.ok(["verify", "lab/small"]);
    assert_eq!(home.ok(["images", "--json"]).events().len(), 1);

    // Through a server, which does not stop accepting writes for it.
    let server = Server::start(&repository);
    let through = Home::with_repository(server.url());
    let ended = through.run([arg("push"), arg(&disks().noise), arg("lab/pc")]);
    assert_eq!(ended.code(), 6, "{ended}");
    through.ok(["tag", "lab/small@1", "kept"]);
    through.ok(["verify", "lab/small:kept"]);
}

#[test]
fn clients_push_and_restore_at_the_same_time() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let home = Home::with_repository(server.url());
    push(&home, &disks().v1, "lab/base");
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let url = server.url().to_owned();
            std::thread::spawn(move || {
                let home = Home::with_repository(&url);
                let (disk, image) = (if n % 2 == 0 { &disks().v2 } else { &disks().v1 }, format!("lab/pc{}", n / 2));
                push(&home, disk, &image);
                let target = home.place("target.raw");
                home.ok([arg("restore"), arg("lab/base"), arg(&target)]);
                assert_same(&target, &disks().v1);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // Two clients each have pushed to one image: both are there, under numbers of their own.
    for image in ["lab/pc0", "lab/pc1"] {
        let versions = home.ok(["versions", image, "--json"]).events();
        assert_eq!(versions.len(), 2);
        for number in 1..=2 {
            home.ok(["verify".to_owned(), format!("{image}@{number}")]);
        }
    }
}
