//! Text from elsewhere: messages, names and labels were written by others and may hold anything.

/// The text without characters that would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The first line of a text, for a table.
pub(crate) fn first_line(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\r\tc\u{9b}d\ne ä"), "a\u{fffd}[31mb\u{fffd}\u{fffd}c\u{fffd}d\ne ä");
        assert_eq!(first_line("one\r\ntwo"), "one");
        assert_eq!(first_line(""), "");
    }
}
