//! Starts that don't succeed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nexus_actors::supervisor::{ChildContext, ChildSpec, RequestError, Strategy};
use nexus_model::Health;
use ractor::{ActorCell, ActorStatus, SpawnErr};

use crate::probe::{Journal, Mode, Probe, Tree, bystander, startup_failed, tenths_since};

/// Starts a child in a tree of its own that fails with `reason` after `tenths`, and well the second time.
async fn fails_once(mode: impl Fn(&Probe, Mode), bad: Mode, reason: &str, tenths: u128) {
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    let mut tree = Tree::of(Strategy::OneForOne, &[&Probe::new("sibling", &journal)]).await;
    mode(&probe, bad);
    let at = tokio::time::Instant::now();
    let refused = tree.start(probe.spec()).await;
    assert_eq!(refused, Err(RequestError::Faulted { reason: reason.to_owned() }));
    assert_eq!(tenths_since(at), tenths);
    mode(&probe, Mode::Fine);
    let fault = tree.until_faults("a", 1).await;
    assert_eq!((fault.health, fault.generation, fault.last_fault_reason.as_str()), (Health::Restarting, 1, reason));
    let up = tree.until_up("a", 2).await;
    assert_eq!((up.restart_count, up.fault_count), (1, 1));
    assert_eq!(tree.status("sibling").generation, 1);
    tree.shut_down().await;
    assert!(!journal.words().contains(&"up a1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_an_error_in_pre_start_is_a_fault() {
    let mode = |probe: &Probe, mode| probe.behave(|behaviour| behaviour.pre_start = mode);
    fails_once(mode, Mode::Panic, "panic in pre_start", 0).await;
    fails_once(mode, Mode::Fail, "error in pre_start", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_an_error_in_post_start_is_a_fault() {
    let mode = |probe: &Probe, mode| probe.behave(|behaviour| behaviour.post_start = mode);
    fails_once(mode, Mode::Panic, "panic in post_start", 0).await;
    fails_once(mode, Mode::Fail, "error in post_start", 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_a_fault_after_its_timeout() {
    let mode = |probe: &Probe, mode| probe.behave(|behaviour| behaviour.pre_start = mode);
    fails_once(mode, Mode::Hang, "it did not start within 20 s", 200).await;
    let mode = |probe: &Probe, mode| probe.behave(|behaviour| behaviour.post_start = mode);
    fails_once(mode, Mode::Hang, "it was not up within 20 s", 200).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_in_post_start_is_a_fault() {
    let probe = Probe::new("a", &Journal::default());
    let cell: Arc<Mutex<Option<ActorCell>>> = Arc::default();
    let (inner, keep) = (probe.clone(), Arc::clone(&cell));
    let start = move |context: ChildContext| {
        let (inner, keep) = (inner.clone(), Arc::clone(&keep));
        async move {
            let actor = context.spawn(inner, context.clone()).await?;
            *keep.lock().unwrap() = Some(actor.clone());
            Ok(actor)
        }
    };
    probe.behave(|behaviour| behaviour.post_start = Mode::Hang);
    let spec = ChildSpec { name: "a".to_owned(), ..ChildSpec::new("a", start) };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    let actor = loop {
        tree.until("a", |status| status.generation == 1).await;
        if let Some(actor) = cell.lock().unwrap().clone() {
            break actor;
        }
        tokio::task::yield_now().await;
    };
    probe.behave(|behaviour| behaviour.post_start = Mode::Fine);
    actor.kill();
    assert_eq!(tree.until_faults("a", 1).await.last_fault_reason, "it was killed");
    tree.until_up("a", 2).await;
    tree.shut_down().await;
}

/// A child whose start function runs `bad` the first time.
fn unlucky<Fut>(probe: &Probe, bad: impl Fn(ChildContext) -> Fut + Send + Sync + 'static) -> ChildSpec
where
    Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
{
    let (probe, bad) = (probe.clone(), Arc::new(bad));
    let calls = Arc::new(AtomicU32::new(0));
    let start = {
        let probe = probe.clone();
        move |context: ChildContext| {
            let (probe, bad) = (probe.clone(), Arc::clone(&bad));
            let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
            async move { if first { bad(context).await } else { context.spawn(probe, context.clone()).await } }
        }
    };
    ChildSpec { start: ChildSpec::new("a", start).start, ..probe.spec() }
}

async fn first_start_fails(probe: &Probe, spec: ChildSpec, reason: &str) {
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    assert_eq!(tree.until_faults("a", 1).await.last_fault_reason, reason);
    tree.until_up("a", 2).await;
    assert_eq!(tree.supervisor.get_children().len(), 1, "something was left behind");
    tree.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_function_may_fail_or_panic() {
    let probe = Probe::new("a", &Journal::default());
    let spec = unlucky(&probe, |_| async { Err(startup_failed("no disk")) });
    first_start_fails(&probe, spec, "no disk").await;
    let spec = unlucky(&probe, |_| async { panic!("in the future") });
    first_start_fails(&probe, spec, "in the future").await;

    let calls = AtomicU32::new(0);
    let inner = probe.clone();
    let start = move |context: ChildContext| {
        assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "before the future");
        let inner = inner.clone();
        async move { context.spawn(inner, context.clone()).await }
    };
    let spec = ChildSpec { start: ChildSpec::new("a", start).start, ..probe.spec() };
    first_start_fails(&probe, spec, "before the future").await;
}

#[tokio::test(start_paused = true)]
async fn a_start_function_that_leaves_its_actor_behind_leaks_nothing() {
    let probe = Probe::new("a", &Journal::default());
    let inner = probe.clone();
    let spec = unlucky(&probe, move |context| {
        let inner = inner.clone();
        async move {
            context.spawn(inner, context.clone()).await?;
            Err(startup_failed("afterthought"))
        }
    });
    first_start_fails(&probe, spec, "afterthought").await;
    let words = probe.journal.words();
    assert!(words.contains(&"gone a1".to_owned()), "{words:?}");

    let inner = probe.clone();
    let spec = unlucky(&probe, move |context| {
        let inner = inner.clone();
        async move {
            context.spawn(inner, context.clone()).await?;
            std::future::pending().await
        }
    });
    first_start_fails(&probe, spec, "it did not start within 20 s").await;
    let words = probe.journal.words();
    assert!(words.contains(&"gone a1".to_owned()), "{words:?}");
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_not_linked_is_refused_and_killed() {
    let probe = Probe::new("a", &Journal::default());
    let actor = bystander().await;
    let cell = actor.clone();
    let spec = unlucky(&probe, move |_| {
        let cell = cell.clone();
        async move { Ok(cell) }
    });
    let reason = "its start function returned an actor that is not linked to the supervisor";
    first_start_fails(&probe, spec, reason).await;
    assert_eq!(actor.get_status(), ActorStatus::Stopped);
}

/// Aborting a task doesn't interrupt synchronous code; what it returns afterwards is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_comes_after_the_timeout_is_killed() {
    let probe = Probe::new("a", &Journal::default());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let inner = probe.clone();
    let spec = unlucky(&probe, move |context| {
        let (inner, blocked) = (inner.clone(), Arc::clone(&blocked));
        async move {
            tokio::task::block_in_place(|| blocked.lock().unwrap().recv().ok());
            context.spawn(inner, context.clone()).await
        }
    });
    let spec = ChildSpec {
        start_timeout: Duration::from_millis(50),
        shutdown: Duration::from_millis(50),
        backoff: nexus_model::restart::Backoff { initial: Duration::ZERO, max: Duration::ZERO, jitter: 0.0 },
        ..spec
    };
    let mut tree = Tree::grow(Strategy::OneForOne, &probe.journal, vec![spec]).await;
    tree.until_faults("a", 1).await;
    // The lease is still held, and only waited for so long.
    tree.until_up("a", 2).await;
    drop(release);
    let gone = || probe.journal.take().iter().any(|event| event.to_string() == "gone a1");
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while !gone() {
        assert!(tokio::time::Instant::now() < end, "the late actor lives on");
        tokio::task::yield_now().await;
    }
    assert_eq!(probe.generation().await, 2);
    tree.shut_down().await;
}
