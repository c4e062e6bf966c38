//! What each step does. Returns whether it was possible.

use crate::{
    Action, CHUNK, Collector, Guard, NODE, Objects, PACKS, Pack, PackState, Packs, Reader, Reclamation, State, Stream,
    Upload, Version, state::Loss,
};

pub(crate) fn take(model: &Reclamation, state: &mut State, action: Action) -> bool {
    match action {
        Action::Open { upload, with_base } => open(model, state, upload, with_base),
        Action::OpenAgain(upload) => open_again(model, state, upload),
        Action::Ask(upload) => ask(model, state, upload),
        Action::SendUnasked(upload) => go(state, upload, Stream::Sends(Objects::BOTH)),
        Action::CommitUnasked(upload) => go(state, upload, Stream::ChecksNode),
        Action::SealPack(upload, pack) => seal(state, upload, pack),
        Action::AddPack(upload) => add_uploaded(model, state, upload),
        Action::CheckNode(upload) => check_node(model, state, upload),
        Action::CheckChunk(upload) => check_chunk(model, state, upload),
        Action::Commit(upload) => commit(model, state, upload),
        Action::CutOff(upload) => go(state, upload, Stream::None),
        Action::Expire(upload) => close(state, upload),
        Action::Remove(version) => set(state, version, Version::Removed),
        Action::Undelete(version) => set(state, version, Version::Live),
        Action::Purge(version) => set(state, version, Version::Purged),
        Action::BeginMark(collector) => begin_mark(model, state, collector),
        Action::BeginStamps(collector) => begin_stamps(state, collector),
        Action::Visit(collector) => visit(state, collector),
        Action::Repack(collector, pack, to) => repack(state, collector, pack, to),
        Action::AddCopy(collector) => add_copy(model, state, collector),
        Action::Judge(collector, pack) => judge(model, state, collector, pack),
        Action::Condemn(collector, pack) => condemn(model, state, collector, pack),
        Action::EndMark(collector) => end_mark(state, collector),
        Action::Unlink(pack) => unlink(state, pack),
        Action::Locate => look(state, false),
        Action::Read => read(model, state),
        Action::Crash(loss) => crash(model, state, loss),
    }
}

fn go(state: &mut State, upload: usize, to: Stream) -> bool {
    state.streams[upload] = to;
    true
}

fn set(state: &mut State, version: usize, to: Version) -> bool {
    state.versions[version] = to;
    true
}

fn base_is_usable(model: &Reclamation, state: &State) -> bool {
    state.versions[0] == Version::Live || !model.has(Guard::BaseIsLive)
}

fn open(model: &Reclamation, state: &mut State, upload: usize, with_base: bool) -> bool {
    let open = state.uploads[upload];
    match open.is_open {
        true if open.has_base != with_base => return false,
        true => {}
        false if with_base && !base_is_usable(model, state) => return false,
        false => state.uploads[upload] = Upload { is_open: true, has_base: with_base, holds: Packs::default() },
    }
    // What the base has is neither asked about nor sent.
    go(state, upload, if with_base { Stream::ChecksNode } else { Stream::Open })
}

fn open_again(model: &Reclamation, state: &mut State, upload: usize) -> bool {
    let Upload { has_base, .. } = state.uploads[upload];
    if has_base && !base_is_usable(model, state) {
        return false;
    }
    state.uploads[upload].is_open = true;
    true
}

fn close(state: &mut State, upload: usize) -> bool {
    state.uploads[upload].is_open = false;
    state.uploads[upload].holds = Packs::default();
    true
}

fn ask(model: &Reclamation, state: &mut State, upload: usize) -> bool {
    if !state.uploads[upload].is_open {
        return go(state, upload, Stream::None);
    }
    let missing = Objects::of(|object| locate_and_hold(model, state, upload, object).is_none());
    go(state, upload, if missing.is_empty() { Stream::ChecksNode } else { Stream::Sends(missing) })
}

