//! `Supervised` and `Supervisor`, which follow actors and not things.

use std::sync::Arc;

use nexus_actors::{snapshot::Update, supervisor::ChildStatus};

use super::{Projector, Stage, Step, emit, seen::Seen};
use crate::server::{family::Family, path, picture::Picture, supervised::Supervised, supervisor::Supervisor};

/// Every actor as it was shown last, and who supervises it.
#[derive(Debug, Default)]
pub(super) struct Actors {
    seen: Seen<String, ChildStatus>,
    family: Family,
}

impl Projector {
    pub(super) async fn actor(&mut self, update: Update<String, ChildStatus>) -> zbus::Result<()> {
        let step = self.actors.show(&self.stage, update).await?;
        let (before, after) = (step.before.as_deref(), step.after.as_deref());
        self.tally.send_modify(|tally| Arc::make_mut(tally).actor(before, after));
        Ok(())
    }
}

impl Actors {
    async fn show(&mut self, stage: &Stage, update: Update<String, ChildStatus>) -> zbus::Result<Step<ChildStatus>> {
        let supervised = |place: &str, picture| Supervised::new(stage.engine.clone(), place.to_owned(), picture);
        match update {
            Update::Added(place, after) => {
                let picture = self.seen.add(place.clone(), after.clone());
                stage.add(&path::actor(&place), supervised(&place, picture.clone())).await?;
                if let Some(supervisor) = &after.supervisor {
                    self.family.add(supervisor, after.order, &place);
                    self.children_changed(stage, supervisor).await?;
                }
                if after.strategy.is_some() {
                    self.add_supervisor(stage, &place, picture).await?;
                }
                Ok(Step { before: None, after: Some(after) })
            }
            Update::Changed(place, after) => {
                let Some(before) = self.seen.change(&place, after.clone()) else {
                    return Ok(Step { before: None, after: None });
                };
                let still = |picture: &Arc<ChildStatus>| supervised(&place, Picture::Still(picture.clone()));
                emit::differences(&stage.emitter(path::actor(&place)), &still(&before), &still(&after)).await?;
                if before.strategy.is_none()
                    && after.strategy.is_some()
                    && let Some(picture) = self.seen.follow(&place)
                {
                    self.add_supervisor(stage, &place, picture).await?;
                }
                Ok(Step { before: Some(before), after: Some(after) })
            }
            Update::Removed(place) => {
                let Some(last) = self.seen.remove(&place) else { return Ok(Step { before: None, after: None }) };
                stage.remove::<Supervised>(&path::actor(&place)).await?;
                if last.strategy.is_some() {
                    stage.remove::<Supervisor>(&path::actor(&place)).await?;
                }
                if let Some(supervisor) = &last.supervisor {
                    self.family.remove(supervisor, last.order, &place);
                    self.children_changed(stage, supervisor).await?;
                }
                Ok(Step { before: Some(last), after: None })
            }
        }
    }

    async fn add_supervisor(&self, stage: &Stage, place: &str, picture: Picture<ChildStatus>) -> zbus::Result<()> {
        stage.add(&path::actor(place), Supervisor::new(place.to_owned(), picture, self.family.clone())).await
    }

    async fn children_changed(&self, stage: &Stage, supervisor: &str) -> zbus::Result<()> {
        if !stage.populated {
            return Ok(());
        }
        emit::invalidated::<Supervisor>(&stage.emitter(path::actor(supervisor)), "Children").await
    }
}
