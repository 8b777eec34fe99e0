//! Whole lives, one after the other: create, start, run a command, stop, delete. Nothing may be left of any of them.

use std::time::{Duration, Instant};

use nexus_dbus::client::{GuestProxy, Options, Row, VmProperties};
use zbus::proxy::CacheProperties;

use crate::{
    PATIENCE, Vmm,
    check::{Observation, Violation},
    client::{perform, vm_name},
    level::{Level, trend},
    plan::{Disk, Op},
    world::World,
};

/// After how many lives nexusd is compared with what it was.
const LEVEL_EVERY: usize = 5;
/// How fast the heap may grow, in bytes a life: the store's rows of history stay, on the disk.
const HEAP_SLOPE: f64 = 4096.0;

/// Lives that many, and gives how long they took and how fast the heap grew.
pub(crate) async fn live(vmm: Vmm, lives: usize) -> Result<(Duration, Option<f64>), Violation> {
    let mut world = World::new(vmm).await;
    world.furnish().await;
    let lived = tokio::select! {
        lived = live_in(&world, lives) => lived,
        violation = crate::interrupted() => Err(violation),
    };
    world.end().await;
    lived
}

async fn live_in(world: &World, lives: usize) -> Result<(Duration, Option<f64>), Violation> {
    let begun = Instant::now();
    let mut first: Option<Level> = None;
    let mut heap = Vec::new();
    for life in 0..lives {
        one(world).await.map_err(|error| Violation::Wrong(vec![format!("life {life}: {error}")]))?;
        if life % LEVEL_EVERY == 0 || life + 1 == lives {
            let level = level(world, first.as_ref()).await?;
            heap.push((life, level.heap_bytes));
            eprintln!("life {life} of {lives}: {:.0} s", begun.elapsed().as_secs_f64());
            first.get_or_insert(level);
        }
    }
    let took = begun.elapsed();
    let slope = trend(&heap);
    match slope {
        Some(slope) if slope > HEAP_SLOPE => {
            Err(Violation::Leak(format!("the heap grows by {slope:.0} bytes a life: {heap:?}")))
        }
        _ => Ok((took, slope)),
    }
}

async fn one(world: &World) -> Result<(), nexus_dbus::Error> {
    let bus = world.connect().await;
    perform(world, &bus, Op::Create { vm: 0, policy: "no", disk: Disk::New, autostart: false }).await?;
    perform(world, &bus, Op::Start { vm: 0 }).await?;
    let path = nexus_dbus::client::ManagerProxy::new(&bus).await?.get_vm(&vm_name(0)).await?;
    let ready = async {
        while !VmProperties::read(&bus, &path).await.is_ok_and(|vm| vm.guest_ready) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("the guest answers");
    let guest = GuestProxy::builder(&bus).path(path).cache_properties(CacheProperties::No).build().await?;
    let (code, output, ..) = guest.run(&["echo", "alive"], Options::new()).await?;
    assert_eq!((code, output.as_str()), (0, "alive\n"));
    perform(world, &bus, Op::Stop { vm: 0, timeout_ms: 20_000 }).await?;
    perform(world, &bus, Op::Remove { vm: 0, disks: true }).await
}

/// What nexusd holds, once that is no more than at first.
async fn level(world: &World, first: Option<&Level>) -> Result<Level, Violation> {
    let bus = world.connect().await;
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = Observation::take(world, &bus).await.map_err(|error| Violation::Wrong(vec![error]))?;
        let wrong = seen.wrong(world);
        if let Some(level) = Level::take(world, &seen).await {
            let above = first.and_then(|first| level.above(first));
            match (wrong.is_empty(), above) {
                (true, None) => return Ok(level),
                (false, _) if Instant::now() > end => return Err(Violation::Wrong(wrong)),
                (_, Some(above)) if Instant::now() > end => return Err(Violation::Leak(above)),
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
