//! Many terminals that somebody watches while they flood.

use std::{
    fs::File,
    io::Read,
    mem,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nexus_bench_peer::Terminal;
use nexus_dbus::client::{GuestProxy, Options};
use tokio::time::sleep;
use zbus::{Connection, OwnedObjectPath, proxy::CacheProperties};

use crate::{
    Outcome,
    caller::Caller,
    changes::Changes,
    fleet::{self, AfterDeath},
    machine,
    report::{self, Report},
    scale::Scale,
    session::{Programs, Session},
};

/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What floods: the same line over and over, as long as a terminal is wide.
const FLOOD: [&str; 2] = ["yes", "   Compiling one of very many things that people like to see go by: nexus v0.1"];

/// Who reads all of it.
struct Watchers {
    bytes: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What was seen of terminals of one kind.
#[derive(Default)]
struct Seen {
    bytes: u64,
    time: Duration,
    /// Of the daemon meanwhile.
    cpu: Duration,
    /// After that, while they still flood.
    caller: Caller,
}

/// Measures it.
///
/// # Errors
/// When a terminal does not open.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "Busy terminals",
        &format!(
            "{} `process` VMs with a terminal each (`Guest.OpenShell`) on which `yes` floods, and a thread of the bench for each \
             that reads what it shows. Against as many terminals of the host with the same program and the same threads: no \
             agent in between that keeps the screen and passes it on. How much all of them show, and what of a processor \
             nexusd takes meanwhile, by which the bytes pass. In turns.",
            scale.busy
        ),
    );
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    session.start_service().await?;
    let vms = fleet::create(&session, scale.busy, AfterDeath::Down).await?;
    let mut changes = Changes::follow(&session.connection).await?;
    fleet::start(&session, &vms).await?;
    changes.all_ready(&session.connection).await?;
    let witness = vms.first().ok_or("there is no VM")?;
    let client = session.connect().await?;

    let (mut quiet, mut nexus, mut bare) = (Caller::default(), Seen::default(), Seen::default());
    for _ in 0..scale.floods {
        quiet.call_for(scale.flood, &client, witness).await?;
        let watchers = open(&session, &vms).await?;
        nexus.watch(&session, scale.flood, &watchers, &client, witness).await?;
        drop(watchers);

        let argv = FLOOD.map(str::to_owned);
        let terminals = vms.iter().map(|_| Ok(Terminal::run(&argv)?)).collect::<Outcome<Vec<_>>>()?;
        let streams = terminals.iter().map(|terminal| Ok(terminal.stream().try_clone()?));
        let watchers = Watchers::watch(streams.collect::<Outcome<_>>()?);
        bare.watch(&session, scale.flood, &watchers, &client, witness).await?;
        drop(watchers);
    }
    describe(report, scale, &nexus, &bare);
    compare(report, &quiet, &nexus.caller, &bare.caller);
    Ok(())
}

/// A terminal in each VM.
async fn open(session: &Session, vms: &[OwnedObjectPath]) -> Outcome<Watchers> {
    let mut streams = Vec::new();
    for path in vms {
        let guest = GuestProxy::builder(&session.connection).path(path.clone());
        let guest = guest.cache_properties(CacheProperties::No).build().await?;
        let (_, stream) = guest.open_shell(&FLOOD, Options::new()).await?;
        streams.push(File::from(OwnedFd::from(stream)));
    }
    Ok(Watchers::watch(streams))
}

impl Watchers {
    fn watch(streams: Vec<File>) -> Self {
        let (bytes, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let threads = streams.into_iter().map(|mut stream| {
            let (bytes, over) = (Arc::clone(&bytes), Arc::clone(&over));
            thread::spawn(move || {
                let mut chunk = vec![0; CHUNK_BYTES];
                while let Ok(count @ 1..) = stream.read(&mut chunk)
                    && !over.load(Ordering::Relaxed)
                {
                    bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { bytes, over, threads }
    }
}

impl Drop for Watchers {
    /// Terminals flood, so that each thread soon sees it.
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in mem::take(&mut self.threads) {
            let _ = thread.join();
        }
    }
}

impl Seen {
    async fn watch(
        &mut self,
        session: &Session,
        time: Duration,
        watchers: &Watchers,
        client: &Connection,
        witness: &OwnedObjectPath,
    ) -> Outcome<()> {
        let daemon = session.daemon_pid()?;
        // That they were opened is no part of it.
        sleep(time / 10).await;
        let (begin, bytes, cpu) = (Instant::now(), watchers.bytes.load(Ordering::Relaxed), machine::cpu_time(daemon)?);
        sleep(time).await;
        self.bytes += watchers.bytes.load(Ordering::Relaxed) - bytes;
        self.time += begin.elapsed();
        self.cpu += machine::cpu_time(daemon)? - cpu;
        self.caller.call_for(time, client, witness).await
    }

    fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }
}

fn describe(report: &mut Report, scale: &Scale, nexus: &Seen, bare: &Seen) {
    report.columns(&["terminals", "all show", "nexusd takes"]);
    for (what, seen) in [("in VMs", nexus), ("of the host", bare)] {
        let share = 100.0 * seen.cpu.as_secs_f64() / seen.time.as_secs_f64();
        report.row(&[
            format!("{} {what} ({} × {})", scale.busy, scale.floods, report::duration(scale.flood)),
            report::throughput(seen.rate()),
            format!("{share:.2} %"),
        ]);
    }
    report.row(&["in VMs ÷ of the host".to_owned(), format!("{:.2} ×", nexus.rate() / bare.rate()), "–".to_owned()]);
}

fn compare(report: &mut Report, quiet: &Caller, nexus: &Caller, bare: &Caller) {
    report.line(
        "\nAfter that, while they still flood, a client on a connection of its own reads the `State` of one of the VMs with \
         `Properties.Get`, over and over, and calls an empty method of a bare service in between. The same before, as long.\n",
    );
    report.spread("a call");
    for (what, caller) in [("quiet", quiet), ("terminals in VMs flood", nexus), ("terminals of the host flood", bare)] {
        report.percentiles(&format!("`Get`, {what}"), &caller.get);
        report.percentiles(&format!("an empty method, {what}"), &caller.empty);
    }
    report.ratios("`Get`: terminals in VMs ÷ of the host", &nexus.get, &bare.get);
    report.ratios("terminals in VMs: `Get` ÷ an empty method", &nexus.get, &nexus.empty);
}
