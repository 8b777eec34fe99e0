//! What a call costs on the bus: a property of a VM, and everything that there is.

use std::time::{Duration, Instant};

use nexus_dbus::{ROOT, SERVICE};
use tokio::time::timeout;
use zbus::{Connection, Message, OwnedObjectPath};

use crate::{
    Outcome,
    fleet::{self, AfterDeath},
    report::Report,
    samples::Samples,
    scale::Scale,
    service,
    session::{PATIENCE, Programs, Session},
};

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
const VM: &str = "org.workfort.Nexus1.Vm";

/// Measures it.
///
/// # Errors
/// When a call fails.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "Calls",
        "A property of a VM is read with `Properties.Get`, against an empty method of a bare zbus service on the same bus \
         (a process of its own, as nexusd is one). `GetManagedObjects` is called with many VMs (created, not started), against \
         a method of that service that sends the same answer, copied from Nexus before, from memory. In turns.",
    );
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    session.start_service().await?;
    let vm = fleet::create_one(&session, "one", AfterDeath::Down).await?;

    let (mut get, mut empty) = (Samples::default(), Samples::default());
    for round in 0..=scale.rounds {
        for _ in 0..scale.calls {
            let sample = timed(get_state(&session.connection, &vm)).await?;
            if round > 0 {
                get.push(sample);
            }
        }
        for _ in 0..scale.calls {
            let sample = timed(call_bare(&session.connection, "Empty")).await?;
            if round > 0 {
                empty.push(sample);
            }
        }
    }
    report.comparisons();
    report.compare("`Get` of a VM's `State` ÷ an empty method", &get, &empty, Some(1.2));

    fleet::create(&session, scale.objects, AfterDeath::Down).await?;
    call_bare(&session.connection, "CopyObjects").await?;
    let (mut list, mut copy) = (Samples::default(), Samples::default());
    let mut bytes = (0, 0);
    for round in 0..=scale.listings {
        let begin = Instant::now();
        bytes.0 = list_objects(&session).await?.body().len();
        let listed = Instant::now();
        bytes.1 = call_bare(&session.connection, "Objects").await?.body().len();
        if round > 0 {
            list.push(listed - begin);
            copy.push(listed.elapsed());
        }
    }
    let what = format!("`GetManagedObjects` with {} VMs ÷ the same answer from memory", scale.objects + 1);
    report.compare(&what, &list, &copy, Some(3.0));
    report.line(format!("\nBytes of that answer: {} from Nexus, {} from the bare service.", bytes.0, bytes.1));
    Ok(())
}

/// Reads the state of a VM.
///
/// # Errors
/// When it fails.
pub(crate) async fn get_state(connection: &Connection, vm: &OwnedObjectPath) -> Outcome<Message> {
    Ok(connection.call_method(Some(SERVICE), vm, Some(PROPERTIES), "Get", &(VM, "State")).await?)
}

/// Reads everything.
async fn list_objects(session: &Session) -> Outcome<Message> {
    let call = session.connection.call_method(Some(SERVICE), ROOT, Some(OBJECT_MANAGER), "GetManagedObjects", &());
    Ok(timeout(PATIENCE, call).await.map_err(|_| "GetManagedObjects is not answered")??)
}

/// Calls a method of the bare service.
///
/// # Errors
/// When it fails.
pub(crate) async fn call_bare(connection: &Connection, method: &str) -> Outcome<Message> {
    let call = connection.call_method(Some(service::NAME), service::PATH, Some(service::INTERFACE), method, &());
    Ok(timeout(PATIENCE, call).await.map_err(|_| "the bare service does not answer")??)
}

/// How long it takes.
///
/// # Errors
/// When it fails.
pub(crate) async fn timed<T>(call: impl Future<Output = Outcome<T>>) -> Outcome<Duration> {
    let begin = Instant::now();
    call.await?;
    Ok(begin.elapsed())
}
