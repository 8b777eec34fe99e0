//! What is under way: at most one thing at a time, in a task of its own.

use std::{fmt, future::Future, time::Duration};

use nexus_model::{ErrorKind, failpoint, vm::Reason};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{MachineMessage, state::Machine};
use crate::{
    Error, Origin,
    ask::Reply,
    jobs::JobControl,
    vm::standstill::{self, Closed},
};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperationKind {
    Start,
    Stop,
    Pause,
    Resume,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
        })
    }
}

/// An operation under way. Dropping it ends its task.
pub(super) struct Operation {
    pub(super) number: u64,
    pub(super) kind: OperationKind,
    pub(super) job: Option<JobControl>,
    /// Who wants to know how it ends.
    pub(super) waiting: Vec<Reply<()>>,
    /// There while calls to the guest are refused.
    pub(super) closed: Option<Closed>,
    /// Until when the guest that is being stopped has time.
    pub(super) deadline: Option<watch::Sender<Instant>>,
    _task: AbortOnDropHandle<()>,
}

impl Operation {
    /// Gives the guest that is being stopped no more time than this from now on.
    pub(super) fn hurry(&self, timeout: Duration) {
        let Some(deadline) = &self.deadline else { return };
        let wanted = Instant::now() + timeout;
        deadline.send_if_modified(|current| {
            let sooner = wanted < *current;
            *current = wanted.min(*current);
            sooner
        });
    }

    /// Tells everybody who waits.
    pub(super) fn answer(self, result: Result<(), Error>) {
        let mut result = Some(result);
        let count = self.waiting.len();
        for (index, reply) in self.waiting.into_iter().enumerate() {
            let answer = if index + 1 == count {
                result.take().unwrap_or(Ok(()))
            } else {
                match &result {
                    Some(Err(error)) => Err(Error::new(error.kind(), error.text())),
                    _ => Ok(()),
                }
            };
            let _ = reply.send(answer);
        }
    }
}

impl Machine {
    /// Begins an operation. Whatever its task does, even a panic, ends in one [`MachineMessage::OperationEnded`].
    pub(super) fn begin<F>(
        &mut self,
        kind: OperationKind,
        job: Option<JobControl>,
        reply: Option<Reply<()>>,
        work: impl FnOnce(u64) -> F,
    ) where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.operations += 1;
        let number = self.operations;
        let work = work(number);
        let myself = self.myself.clone();
        let lease = self.child.lease.clone();
        let task = tokio::spawn(async move {
            let _lease = lease;
            let result = match AbortOnDropHandle::new(tokio::spawn(work)).await {
                Ok(result) => result,
                Err(error) => Err(Error::caused(ErrorKind::Internal, format!("the {kind} broke off"), error)),
            };
            let _ = myself.send_message(MachineMessage::OperationEnded { operation: number, result });
        });
        self.operation = Some(Operation {
            number,
            kind,
            job,
            waiting: reply.into_iter().collect(),
            closed: None,
            deadline: None,
            _task: AbortOnDropHandle::new(task),
        });
    }

    /// The operation of that number has ended by itself.
    pub(super) async fn operation_ended(&mut self, number: u64, result: Result<(), Error>) -> Result<(), Error> {
        let Some(operation) = self.operation.take_if(|operation| operation.number == number) else { return Ok(()) };
        match operation.kind {
            OperationKind::Start => self.start_ended(operation, result).await,
            OperationKind::Stop => {
                self.stop_ended(operation, result);
                Ok(())
            }
            OperationKind::Pause | OperationKind::Resume => self.pause_ended(operation, result).await,
        }
    }

    pub(super) fn pause(&mut self, origin: &Origin, reply: Reply<()>) -> Result<(), Error> {
        self.turn(OperationKind::Pause, origin, reply)
    }

    pub(super) fn resume(&mut self, origin: &Origin, reply: Reply<()>) -> Result<(), Error> {
        self.turn(OperationKind::Resume, origin, reply)
    }

    fn turn(&mut self, kind: OperationKind, origin: &Origin, reply: Reply<()>) -> Result<(), Error> {
        let legal = match kind {
            OperationKind::Pause => self.row.lifecycle.paused(Reason::Requested, Self::now()),
            _ => self.row.lifecycle.resumed(Reason::Requested, Self::now()),
        };
        let checked = self.check_idle().and_then(|()| legal.map_err(|error| self.illegal(error)));
        let leader = self.row.process.as_ref().map(|process| process.leader.clone());
        let (Some(driver), Some(leader), Ok(_)) = (self.driver.clone(), leader, &checked) else {
            let refusal = checked.err().unwrap_or_else(|| Error::internal("no VMM is known of a running VM"));
            let _ = reply.send(Err(refusal));
            return Ok(());
        };
        self.cause = None;
        self.asked(origin, if kind == OperationKind::Pause { "paused" } else { "resumed" });
        let (plan, vm) = (self.plan_of_run(), self.vm.clone());
        let pauses = kind == OperationKind::Pause;
        let closed = pauses.then(|| Closed::new(&vm));
        self.begin(kind, None, Some(reply), move |_| async move {
            if !pauses {
                driver.resume(&plan, &leader).await?;
                standstill::thaw(&vm).await;
                return Ok(());
            }
            standstill::freeze(&vm).await;
            failpoint("pause.frozen");
            let paused = driver.pause(&plan, &leader).await;
            if paused.is_err() {
                standstill::thaw(&vm).await;
            }
            Ok(paused?)
        });
        if let Some(operation) = &mut self.operation {
            operation.closed = closed;
        }
        Ok(())
    }

    async fn pause_ended(&mut self, operation: Operation, result: Result<(), Error>) -> Result<(), Error> {
        let result = match result {
            Ok(()) if operation.kind == OperationKind::Pause => {
                let to = self.row.lifecycle.paused(Reason::Requested, Self::now());
                self.transition("", to).await
            }
            Ok(()) => {
                let to = self.row.lifecycle.resumed(Reason::Requested, Self::now());
                self.transition("", to).await
            }
            Err(error) => Err(error),
        };
        operation.answer(result);
        Ok(())
    }
}
