//! What can happen, and which function of the implementation each step stands for.

use crate::{
    CHUNK, Collector, Guard, NODE, PACKS, PackState, Reader, Reclamation, State, Stream, Version, state::Loss,
};

/// One step. Indices are those of uploads, collectors, versions and packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client opens its upload, for the first time or again.
    Open {
        /// Which one.
        upload: usize,
        /// With version 0 as its base.
        with_base: bool,
    },
    /// A second stream opens an upload that was closed under the first.
    OpenAgain(usize),
    /// The client asks about chunk and node.
    Ask(usize),
    /// It sends both without asking.
    SendUnasked(usize),
    /// It commits without asking.
    CommitUnasked(usize),
    /// What it sent becomes a sealed pack.
    SealPack(usize, u8),
    /// The sealed pack becomes known.
    AddPack(usize),
    /// The closure check looks for the node.
    CheckNode(usize),
    /// The closure check looks for the chunk.
    CheckChunk(usize),
    /// The commit's decision.
    Commit(usize),
    /// The client, or its connection, goes away.
    CutOff(usize),
    /// The upload is closed, having been idle for long.
    Expire(usize),
    /// A version is removed.
    Remove(usize),
    /// A removed version is brought back.
    Undelete(usize),
    /// A removed version is given up, its grace being over.
    Purge(usize),
    /// A collection begins: roots are listed, stamping begins.
    BeginMark(usize),
    /// Only without [`Guard::MarkBeginsAtOnce`]: stamping begins.
    BeginStamps(usize),
    /// The mark visits the next object.
    Visit(usize),
    /// Marked objects of a pack are copied to a new one, which is sealed.
    Repack(usize, u8, u8),
    /// The copy becomes known.
    AddCopy(usize),
    /// Only without [`Guard::CondemnIsAtomic`]: a pack is found fit to be condemned.
    Judge(usize, u8),
    /// A pack is condemned.
    Condemn(usize, u8),
    /// A collection ends.
    EndMark(usize),
    /// The file of a condemned pack is removed.
    Unlink(u8),
    /// A restore looks for the chunk.
    Locate,
    /// It reads it.
    Read,
    /// The process stops and is started again.
    Crash(Loss),
}

impl Action {
    /// The file below `repo-server/src` and the function that does it.
    #[must_use]
    pub const fn implemented_in(&self) -> (&'static str, &'static str) {
        match self {
            Self::Open { .. } | Self::OpenAgain(_) => ("catalog/embedded/uploads.rs", "open_upload"),
            Self::Ask(_) => ("catalog/embedded/objects.rs", "locate_and_hold"),
            Self::SendUnasked(_) => ("store/upload.rs", "store"),
            Self::CommitUnasked(_) => ("store/upload.rs", "check_and_commit"),
            Self::SealPack(..) => ("store/pack_writer.rs", "seal"),
            Self::AddPack(_) | Self::AddCopy(_) => ("catalog/embedded/objects.rs", "add_pack"),
            Self::CheckNode(_) => ("store/closure.rs", "push_located"),
            Self::CheckChunk(_) => ("store/closure.rs", "look_up_chunks"),
            Self::Commit(_) => ("catalog/embedded/decisions.rs", "commit"),
            Self::CutOff(_) => ("service/push.rs", "serve"),
            Self::Expire(_) => ("catalog/embedded/uploads.rs", "expire_uploads"),
            Self::Remove(_) => ("catalog/embedded/retention.rs", "remove_version"),
            Self::Undelete(_) => ("catalog/embedded/retention.rs", "undelete_version"),
            Self::Purge(_) => ("catalog/embedded/retention.rs", "purge_version"),
            Self::BeginMark(_) | Self::BeginStamps(_) => ("catalog/embedded/reclamation.rs", "begin_mark"),
            Self::Visit(_) => ("store/reclaim/mark.rs", "visit"),
            Self::Repack(..) => ("store/reclaim/repack.rs", "repack"),
            Self::Judge(..) => ("catalog/embedded/reclamation.rs", "take_from_live"),
            Self::Condemn(..) => ("catalog/embedded/reclamation.rs", "condemn"),
            Self::EndMark(_) => ("catalog/embedded/reclamation.rs", "end_mark"),
            Self::Unlink(_) => ("store/reclaim/delete.rs", "delete_condemned"),
            Self::Locate | Self::Read => ("store/fetch.rs", "read"),
            Self::Crash(_) => ("store/recover.rs", "index_unknown_packs"),
        }
    }

    /// One of each kind.
    #[must_use]
    pub fn one_of_each() -> Vec<Self> {
        vec![
            Self::Open { upload: 0, with_base: false },
            Self::OpenAgain(0),
            Self::Ask(0),
            Self::SendUnasked(0),
            Self::CommitUnasked(0),
            Self::SealPack(0, 0),
            Self::AddPack(0),
            Self::CheckNode(0),
            Self::CheckChunk(0),
            Self::Commit(0),
            Self::CutOff(0),
            Self::Expire(0),
            Self::Remove(0),
            Self::Undelete(0),
            Self::Purge(0),
            Self::BeginMark(0),
            Self::BeginStamps(0),
            Self::Visit(0),
            Self::Repack(0, 0, 0),
            Self::AddCopy(0),
            Self::Judge(0, 0),
            Self::Condemn(0, 0),
            Self::EndMark(0),
            Self::Unlink(0),
            Self::Locate,
            Self::Read,
            Self::Crash(Loss::Nothing),
        ]
    }
}

