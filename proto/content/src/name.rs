//! Names of images and tags, and refs: how a user says which version is meant.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Longest image name, in bytes.
pub const MAX_IMAGE_NAME_BYTES: usize = 255;
/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 64;
/// Fewest digits that may abbreviate a version id.
pub const MIN_ID_DIGITS: usize = 8;
/// The tag that always means the newest version; it cannot be set.
pub const LATEST: &str = "latest";

/// Why a name or ref is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not an image name.
    #[error(
        "{0:?} is not an image name: use letters, digits, '.', '_' and '-', parts separated by '/', \
         each starting with a letter or digit, at most {MAX_IMAGE_NAME_BYTES} bytes"
    )]
    Image(String),
    /// Not a tag.
    #[error(
        "{0:?} is not a tag: use letters, digits, '.', '_' and '-', starting with a letter, \
         at most {MAX_TAG_BYTES} bytes"
    )]
    Tag(String),
    /// `latest` is given by the repository.
    #[error("the tag {LATEST:?} always means the newest version and cannot be set")]
    Latest,
    /// Not what may follow `@`.
    #[error(
        "{0:?} is neither a version number nor the start of a version id \
         (at least {MIN_ID_DIGITS} hexadecimal digits, one of them a letter)"
    )]
    Version(String),
}

/// A valid image name such as `lab/workstation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName(String);

/// A valid tag such as `stable`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(String);

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl ImageName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_part =
            |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(is_name_char);
        if text.len() <= MAX_IMAGE_NAME_BYTES && text.split('/').all(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Image(text.chars().take(300).collect()))
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TagName {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == LATEST {
            return Err(NameError::Latest);
        }
        let valid = text.len() <= MAX_TAG_BYTES
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(is_name_char);
        if valid { Ok(Self(text.to_owned())) } else { Err(NameError::Tag(text.chars().take(100).collect())) }
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which version of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest.
    Latest,
    /// The one that a tag names.
    Tag(TagName),
    /// The one with this number.
    Number(u64),
    /// The one whose id starts with these lower-case hexadecimal digits.
    IdPrefix(String),
}

/// An image and which of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// The image.
    pub image: ImageName,
    /// Which version.
    pub selector: Selector,
}

impl Ref {
    /// The newest version of `image`.
    #[must_use]
    pub const fn latest(image: ImageName) -> Self {
        Self { image, selector: Selector::Latest }
    }

    /// Whether an argument that may be a ref or a path is a path: it starts with `/` or `.`.
    #[must_use]
    pub fn is_path(argument: &str) -> bool {
        argument.starts_with(['/', '.'])
    }
}

impl FromStr for Ref {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((image, version)) = text.split_once('@') {
            return Ok(Self { image: image.parse()?, selector: parse_version(version)? });
        }
        match text.split_once(':') {
            Some((image, LATEST)) => Ok(Self::latest(image.parse()?)),
            Some((image, tag)) => Ok(Self { image: image.parse()?, selector: Selector::Tag(tag.parse()?) }),
            None => Ok(Self::latest(text.parse()?)),
        }
    }
}

fn parse_version(text: &str) -> Result<Selector, NameError> {
    let error = || NameError::Version(text.chars().take(100).collect());
    if text.is_empty() || text.len() > 64 || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(error());
    }
    if text.chars().all(|c| c.is_ascii_digit()) {
        return text.parse().map(Selector::Number).map_err(|_| error());
    }
    if text.len() < MIN_ID_DIGITS {
        return Err(error());
    }
    Ok(Selector::IdPrefix(text.to_ascii_lowercase()))
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Latest => write!(f, "{}", self.image),
            Selector::Tag(tag) => write!(f, "{}:{tag}", self.image),
            Selector::Number(number) => write!(f, "{}@{number}", self.image),
            Selector::IdPrefix(digits) => write!(f, "{}@{digits}", self.image),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Result<Selector, NameError> {
        text.parse::<Ref>().map(|r| r.selector)
    }

    #[test]
    fn refs_name_the_newest_a_tag_a_number_or_an_id() {
        assert_eq!(selector("lab/workstation"), Ok(Selector::Latest));
        assert_eq!(selector("lab/workstation:latest"), Ok(Selector::Latest));
        assert_eq!(selector("lab/workstation:stable"), Ok(Selector::Tag("stable".parse().unwrap())));
        assert_eq!(selector("lab/workstation@7"), Ok(Selector::Number(7)));
        assert_eq!(selector("lab/workstation@12345678"), Ok(Selector::Number(12_345_678)));
        assert_eq!(selector("lab/workstation@1234567A"), Ok(Selector::IdPrefix("1234567a".into())));
    }

    #[test]
    fn what_is_no_ref_is_refused() {
        for text in ["", "/dev/sda", ".x", "a//b", "a/", "a b", "a:", "a:9", "a@", "a@beef", "a@x1234567", "ä", "-a"] {
            assert!(text.parse::<Ref>().is_err(), "{text}");
        }
        assert!("a".repeat(256).parse::<ImageName>().is_err());
        assert_eq!("latest".parse::<TagName>(), Err(NameError::Latest));
    }

    #[test]
    fn refs_print_as_they_are_written() {
        for text in ["a", "a/b:stable", "a@7", "a@0123abcd"] {
            assert_eq!(text.parse::<Ref>().unwrap().to_string(), text);
        }
    }
}
