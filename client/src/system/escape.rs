//! Octal escapes: `/proc` writes blanks in paths as `\040`.

/// Replaces `\ooo` by the byte it stands for; anything else stays.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if let Some(byte) = escaped_byte(&bytes[at..]) {
            plain.push(byte);
            at += 4;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    plain
}

fn escaped_byte(bytes: &[u8]) -> Option<u8> {
    let [b'\\', digits @ ..] = bytes.get(..4)? else { return None };
    digits.iter().try_fold(0_u8, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_become_bytes() {
        assert_eq!(unescape(r"/mnt/a\040b\011c\134d"), b"/mnt/a b\tc\\d");
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in [r"a\04", r"a\0x0", r"\", r"\777", "plain", ""] {
            assert_eq!(unescape(text), text.as_bytes());
        }
    }
}
