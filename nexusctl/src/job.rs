//! `nexusctl job`, and waiting for the job that another command made.

use std::{collections::HashMap, time::Duration};

use clap::{Args, Subcommand};
use nexus_dbus::{
    Error,
    client::{JobProperties, JobProxy, Options, Row},
};
use nexus_model::Timestamp;
use serde_json::{Value, json};
use zbus::{OwnedObjectPath, OwnedVariant};

use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{self, Format, FormatArgs, Table, amount},
    progress::{Progress, describe},
};

/// See, await and cancel long operations
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List what is under way and what ended within the last minute
    #[command(visible_alias = "ls")]
    List(FormatArgs),
    /// Wait for the end of a job
    Wait(Wait),
    /// Ask a job to end
    Cancel(Cancel),
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The number of the job
    id: u32,
    /// Give up after this time; the job goes on
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The number of the job
    id: u32,
}

impl JobCommand {
    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        match self {
            Self::List(args) => list(bus, args.output).await,
            Self::Wait(args) => wait(bus, &args).await,
            Self::Cancel(args) => cancel(bus, args.id).await,
        }
    }
}

/// What a job gave, by kebab-case keys.
pub(crate) struct JobResult(HashMap<String, OwnedVariant>);

impl JobResult {
    /// The object under a key.
    pub(crate) fn object(&self, key: &str) -> Option<OwnedObjectPath> {
        self.value(key)
    }

    /// The value under a key.
    pub(crate) fn value<T: TryFrom<OwnedVariant>>(&self, key: &str) -> Option<T> {
        self.0.get(key).cloned()?.try_into().ok()
    }

    /// The text under a key.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()?.try_into().ok()
    }
}

/// A job that somebody waits for.
pub(crate) struct Job {
    /// What was asked for: `start VM web`.
    pub(crate) what: String,
    /// What the line says meanwhile: `Starting web`.
    pub(crate) title: String,
    /// The job.
    pub(crate) path: OwnedObjectPath,
}

impl Job {
    /// Waits for its end and shows how far it is. A signal ends the waiting and not the job.
    pub(crate) async fn wait(&self, bus: &Bus, interrupts: &mut Interrupts) -> Result<JobResult, Failure> {
        let progress = Progress::new(self.title.clone());
        let proxy = proxy(bus, &self.path).await?;
        let mut watch = if progress.is_seen() { Some(bus.watch(&self.path).await?) } else { None };
        let show = async || {
            if let Ok(job) = JobProperties::read(bus.connection(), &self.path).await {
                progress.job(&job);
            }
        };
        if watch.is_some() {
            show().await;
        }
        let waiting = proxy.wait();
        tokio::pin!(waiting);
        loop {
            let changed = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = &mut waiting => {
                    return match result {
                        Ok(result) => Ok(JobResult(result)),
                        Err(error) => Err(bus.explain(&self.what, &error).await),
                    };
                }
                number = interrupts.next() => return Err(self.interrupted(bus, number).await),
                () = changed => show().await,
            }
        }
    }

    async fn interrupted(&self, bus: &Bus, number: u8) -> Failure {
        let failure = Failure::new(format!("did not wait to {}", self.what)).exit(Exit::signal(number)).for_all();
        match bus.read::<JobProperties>("see the job", &self.path).await {
            Ok(job) if job.finished_at != 0 => failure.because(format!("The job is {} by now.", job.state)),
            Ok(job) => {
                let failure = failure
                    .because("The daemon goes on with it.")
                    .hint("Wait for it", format!("nexusctl job wait {}", job.id));
                if job.cancellable {
                    failure.hint("Cancel it", format!("nexusctl job cancel {}", job.id))
                } else {
                    failure
                }
            }
            Err(_) => failure.because("The daemon goes on with it.").hint("See how far it is", "nexusctl job list"),
        }
    }
}

async fn proxy(bus: &Bus, path: &OwnedObjectPath) -> Result<JobProxy<'static>, Failure> {
    let proxy = JobProxy::builder(bus.connection())
        .path(path.clone())
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build();
    proxy.await.map_err(|error| Failure::call("see the job", &error.into()))
}