fn locate_and_hold(model: &Reclamation, state: &mut State, upload: usize, object: usize) -> Option<u8> {
    let pack = state.located[object]?;
    if model.has(Guard::HoldIsTaken) {
        state.uploads[upload].holds = state.uploads[upload].holds.with(pack);
    }
    Some(pack)
}

fn seal(state: &mut State, upload: usize, pack: u8) -> bool {
    let Stream::Sends(objects) = state.streams[upload] else { return false };
    state.packs[pack as usize] = Pack { state: PackState::Sealed, has: objects };
    go(state, upload, Stream::Sealed(pack))
}

fn add_uploaded(model: &Reclamation, state: &mut State, upload: usize) -> bool {
    let Stream::Sealed(pack) = state.streams[upload] else { return false };
    add_pack(model, state, pack);
    if state.uploads[upload].is_open && model.has(Guard::HoldIsTaken) {
        state.uploads[upload].holds = state.uploads[upload].holds.with(pack);
    }
    go(state, upload, Stream::ChecksNode)
}

/// The newer record wins.
fn add_pack(model: &Reclamation, state: &mut State, pack: u8) {
    add_pack_for(model, state, pack, state.packs[pack as usize].has);
}

/// Adds a pack that is found on storage: what another live pack has stays there.
fn add_found_pack(model: &Reclamation, state: &mut State, pack: u8) {
    let has = state.packs[pack as usize].has;
    let is_live = |at: u8| state.packs[at as usize].state == PackState::Live;
    let nowhere = Objects::of(|object| has.contains(object as u8) && !state.located[object].is_some_and(is_live));
    add_pack_for(model, state, pack, nowhere);
}

/// Adds a pack, and places these of its objects in it.
fn add_pack_for(model: &Reclamation, state: &mut State, pack: u8, objects: Objects) {
    state.packs[pack as usize].state = PackState::Live;
    for object in objects.each() {
        let former = state.located[object].replace(pack);
        let (Some(former), true) = (former, model.has(Guard::HoldFollowsObject)) else { continue };
        for upload in &mut state.uploads {
            if upload.holds.contains(former) {
                upload.holds = upload.holds.with(pack);
            }
        }
    }
    if model.has(Guard::AddedPackIsStamped) {
        stamp(state, Packs::default().with(pack));
    }
}

fn stamp(state: &mut State, packs: Packs) {
    for collector in &mut state.collectors {
        if let Collector::Marks { stamped, .. } | Collector::Sweeps { stamped, .. } = collector {
            *stamped = stamped.and(packs);
        }
    }
}

fn check_node(model: &Reclamation, state: &mut State, upload: usize) -> bool {
    if !state.uploads[upload].is_open {
        return go(state, upload, Stream::None);
    }
    if state.uploads[upload].has_base {
        // The base has it at the same place.
        return go(state, upload, Stream::Checked);
    }
    let found = locate_and_hold(model, state, upload, NODE);
    if found.is_none() && (model.has(Guard::MemoryIsNoProof) || !state.node_is_cached) {
        return go(state, upload, Stream::Sends(Objects::default().with(NODE as u8)));
    }
    state.node_is_cached = true;
    go(state, upload, if model.has(Guard::NodesAreWalked) { Stream::ChecksChunk } else { Stream::Checked })
}

fn check_chunk(model: &Reclamation, state: &mut State, upload: usize) -> bool {
    if !state.uploads[upload].is_open {
        return go(state, upload, Stream::None);
    }
    match locate_and_hold(model, state, upload, CHUNK) {
        Some(_) => go(state, upload, Stream::Checked),
        None => go(state, upload, Stream::Sends(Objects::default().with(CHUNK as u8))),
    }
}

