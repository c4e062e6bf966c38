//! Collections: on request, with progress, and on a schedule.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use imprint_proto::v1::{self, collect_response::Step};
use tokio::{
    sync::mpsc::{self, Sender},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::{error, info};

use crate::{
    Error,
    store::reclaim::{CollectControl, CollectMode, CollectOptions, CollectPhase, CollectProgress, CollectReport},
};

use super::{Answers, Service, convert};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(250);

pub(super) fn start(service: Service, request: &v1::CollectRequest) -> Result<Answers<v1::CollectResponse>, Error> {
    let mode = if request.dry_run { CollectMode::DryRun } else { CollectMode::Collect };
    let live_percent = match request.live_percent {
        0 => None,
        percent @ 1..=100 => u8::try_from(percent).ok(),
        _ => return Err(convert::bad("a part is at most 100 percent")),
    };
    let (answers, queue) = mpsc::channel(4);
    // A task of its own: a client that goes away does not leave a mark behind.
    tokio::spawn(async move {
        let report = serve(&service, mode, live_percent, &answers).await;
        let last = report.map(|report| response(Step::Report(report_message(report)))).map_err(Status::from);
        let _ = answers.send(last).await;
    });
    Ok(ReceiverStream::new(queue).boxed())
}

async fn serve(
    service: &Service,
    mode: CollectMode,
    live_percent: Option<u8>,
    answers: &Sender<Result<v1::CollectResponse, Status>>,
) -> Result<CollectReport, Error> {
    let mut options = service.collect_options(mode).await?;
    options.plan.live_percent = live_percent.unwrap_or(options.plan.live_percent);
    let control = CollectControl::new();
    let progress = control.progress();
    let mut collecting = pin!(service.store.collect(options, &control));
    let mut ticks = interval_at(Instant::now() + PROGRESS, PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told_to_stop = false;
    loop {
        tokio::select! {
            biased;
            report = &mut collecting => return report,
            () = service.wished_away(answers), if !is_told_to_stop => {
                control.stop();
                is_told_to_stop = true;
            }
            _ = ticks.tick() => {
                // A client that does not read misses some.
                let _ = answers.try_send(Ok(response(Step::Progress(progress_message(*progress.borrow())))));
            }
        }
    }
}

impl Service {
    /// Collects again and again, for the first time after this interval, until the service is to stop. What goes wrong is
    /// logged; the next collection tries again.
    pub async fn collect_every(&self, interval: Duration) {
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.unless_stopped(ticks.tick()).await.is_ok() {
            let control = CollectControl::new();
            match self.while_serving(&control, self.collect_once(&control)).await {
                Ok(_) | Err(Error::Stopping | Error::Busy { .. }) => {}
                Err(error) => error!(%error, hint = error.hint(), "a scheduled collection failed"),
            }
        }
        info!("no more collections");
    }

    async fn collect_once(&self, control: &CollectControl) -> Result<CollectReport, Error> {
        let options = self.collect_options(CollectMode::Collect).await?;
        self.store.collect(options, control).await
    }

    async fn collect_options(&self, mode: CollectMode) -> Result<CollectOptions, Error> {
        let options = CollectOptions::with_grace(mode, self.store.catalog().grace().await?);
        Ok(CollectOptions { idle_upload: self.limits.idle_upload, ..options })
    }
}

fn response(step: Step) -> v1::CollectResponse {
    v1::CollectResponse { step: Some(step) }
}

fn progress_message(progress: CollectProgress) -> v1::CollectProgress {
    let phase = match progress.phase {
        CollectPhase::Preparing => v1::CollectPhase::Preparing,
        CollectPhase::Marking => v1::CollectPhase::Marking,
        CollectPhase::Deleting => v1::CollectPhase::Deleting,
        CollectPhase::Rewriting => v1::CollectPhase::Rewriting,
    };
    v1::CollectProgress { phase: phase.into(), done: progress.done, total: progress.total }
}

fn report_message(report: CollectReport) -> v1::CollectReport {
    v1::CollectReport {
        dry_run: report.mode == CollectMode::DryRun,
        versions: report.versions,
        purged_versions: report.purged_versions,
        expired_uploads: report.expired_uploads,
        packs: report.live.packs,
        pack_bytes: report.live.bytes,
        dead_packs: report.dead.packs,
        dead_bytes: report.dead.bytes,
        rewritten_packs: report.rewritten.packs,
        rewritten_bytes: report.rewritten.bytes,
        copied_bytes: report.copied_bytes,
        deleted_packs: report.deleted.packs,
        deleted_bytes: report.deleted.bytes,
        written_bytes: report.written_bytes,
        busy_packs: report.busy_packs,
        kept_packs: report.kept_packs,
        damaged_records: report.damaged_records,
        missing_chunks: report.missing_chunks,
        incomplete: report.incomplete.unwrap_or_default(),
    }
}
