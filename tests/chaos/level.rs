//! What nexusd holds, when it has nothing to hold.

use std::{collections::BTreeSet, fs};

use crate::{check::Observation, world::World};

/// What must be as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Which incarnation of nexusd, by its process id.
    pub(crate) pid: i32,
    descriptors: usize,
    threads: usize,
    objects: BTreeSet<String>,
    files: usize,
    pub(crate) heap_bytes: i64,
}

/// How many threads more there may be: a pool that is not filled yet, up to tokio's blocking threads that are idle for
/// less than ten seconds.
const SPARE_THREADS: usize = 8;

impl Level {
    /// Of a nexusd without VMs, workspaces and jobs.
    pub(crate) async fn take(world: &World, seen: &Observation) -> Option<Self> {
        let pid = world.pid()?;
        let heap_bytes = world.heap_bytes().await;
        let count =
            |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).map(Iterator::count).unwrap_or_default();
        // Jobs come and go by themselves, and with them the node that they hang from.
        let objects = seen.objects.iter().filter(|(path, object)| object.job.is_none() && !path.ends_with("/job"));
        let objects = objects.map(|(path, _)| path.to_string()).collect();
        let files = world.home.things().len();
        Some(Self { pid, descriptors: count("fd"), threads: count("task"), objects, files, heap_bytes })
    }

    /// What is more than before. The heap is another matter: see [`trend`].
    pub(crate) fn above(&self, before: &Self) -> Option<String> {
        let higher = |what: &str, now: usize, then: usize, spare: usize| {
            (now > then + spare).then(|| format!("{now} {what}, {then} before"))
        };
        higher("descriptors", self.descriptors, before.descriptors, 0)
            .or_else(|| higher("threads", self.threads, before.threads, SPARE_THREADS))
            .or_else(|| {
                let new: Vec<&str> = self.objects.difference(&before.objects).map(String::as_str).collect();
                (!new.is_empty()).then(|| format!("objects {}", new.join(", ")))
            })
            .or_else(|| higher("files", self.files, before.files, 0))
    }
}

/// How fast the heap grows, in bytes a round: the slope of the line through the points (round, bytes) that has the least
/// squares. The first third is left out: caches fill.
pub(crate) fn trend(points: &[(usize, i64)]) -> Option<f64> {
    let points = &points[points.len() / 3..];
    if points.len() < 4 {
        return None;
    }
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 as f64, y + point.1 as f64));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in points {
        let (x, y) = (*x as f64 - mean_x, *y as f64 - mean_y);
        above += x * y;
        below += x * x;
    }
    (below > 0.0).then(|| above / below)
}
