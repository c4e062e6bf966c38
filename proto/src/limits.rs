//! Every limit of the protocol, in one table; docs/protocol.md says who keeps which.
//!
//! Both sides refuse longer messages. The server refuses what is above a limit on a request, and bounds its own answers.
//! How much waits unanswered on a stream is up to the client; the server reads on only as far as its queues have room.

/// Largest message that either side accepts, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Senders fill data messages up to about this many payload bytes.
pub const TARGET_MESSAGE_BYTES: usize = 1 << 20;
/// Most ids in one ask.
pub const MAX_ASK_IDS: usize = 1024;
/// Most asks that may wait for their answer on one stream.
pub const MAX_UNANSWERED_ASKS: usize = 32;
/// Most ids that one "missing" lists; what is beyond is listed after the next commit.
pub const MAX_MISSING_IDS: usize = 32 << 10;
/// Most offsets in one request for chunks.
pub const MAX_FETCH_OFFSETS: usize = 1024;
/// Most requests for chunks that may wait for their answer on one stream.
pub const MAX_UNANSWERED_FETCHES: usize = 16;
/// Most damaged objects that the server lists when an upload with a base is opened.
pub const MAX_DAMAGED_IDS: usize = 32 << 10;
/// Longest content record, in bytes.
pub const MAX_CONTENT_RECORD_BYTES: usize = 1 << 20;
/// Most tags set by one commit.
pub const MAX_COMMIT_TAGS: usize = 16;
/// Most tags in one set of rules for what to keep.
pub const MAX_KEEP_TAGS: usize = 64;
/// Longest name of a person or program, in bytes.
pub const MAX_WHO_BYTES: usize = 255;
