//! Random ids: names that are given once and never reused.

use imprint_content::byte_id;

byte_id! {
    /// Names a repository for life.
    RepositoryId, 16
}
byte_id! {
    /// Names a pack. Never derived from content, never reused.
    PackId, 16
}
byte_id! {
    /// Names an upload; chosen by the client, the key that makes commit idempotent.
    UploadId, 16
}

macro_rules! random {
    ($($name:ident),*) => {
        $(impl $name {
            /// A new one from the system's random source.
            #[must_use]
            pub fn random() -> Self {
                Self(*uuid::Uuid::new_v4().as_bytes())
            }
        })*
    };
}

random!(RepositoryId, PackId, UploadId);