async fn find(bus: &Bus, id: u32, what: &str) -> Result<OwnedObjectPath, Failure> {
    let manager = bus.manager().await?;
    bus.ask(what, manager.get_job(id)).await
}

async fn wait(bus: &Bus, args: &Wait) -> Result<Exit, Failure> {
    let id = args.id;
    let mut interrupts = Interrupts::listen()?;
    let what = format!("wait for job {id}");
    let path = find(bus, id, &what).await?;
    let properties: JobProperties = bus.read(&what, &path).await?;
    let what = properties.kind.replace('-', " ");
    let job = Job { what: format!("{what} (job {id})"), title: format!("Job {id}, {what}"), path };
    let waiting = job.wait(bus, &mut interrupts);
    let ended = match args.timeout {
        Some(time) => tokio::time::timeout(time, waiting).await.map_err(|_| {
            Failure::new(format!("job {id} takes longer than {}", amount::duration(time)))
                .because("It goes on.")
                .hint("Cancel it", format!("nexusctl job cancel {id}"))
        })?,
        None => waiting.await,
    };
    ended?;
    output::line(format!("Job {id} is done."))?;
    Ok(Exit::OK)
}

async fn cancel(bus: &Bus, id: u32) -> Result<Exit, Failure> {
    let what = format!("cancel job {id}");
    let path = find(bus, id, &what).await?;
    let proxy = proxy(bus, &path).await?;
    bus.ask(&what, proxy.cancel(Options::new())).await?;
    // It is told at once and ends soon, in its own way: its error then is that it was cancelled.
    match bus.ask(&what, proxy.wait()).await {
        Ok(_) => {
            output::line(format!("Job {id} had ended before it could be cancelled."))?;
            Ok(Exit::OK)
        }
        Err(failure) if failure.kind() == Some(nexus_model::ErrorKind::Cancelled) => {
            output::line(format!("Job {id} is cancelled."))?;
            Ok(Exit::OK)
        }
        Err(failure) => Err(failure),
    }
}

async fn list(bus: &Bus, format: Format) -> Result<Exit, Failure> {
    let objects = bus.objects("list jobs").await?;
    let mut jobs: Vec<&JobProperties> = objects.all.values().filter_map(|object| object.job.as_ref()).collect();
    jobs.sort_by_key(|job| job.id);
    match format {
        Format::Json => output::json(&jobs.iter().map(|job| as_json(job, &objects)).collect())?,
        Format::Table if jobs.is_empty() => output::line("No jobs: nothing is under way.")?,
        Format::Table => output::line(table(&jobs, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

fn table(jobs: &[&JobProperties], objects: &Objects) -> Table {
    let mut table = Table::new(&["JOB", "KIND", "OBJECT", "STATE", "STAGE", "CREATED"]).right(&[0]);
    for job in jobs {
        let names = objects.names(&job.objects);
        let stage = if job.error_message.is_empty() { describe(job) } else { job.error_message.clone() };
        let created = amount::ago(Timestamp(job.created_at), objects.now);
        table.row([&job.id.to_string(), &job.kind, &names.join(", "), &job.state, &stage, &created]);
    }
    table
}

fn as_json(job: &JobProperties, objects: &Objects) -> Value {
    let names = objects.names(&job.objects);
    let error = |kind: &str| match Error::from_name(kind, "").and_then(|error| error.kind()) {
        Some(kind) => kind.to_string(),
        None => kind.to_owned(),
    };
    json!({
        "id": job.id,
        "kind": job.kind,
        "objects": names,
        "state": job.state,
        "stage": job.stage,
        "progress": if job.progress < 0.0 { Value::Null } else { json!(job.progress) },
        "completed_bytes": job.completed_bytes,
        "total_bytes": job.total_bytes,
        "cancellable": job.cancellable,
        "sender": job.sender,
        "error": if job.error_name.is_empty() { Value::Null } else { json!(error(&job.error_name)) },
        "error_message": job.error_message,
        "created_at_usec": job.created_at,
        "finished_at_usec": job.finished_at,
    })
}