/// The actions that may be taken in a state; [`steps::take`](crate::steps::take) refuses those that turn out not to be possible.
pub(crate) fn possible(model: &Reclamation, state: &State, actions: &mut Vec<Action>) {
    (0..model.uploads).for_each(|upload| of_upload(model, state, upload, actions));
    (0..model.collectors).for_each(|collector| of_collector(model, state, collector, actions));
    for (version, is) in state.versions.iter().enumerate() {
        match is {
            Version::Live => actions.push(Action::Remove(version)),
            Version::Removed => actions.extend([Action::Undelete(version), Action::Purge(version)]),
            Version::Absent | Version::Purged => {}
        }
    }
    actions.extend((0..PACKS).filter(|pack| state.unlinking.contains(*pack)).map(Action::Unlink));
    if model.reads {
        match state.reader {
            Reader::None if state.versions[0] == Version::Live => actions.push(Action::Locate),
            Reader::At { .. } => actions.push(Action::Read),
            _ => {}
        }
    }
    if state.crashes > 0 {
        actions.extend([Loss::Nothing, Loss::Holds, Loss::FirstRecordWins, Loss::LastRecordWins].map(Action::Crash));
    }
}

fn of_upload(model: &Reclamation, state: &State, upload: usize, actions: &mut Vec<Action>) {
    match state.streams[upload] {
        Stream::None if state.versions[upload + 1] == Version::Absent => {
            actions.extend([false, true].map(|with_base| Action::Open { upload, with_base }));
        }
        Stream::None => {}
        Stream::Open => {
            actions.extend([Action::Ask(upload), Action::SendUnasked(upload), Action::CommitUnasked(upload)]);
        }
        Stream::Sends(_) => actions.extend(free_packs(model, state).map(|pack| Action::SealPack(upload, pack))),
        Stream::Sealed(_) => actions.push(Action::AddPack(upload)),
        Stream::ChecksNode => actions.push(Action::CheckNode(upload)),
        Stream::ChecksChunk => actions.push(Action::CheckChunk(upload)),
        Stream::Checked => actions.push(Action::Commit(upload)),
    }
    if state.is_in_use(upload) {
        actions.push(Action::CutOff(upload));
    }
    let keeps = model.has(Guard::UseKeepsUpload) && !model.closes_uploads_in_use;
    if state.uploads[upload].is_open && !(keeps && state.is_in_use(upload)) {
        actions.push(Action::Expire(upload));
    }
    if model.second_streams && state.is_in_use(upload) && !state.uploads[upload].is_open {
        actions.push(Action::OpenAgain(upload));
    }
}

fn of_collector(model: &Reclamation, state: &State, collector: usize, actions: &mut Vec<Action>) {
    match state.collectors[collector] {
        Collector::Idle(0) => {}
        Collector::Idle(_) => actions.push(Action::BeginMark(collector)),
        Collector::Listed { .. } => actions.push(Action::BeginStamps(collector)),
        Collector::Marks { .. } => actions.push(Action::Visit(collector)),
        Collector::Sweeps { marked, copied, sealed, judged, .. } => {
            let live = (0..PACKS).filter(|pack| state.packs[*pack as usize].state == PackState::Live);
            for pack in live {
                let has_marked = [CHUNK, NODE].into_iter().any(|object| marked[object] == Some(pack));
                if has_marked && model.repacks && sealed.is_none() && !copied.contains(pack) {
                    actions.extend(free_packs(model, state).map(|to| Action::Repack(collector, pack, to)));
                }
                // Dead, or rewritten.
                if (!has_marked || copied.contains(pack)) && judged.is_none() {
                    actions.push(match model.has(Guard::CondemnIsAtomic) {
                        true => Action::Condemn(collector, pack),
                        false => Action::Judge(collector, pack),
                    });
                }
            }
            actions.extend(judged.map(|pack| Action::Condemn(collector, pack)));
            match sealed {
                Some(_) => actions.push(Action::AddCopy(collector)),
                None => actions.push(Action::EndMark(collector)),
            }
        }
    }
}

/// Names for a new pack: the first that was never used.
fn free_packs(model: &Reclamation, state: &State) -> impl Iterator<Item = u8> {
    let is_free = |pack: &u8| match state.packs[*pack as usize].state {
        PackState::Unused => true,
        PackState::Condemned | PackState::Deleted => !model.has(Guard::NamesAreNew),
        PackState::Sealed | PackState::Live => false,
    };
    let unused = (0..PACKS).find(|pack| state.packs[*pack as usize].state == PackState::Unused);
    let free: Vec<u8> = match model.has(Guard::NamesAreNew) {
        true => unused.into_iter().collect(),
        false => (0..PACKS).filter(is_free).collect(),
    };
    free.into_iter()
}
