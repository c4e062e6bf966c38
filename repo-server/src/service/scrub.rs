//! Scrubs: asked for by a client, and on a schedule.

use std::{num::NonZero, pin::pin, time::Duration};

use futures::StreamExt;
use imprint_proto::v1::{self, scrub_response::Step};
use tokio::{
    sync::mpsc::{self, Sender, UnboundedReceiver},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::{error, info};

use crate::{
    Error,
    pack::{PackDamage, PackPart, Purpose},
    store::scrub::{
        DamagedPack, DamagedVersion, PackState, ScrubControl, ScrubFinding, ScrubOptions, ScrubPhase, ScrubProgress,
        ScrubReport, ScrubScope,
    },
};

use super::{Answers, Service};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(250);
/// A scheduled scrub begins so long after the server, so that one that is restarted often scrubs too.
const FIRST: Duration = Duration::from_secs(3600);
/// How often a schedule looks for packs that are due: in between they add up.
const LOOK: Duration = Duration::from_secs(24 * 3600);

pub(super) fn start(service: Service, request: &v1::ScrubRequest) -> Answers<v1::ScrubResponse> {
    let scope = match request.older_than_ms {
        Some(age) => ScrubScope::OlderThan(Duration::from_millis(age)),
        None => ScrubScope::Round,
    };
    let options = ScrubOptions { scope, bytes_per_second: NonZero::new(request.bytes_per_second) };
    let (answers, queue) = mpsc::channel(4);
    // A task of its own: what was found is noted, whether or not anybody hears of it.
    tokio::spawn(async move {
        let report = serve(&service, options, &answers).await;
        let last = report.map(|report| response(Step::Report(report_message(&report)))).map_err(Status::from);
        let _ = answers.send(last).await;
    });
    ReceiverStream::new(queue).boxed()
}

async fn serve(
    service: &Service,
    options: ScrubOptions,
    answers: &Sender<Result<v1::ScrubResponse, Status>>,
) -> Result<ScrubReport, Error> {
    let control = ScrubControl::new();
    let progress = control.progress();
    // Findings wait here for the client; a scrub does not wait for it. Each takes some kilobytes at most.
    let (finds, mut found) = mpsc::unbounded_channel();
    let tell = move |finding| _ = finds.send(finding);
    let mut scrubbing = pin!(service.store.scrub(options, &control, &tell));
    let mut ticks = interval_at(Instant::now() + PROGRESS, PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told_to_stop = false;
    loop {
        tokio::select! {
            biased;
            report = &mut scrubbing => {
                tell_rest(&mut found, answers).await;
                return report;
            }
            () = service.wished_away(answers), if !is_told_to_stop => {
                control.stop();
                is_told_to_stop = true;
            }
            Ok(permit) = answers.reserve(), if !found.is_empty() => {
                if let Ok(finding) = found.try_recv() {
                    permit.send(Ok(response(finding_message(finding))));
                }
            }
            _ = ticks.tick() => {
                // A client that does not read misses some.
                let _ = answers.try_send(Ok(response(Step::Progress(progress_message(*progress.borrow())))));
            }
        }
    }
}

async fn tell_rest(found: &mut UnboundedReceiver<ScrubFinding>, answers: &Sender<Result<v1::ScrubResponse, Status>>) {
    while let Ok(finding) = found.try_recv() {
        if answers.send(Ok(response(finding_message(finding)))).await.is_err() {
            return;
        }
    }
}

impl Service {
    /// Scrubs what was not verified for `interval`, again and again, until the service is to stop. What is found, and what
    /// goes wrong, is logged; what was noted before the server was restarted counts.
    pub async fn scrub_every(&self, interval: Duration, bytes_per_second: Option<NonZero<u64>>) {
        let options = ScrubOptions { scope: ScrubScope::OlderThan(interval), bytes_per_second };
        let mut ticks = interval_at(Instant::now() + FIRST.min(interval), LOOK.min(interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.unless_stopped(ticks.tick()).await.is_ok() {
            let control = ScrubControl::new();
            match self.while_serving(&control, self.scrub_if_due(options, interval, &control)).await {
                Ok(Some(report)) if report.has_damage() => {
                    error!(%report, hint = "run `imprint scrub` to see which versions suffer", "a scrub found damage");
                }
                Ok(_) | Err(Error::Stopping | Error::Busy { .. }) => {}
                Err(error) => error!(%error, hint = error.hint(), "a scheduled scrub failed"),
            }
        }
        info!("no more scrubs");
    }

    /// Nothing, when every pack was verified recently enough, and all trees were walked since.
    pub(super) async fn scrub_if_due(
        &self,
        options: ScrubOptions,
        interval: Duration,
        control: &ScrubControl,
    ) -> Result<Option<ScrubReport>, Error> {
        if !self.store.is_scrub_due(interval).await? {
            return Ok(None);
        }
        if self.store.are_most_packs_missing().await? {
            error!("most packs are missing, and nothing is scrubbed: is the disk of the repository mounted?");
            return Ok(None);
        }
        self.store.scrub(options, control, &|_| {}).await.map(Some)
    }
}

const fn response(step: Step) -> v1::ScrubResponse {
    v1::ScrubResponse { step: Some(step) }
}

fn progress_message(progress: ScrubProgress) -> v1::ScrubProgress {
    let phase = match progress.phase {
        ScrubPhase::Preparing => v1::ScrubPhase::Preparing,
        ScrubPhase::Packs => v1::ScrubPhase::Packs,
        ScrubPhase::Trees => v1::ScrubPhase::Trees,
    };
    v1::ScrubProgress { phase: phase.into(), done: progress.done, total: progress.total }
}

fn finding_message(finding: ScrubFinding) -> Step {
    match finding {
        ScrubFinding::Pack(pack) => Step::Pack(pack_message(&pack)),
        ScrubFinding::Version(version) => Step::Version(version_message(&version)),
    }
}

fn pack_message(found: &DamagedPack) -> v1::DamagedPack {
    let kind = match found.kind {
        Some(Purpose::Chunks) => v1::ObjectKind::Chunk,
        Some(Purpose::Nodes) => v1::ObjectKind::Node,
        None => v1::ObjectKind::Unspecified,
    };
    let state = match found.state {
        PackState::Damaged => v1::PackState::Damaged,
        PackState::Missing => v1::PackState::Missing,
        PackState::TooNew => v1::PackState::TooNew,
    };
    v1::DamagedPack {
        pack: found.pack.to_string(),
        kind: kind.into(),
        state: state.into(),
        damage: found.damage.iter().map(damage_message).collect(),
        damaged_parts: found.damaged_parts,
        new_objects: found.new_objects,
        copied_objects: found.copied_objects,
        known: found.is_known,
    }
}

fn damage_message(damage: &PackDamage) -> v1::PackDamage {
    let part = match damage.part {
        PackPart::Header => "header".into(),
        PackPart::Record(id) => format!("record {id}"),
        PackPart::Records => "records".into(),
        PackPart::Footer => "footer".into(),
        PackPart::File => "file".into(),
    };
    let (offset, length) = (damage.range.start, damage.range.end.saturating_sub(damage.range.start));
    v1::PackDamage { offset, length, part, why: damage.why.clone() }
}

fn version_message(found: &DamagedVersion) -> v1::DamagedVersion {
    v1::DamagedVersion {
        image: found.version.image.to_string(),
        number: found.version.number,
        removed: found.is_removed,
        chunks: found.chunks,
        nodes: found.nodes,
        bytes: found.bytes,
        first_offset: found.first_offset,
    }
}

const fn report_message(report: &ScrubReport) -> v1::ScrubReport {
    v1::ScrubReport {
        since_unix_ms: report.since_unix_ms,
        packs: report.packs,
        bytes: report.bytes,
        records: report.records,
        recent_packs: report.recent_packs,
        damaged_packs: report.damaged_packs,
        missing_packs: report.missing_packs,
        known_packs: report.known_packs,
        too_new_packs: report.too_new_packs,
        new_objects: report.new_objects,
        unhealed_objects: report.unhealed_objects,
        readmitted_objects: report.readmitted_objects,
        versions: report.versions,
        damaged_versions: report.damaged_versions,
    }
}