fn commit(model: &Reclamation, state: &mut State, upload: usize) -> bool {
    if model.has(Guard::CommitNeedsUpload) && !state.uploads[upload].is_open {
        return go(state, upload, Stream::None);
    }
    if model.has(Guard::CommitStamps) {
        stamp(state, state.uploads[upload].holds);
    }
    state.versions[upload + 1] = Version::Live;
    close(state, upload);
    go(state, upload, Stream::None)
}

fn begin_mark(model: &Reclamation, state: &mut State, collector: usize) -> bool {
    let Collector::Idle(left) = state.collectors[collector] else { return false };
    let is_root = |version: &Version| match version {
        Version::Live => true,
        Version::Removed => model.has(Guard::PurgeComesFirst),
        Version::Absent | Version::Purged => false,
    };
    let is_base = |upload: &Upload| model.has(Guard::BaseIsRoot) && upload.is_open && upload.has_base;
    let is_reached = state.versions.iter().any(is_root) || state.uploads.iter().any(is_base);
    state.collectors[collector] = Collector::Listed { left: left - 1, is_reached };
    !model.has(Guard::MarkBeginsAtOnce) || begin_stamps(state, collector)
}

fn begin_stamps(state: &mut State, collector: usize) -> bool {
    let Collector::Listed { left, is_reached } = state.collectors[collector] else { return false };
    state.collectors[collector] = match is_reached {
        true => Collector::Marks { left, node: None, stamped: Packs::default() },
        false => sweep(left, [None; 2], Packs::default()),
    };
    true
}

const fn sweep(left: u8, marked: [Option<u8>; 2], stamped: Packs) -> Collector {
    Collector::Sweeps { left, marked, stamped, copied: Packs::NONE, sealed: None, judged: None }
}

/// What is located nowhere stops the collection.
fn visit(state: &mut State, collector: usize) -> bool {
    let Collector::Marks { left, node, stamped } = state.collectors[collector] else { return false };
    state.collectors[collector] = match node {
        None => match state.located[NODE] {
            Some(pack) => Collector::Marks { left, node: Some(pack), stamped },
            None => Collector::Idle(left),
        },
        Some(node) => match state.located[CHUNK] {
            Some(chunk) => sweep(left, [Some(chunk), Some(node)], stamped),
            None => Collector::Idle(left),
        },
    };
    true
}

fn repack(state: &mut State, collector: usize, pack: u8, to: u8) -> bool {
    let located = state.located;
    let Collector::Sweeps { marked, copied, sealed, .. } = &mut state.collectors[collector] else { return false };
    let objects = Objects::of(|object| marked[object] == Some(pack) && located[object] == Some(pack));
    *copied = copied.with(pack);
    if objects.is_empty() {
        return true;
    }
    *sealed = Some(to);
    state.packs[to as usize] = Pack { state: PackState::Sealed, has: objects };
    true
}

fn add_copy(model: &Reclamation, state: &mut State, collector: usize) -> bool {
    let Collector::Sweeps { sealed, .. } = &mut state.collectors[collector] else { return false };
    let Some(pack) = sealed.take() else { return false };
    add_pack(model, state, pack);
    true
}

fn may_be_condemned(model: &Reclamation, state: &State, collector: usize, pack: u8) -> bool {
    let Collector::Sweeps { marked, stamped, .. } = state.collectors[collector] else { return false };
    let is_held = state.uploads.iter().any(|upload| upload.is_open && upload.holds.contains(pack));
    let is_marked =
        [CHUNK, NODE].into_iter().any(|object| marked[object] == Some(pack) && state.located[object] == Some(pack));
    let is_spared = stamped.contains(pack)
        || (is_held && model.has(Guard::HoldIsRespected))
        || (is_marked && model.has(Guard::MarkedStays));
    state.packs[pack as usize].state == PackState::Live && !is_spared
}

fn judge(model: &Reclamation, state: &mut State, collector: usize, pack: u8) -> bool {
    if !may_be_condemned(model, state, collector, pack) {
        return false;
    }
    let Collector::Sweeps { judged, .. } = &mut state.collectors[collector] else { return false };
    *judged = Some(pack);
    true
}

