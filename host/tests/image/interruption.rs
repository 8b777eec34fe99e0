//! Imports that end before they are done, at any point.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nexus_host::{
    image,
    storage::{self, DISK, Progress},
};
use nexus_model::{BackendKind, ErrorKind};

use crate::{
    ground::{Ground, MIB, assert_clean, copy_backend, request, root_folder, small},
    scratch::{LoopFs, names},
};

/// A root file system with a file of so many MiB, as a folder and as an archive.
fn large_root(ground: &Ground, mebibytes: u64) -> (PathBuf, PathBuf) {
    let root = root_folder(ground.path());
    // Nothing that could be left out as a hole.
    fs::write(root.join("large"), vec![1; (mebibytes * MIB) as usize]).unwrap();
    let tar = ground.path().join("root.tar");
    assert!(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap().success());
    (root, tar)
}

#[test]
fn a_full_disk_leaves_nothing_of_an_import() {
    let Some(ext4) = LoopFs::new("ext4", 64) else { return };
    let ground = Ground::new();
    let (root, tar) = large_root(&ground, 80);
    ground.import(&request(&root)).unwrap();
    let disk = ground.disk();

    let backend = copy_backend(&ext4.path().join("data"));
    let image = ext4.path().join("data/images/base");
    for source in [&root, &tar, &disk] {
        let free = backend.free_bytes().unwrap();
        let error = image::import(backend.as_ref(), &request(source), &image, &Progress::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourcesExhausted, "{}: {error:?}", source.display());
        assert_eq!(names(image.parent().unwrap()), [""; 0]);
        assert_eq!(backend.free_bytes().unwrap().abs_diff(free) / MIB, 0);
    }
}

#[test]
fn a_cancel_at_any_point_leaves_nothing() {
    let ground = Ground::new();
    let (root, tar) = large_root(&ground, 20);
    ground.import(&small(&root)).unwrap();
    let disk = ground.path().join("disk.img");
    fs::copy(ground.disk(), &disk).unwrap();
    ground.backend.remove(&ground.images().join("base")).unwrap();
    let cancelled_after = |source: &Path, reports: u64| {
        let (slot, seen) = (Arc::new(OnceLock::<Progress>::new()), AtomicU64::new(0));
        let handle = Arc::clone(&slot);
        let progress = Progress::new(move |_, _| {
            if seen.fetch_add(1, Ordering::Relaxed) == reports {
                handle.get().unwrap().cancel();
            }
        });
        slot.set(progress.clone()).unwrap();
        image::import(ground.backend.as_ref(), &small(source), &ground.images().join("base"), &progress)
    };
    for source in [&root, &tar, &disk] {
        let mut reports = 0;
        while let Err(error) = cancelled_after(source, reports) {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
            assert_eq!(names(&ground.images()), [""; 0], "{reports} reports of {}", source.display());
            reports += 1 + reports / 4;
        }
        assert!(reports > 10, "only {reports} points of {} were tried", source.display());
        ground.backend.remove(&ground.images().join("base")).unwrap();
    }
    assert_eq!(processes_in(ground.path()), [""; 0]);
}

/// Command lines of processes that work in or with a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let process = |entry: std::io::Result<fs::DirEntry>| {
        let process = entry.ok()?.path();
        let command = fs::read(process.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let is_this = process.ends_with(std::process::id().to_string());
        (!is_this && (works_there || command.contains(folder.to_str()?))).then_some(command)
    };
    fs::read_dir("/proc").unwrap().filter_map(process).collect()
}

/// Run by `a_kill_at_any_point_leaves_nothing_under_the_final_name`, to be killed.
#[test]
#[ignore = "a process of another test"]
fn imports_until_it_is_killed() {
    let Some(arguments) = std::env::var_os("NEXUS_TEST_IMPORT") else { return };
    let [root, source, destination] =
        arguments.to_str().unwrap().split('\n').map(PathBuf::from).collect::<Vec<_>>().try_into().unwrap();
    let backend = storage::detect(&root, None).unwrap();
    let progress = Progress::new(|completed, _| eprintln!("at {completed}"));
    eprintln!("at 0");
    image::import(backend.as_ref(), &small(&source), &destination, &progress).unwrap();
    eprintln!("done");
}

#[test]
fn a_kill_at_any_point_leaves_nothing_under_the_final_name() {
    let ground = Ground::new();
    let (root, tar) = large_root(&ground, 20);
    ground.import(&small(&root)).unwrap();
    let disk = ground.disk();
    let btrfs = LoopFs::new("btrfs", 512);
    let mut places = vec![ground.path().join("killed")];
    places.extend(btrfs.as_ref().map(|btrfs| btrfs.path().join("killed")));
    for place in places {
        let backend = storage::detect(&place, None).unwrap();
        let images = place.join("images");
        fs::create_dir(&images).unwrap();
        for source in [&root, &tar, &disk] {
            let (mut reports, mut killed) = (0, 0);
            loop {
                let survived = import_killed_after(&place, source, &images.join("base"), reports);
                let whole = images.join("base").exists();
                if whole {
                    // The name was given in the last instant before the kill: then it stands for all of it.
                    assert_clean(&images.join("base").join(DISK));
                }
                assert!(whole || !survived);
                // What the killed process had started ends by itself, and with it the last use of its folder. What it was
                // just forking holds the lock of its draft until it executes its program, and is known by nothing before.
                let patience = Instant::now() + Duration::from_secs(30);
                loop {
                    let (running, left) = (processes_in(&place), names(&images));
                    if running.is_empty() && left.len() == usize::from(whole) {
                        break;
                    }
                    assert!(Instant::now() < patience, "{running:?} {left:?}");
                    if running.is_empty() {
                        backend.sweep(&images).unwrap();
                    }
                    std::thread::yield_now();
                }
                backend.remove(&images.join("base")).unwrap();
                if survived {
                    break;
                }
                killed += 1;
                reports += 1 + reports / 2;
            }
            assert!(killed > 5, "only {killed} kills");
        }
        assert_eq!(
            backend.kind() == BackendKind::Btrfs,
            place.starts_with(btrfs.as_ref().map_or(Path::new("/-"), LoopFs::path))
        );
    }
}

/// Whether the import ended before that many reports of progress.
fn import_killed_after(root: &Path, source: &Path, destination: &Path, reports: usize) -> bool {
    let arguments = [root, source, destination].map(|path| path.to_str().unwrap()).join("\n");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "interruption::imports_until_it_is_killed", "--ignored", "--nocapture"])
        .env("NEXUS_TEST_IMPORT", arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let last = lines.by_ref().filter(|line| line.starts_with("at ") || line == "done").take(reports + 1).last();
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let said: Vec<String> = lines.collect();
    assert!(status.success() || status.signal() == Some(9), "{status}: {said:?}");
    status.success() || last.is_some_and(|line| line == "done") || said.iter().any(|line| line == "done")
}
