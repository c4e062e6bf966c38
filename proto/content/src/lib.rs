//! What a version *is*: chunk ids, extents, the Merkle tree over them, and the record that names it.
//!
//! Pure and synchronous: everything here takes slices and returns values. Decoders never panic and never
//! allocate more than the bytes they were given justify. Layouts are normative in `docs/format.md`.

pub mod bytes;
pub mod extent;
pub mod id;
pub mod name;
pub mod payload;
pub mod profile;
pub mod record;
pub mod tree;

pub use bytes::DecodeError;
pub use extent::{Extent, ExtentKind};
pub use id::{ChunkId, NodeId, ObjectId, ParseIdError, VersionId};
pub use name::{ImageName, NameError, Ref, Selector, TagName};
pub use payload::{Codec, Payload, PayloadError};
pub use profile::Profile;
pub use record::{CaptureMode, ContentRecord};