fn condemn(model: &Reclamation, state: &mut State, collector: usize, pack: u8) -> bool {
    let Collector::Sweeps { judged, .. } = state.collectors[collector] else { return false };
    if judged.is_none() && !may_be_condemned(model, state, collector, pack) {
        return false;
    }
    if let Collector::Sweeps { judged, .. } = &mut state.collectors[collector] {
        *judged = None;
    }
    state.packs[pack as usize].state = PackState::Condemned;
    state.unlinking = state.unlinking.with(pack);
    for place in &mut state.located {
        place.take_if(|place| *place == pack);
    }
    true
}

fn end_mark(state: &mut State, collector: usize) -> bool {
    let Collector::Sweeps { left, .. } = state.collectors[collector] else { return false };
    state.collectors[collector] = Collector::Idle(left);
    true
}

fn unlink(state: &mut State, pack: u8) -> bool {
    state.unlinking = state.unlinking.without(pack);
    state.packs[pack as usize] = Pack { state: PackState::Deleted, has: Objects::NONE };
    true
}

/// Locates the chunk, for the first time or again.
fn look(state: &mut State, again: bool) -> bool {
    state.reader = match state.located[CHUNK] {
        Some(pack) => Reader::At { pack, again },
        None => failed(state),
    };
    true
}

fn read(model: &Reclamation, state: &mut State) -> bool {
    let Reader::At { pack, again } = state.reader else { return false };
    if state.is_readable(pack) {
        state.reader = Reader::None;
        return true;
    }
    let moved = state.located[CHUNK] != Some(pack);
    if moved && model.has(Guard::ReaderLocatesAgain) && (!again || model.has(Guard::ReaderFollows)) {
        return look(state, true);
    }
    state.reader = failed(state);
    true
}

/// Nobody is promised a version that was removed meanwhile.
fn failed(state: &State) -> Reader {
    if state.versions[0] == Version::Live { Reader::Failed } else { Reader::None }
}

fn crash(model: &Reclamation, state: &mut State, loss: Loss) -> bool {
    state.crashes -= 1;
    state.streams = [Stream::None; 2];
    state.node_is_cached = false;
    state.reader = Reader::None;
    for collector in &mut state.collectors {
        let (Collector::Idle(left)
        | Collector::Listed { left, .. }
        | Collector::Marks { left, .. }
        | Collector::Sweeps { left, .. }) = *collector;
        *collector = Collector::Idle(left);
    }
    match loss {
        Loss::Nothing => {}
        Loss::Holds => state.uploads.iter_mut().for_each(|upload| upload.holds = Packs::default()),
        Loss::FirstRecordWins | Loss::LastRecordWins => {
            (0..state.uploads.len()).for_each(|upload| _ = close(state, upload));
            state.located = [None; 2];
        }
    }
    recover(model, state, loss);
    true
}

/// Unlinks what was condemned, and adds the packs that the catalog does not know.
fn recover(model: &Reclamation, state: &mut State, loss: Loss) {
    let forgets_packs = matches!(loss, Loss::FirstRecordWins | Loss::LastRecordWins);
    for pack in order(loss) {
        match state.packs[pack as usize].state {
            PackState::Condemned if model.has(Guard::CondemnedStaysOut) => _ = unlink(state, pack),
            PackState::Condemned | PackState::Live | PackState::Sealed if forgets_packs => {
                add_pack(model, state, pack);
            }
            PackState::Sealed => add_found_pack(model, state, pack),
            _ => {}
        }
    }
}

fn order(loss: Loss) -> Vec<u8> {
    match loss {
        // Added last, the first one's records win.
        Loss::FirstRecordWins => (0..PACKS).rev().collect(),
        _ => (0..PACKS).collect(),
    }
}
