//! The checks that the protocol rests on.

/// One check of the implementation, which can be left out of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// "Do not send it" takes a hold in the same transaction (`locate_and_hold`).
    HoldIsTaken,
    /// A held pack is not condemned (`Refusal::Held`).
    HoldIsRespected,
    /// Where a newer pack takes over an object, whoever held the old one holds it too (`add_pack`).
    HoldFollowsObject,
    /// A commit stamps the packs that it relied on (`stamp_what_is_held`).
    CommitStamps,
    /// A pack that is added is stamped (`add_pack`).
    AddedPackIsStamped,
    /// Stamps begin at the moment at which the roots are listed (`begin_mark`).
    MarkBeginsAtOnce,
    /// The base of an open upload is a root (`begin_mark`).
    BaseIsRoot,
    /// The base is live when the upload is opened (`open_upload`).
    BaseIsLive,
    /// A version in its grace period is a root until it is purged (`begin_mark`, `purge_version`).
    PurgeComesFirst,
    /// A pack in which a marked object is still located is not condemned (`Refusal::Marked`).
    MarkedStays,
    /// Looking, deciding and forgetting the places is one transaction (`condemn`).
    CondemnIsAtomic,
    /// The closure check walks every node that the base does not have at that place (`ClosureCheck`).
    NodesAreWalked,
    /// The closure check takes only what a live pack has, never what is merely remembered (`ClosureCheck::push_located`).
    MemoryIsNoProof,
    /// A commit needs its upload to be open (`plan_commit`).
    CommitNeedsUpload,
    /// An upload that a stream works on does not expire (`expire_uploads`).
    UseKeepsUpload,
    /// A pack that was condemned is never added again (`add_pack`).
    CondemnedStaysOut,
    /// The name of a pack is never given again (`PackId::random`).
    NamesAreNew,
    /// A reader that meets a missing pack looks where the object is now (`ChunkReader::read`).
    ReaderLocatesAgain,
    /// It does so as long as the object moves, not only once.
    ReaderFollows,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::HoldIsTaken,
        Self::HoldIsRespected,
        Self::HoldFollowsObject,
        Self::CommitStamps,
        Self::AddedPackIsStamped,
        Self::MarkBeginsAtOnce,
        Self::BaseIsRoot,
        Self::BaseIsLive,
        Self::PurgeComesFirst,
        Self::MarkedStays,
        Self::CondemnIsAtomic,
        Self::NodesAreWalked,
        Self::MemoryIsNoProof,
        Self::CommitNeedsUpload,
        Self::UseKeepsUpload,
        Self::CondemnedStaysOut,
        Self::NamesAreNew,
        Self::ReaderLocatesAgain,
        Self::ReaderFollows,
    ];
}
