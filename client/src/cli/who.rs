//! Who pushes, as it is written into a version: `user@host`.

use std::env;

use imprint_proto::limits::MAX_WHO_BYTES;

/// `user@host`. A claim for people to read, not a proof.
pub(crate) fn who() -> String {
    let host = rustix::system::uname();
    name(user().as_deref(), &host.nodename().to_string_lossy())
}

fn user() -> Option<String> {
    ["USER", "LOGNAME"].iter().filter_map(|name| env::var(name).ok()).find(|user| !user.is_empty())
}

fn name(user: Option<&str>, host: &str) -> String {
    let mut who = match user {
        Some(user) => format!("{user}@{host}"),
        None => format!("uid{}@{host}", rustix::process::getuid().as_raw()),
    };
    who.truncate(who.floor_char_boundary(MAX_WHO_BYTES));
    who
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(name(Some("anna"), "lab1"), "anna@lab1");
        assert!(name(None, "lab1").starts_with("uid"));
        let long = name(Some(&"ä".repeat(200)), "lab1");
        assert_eq!(long, "ä".repeat(127));
    }
}
