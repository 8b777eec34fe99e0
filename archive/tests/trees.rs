//! Real trees, packed and unpacked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::{Read, Seek, SeekFrom, Write},
    mem::MaybeUninit,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use nexus_archive::{ArchiveError, Draft, Limits, Root, Summary, Target, Unpacker, pack};
use proptest::{collection::vec, option, prelude::*};
use rustix::fs::{FileType, Mode, inotify, mknodat};
use tempfile::TempDir;

/// What can be seen of a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    modified: i64,
    /// Of a file with more names: the first of them.
    first_name: Option<PathBuf>,
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Folder,
    Pipe,
    Link(PathBuf),
    File(Vec<u8>),
}

fn look(top: &Path) -> BTreeMap<PathBuf, Seen> {
    let (mut seen, mut names) = (BTreeMap::new(), BTreeMap::new());
    let mut waiting = vec![top.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().to_owned();
        let is_linked = metadata.nlink() > 1 && !metadata.is_dir();
        let content = if metadata.is_dir() {
            let mut below: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            waiting.extend(below.into_iter().rev());
            Content::Folder
        } else if metadata.is_symlink() {
            Content::Link(fs::read_link(&path).unwrap())
        } else if metadata.is_file() {
            Content::File(fs::read(&path).unwrap())
        } else {
            Content::Pipe
        };
        let first_name = is_linked.then(|| names.entry(metadata.ino()).or_insert_with(|| name.clone()).clone());
        let modified = metadata.mtime();
        seen.insert(name, Seen { mode: metadata.mode() & 0o7777, modified, first_name, content });
    }
    seen
}

fn packed(from: &Path) -> Result<(Vec<u8>, Summary), ArchiveError> {
    let root = Root::open(from.parent().unwrap()).unwrap();
    let name = from.file_name().unwrap();
    pack(&root.place(&Path::new("/").join(name), false).unwrap(), name, Vec::new())
}

fn unpacked(archive: &[u8], to: &Path, replace: bool) -> Result<Summary, ArchiveError> {
    let root = Root::open(to.parent().unwrap()).unwrap();
    let target = Target::find(&root, &Path::new("/").join(to.file_name().unwrap()), None, replace)?;
    let draft = Draft::begin(target)?;
    let (top, summary) = draft.unpack(0, archive)?;
    draft.commit(&top)?;
    Ok(summary)
}

fn left_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// One thing in a tree.
#[derive(Clone, Debug)]
enum Plant {
    File { content: Vec<u8>, mode: u32 },
    Sparse { pieces: Vec<(u32, Vec<u8>)>, end: u32 },
    Folder { mode: u32, below: Vec<(String, Plant)> },
    Symlink(String),
    HardLink,
    Pipe,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zé \n]{1,12}", "[a-z]{150,220}"]
}

fn plant() -> impl Strategy<Value = Plant> {
    let leaf = prop_oneof![
        (vec(any::<u8>(), 0..2000), 0..0o1000_u32)
            .prop_map(|(content, mode)| Plant::File { content, mode: mode | 0o400 }),
        (vec((1..40_u32, vec(1..u8::MAX, 1..9000)), 0..6), 0..50_u32)
            .prop_map(|(pieces, end)| Plant::Sparse { pieces, end }),
        "[a-z/.]{1,120}".prop_map(Plant::Symlink),
        Just(Plant::HardLink),
        Just(Plant::Pipe),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        (vec((name(), inner), 0..8), 0..0o1000_u32)
            .prop_map(|(below, mode)| Plant::Folder { below, mode: mode | 0o500 })
    })
}

/// Makes it; `first` is a file for hard links.
fn make(plant: &Plant, path: &Path, first: &Path) {
    match plant {
        Plant::File { content, mode } => {
            fs::write(path, content).unwrap();
            fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
        }
        Plant::Sparse { pieces, end } => {
            let mut file = File::create(path).unwrap();
            for (hole, content) in pieces {
                file.seek_relative(i64::from(*hole) * 64 * 1024).unwrap();
                file.write_all(content).unwrap();
            }
            let length = file.stream_position().unwrap() + u64::from(*end) * 100_000;
            file.set_len(length).unwrap();
        }
        Plant::Folder { mode, below } => {
            fs::create_dir(path).unwrap();
            for (name, plant) in below {
                let path = path.join(name);
                if fs::symlink_metadata(&path).is_err() {
                    make(plant, &path, first);
                }
            }
            fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
        }
        Plant::Symlink(target) => symlink(target, path).unwrap(),
        Plant::HardLink => fs::hard_link(first, path).unwrap(),
        Plant::Pipe => mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_comes_back_as_it_was(plant in plant(), seconds in option::of(0..2_000_000_000_u64)) {
        let folder = TempDir::new().unwrap();
        let (top, copy) = (folder.path().join("top"), folder.path().join("copy"));
        let first = folder.path().join("first");
        fs::write(&first, "linked").unwrap();
        let alone = matches!(plant, Plant::HardLink);
        make(&plant, &top, &first);
        if !alone {
            // It has its other names in the tree alone.
            fs::remove_file(&first).unwrap();
        }
        if let (Some(seconds), true) = (seconds, top.is_file() || top.is_dir()) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            if let Ok(file) = File::open(&top) {
                file.set_modified(time).unwrap();
            }
        }
        let (archive, said) = packed(&top).unwrap();
        let summary = unpacked(&archive, &copy, false).unwrap();
        prop_assert_eq!((summary.entries, summary.bytes), (said.entries, said.bytes));
        let (mut before, mut after) = (look(&top), look(&copy));
        if alone {
            before.get_mut(Path::new("")).unwrap().first_name = None;
        }
        // The time of a link can't be set on some file systems, and does not matter on any.
        for seen in before.values_mut().chain(after.values_mut()) {
            if matches!(seen.content, Content::Link(_)) {
                seen.modified = 0;
            }
        }
        prop_assert_eq!(before, after);
        prop_assert_eq!(left_in(folder.path()).iter().filter(|name| name.starts_with(".nexus")).count(), 0);
    }
}

#[test]
fn holes_stay_holes() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("disk");
    let mut disk = File::create(&file).unwrap();
    disk.set_len(8 << 30).unwrap();
    for at in [0, 1 << 20, 3 << 30] {
        disk.seek(SeekFrom::Start(at)).unwrap();
        disk.write_all(&[7; 5000]).unwrap();
    }
    let (archive, summary) = packed(&file).unwrap();
    assert!(archive.len() < 200_000, "{} bytes are carried", archive.len());
    assert!(summary.bytes < 100_000);
    let copy = folder.path().join("copy");
    unpacked(&archive, &copy, false).unwrap();
    let metadata = fs::metadata(&copy).unwrap();
    assert_eq!(metadata.len(), 8 << 30);
    assert!(metadata.blocks() * 512 < 200_000, "{} blocks are taken", metadata.blocks());
    let mut copy = File::open(&copy).unwrap();
    let mut content = [0; 5001];
    copy.seek(SeekFrom::Start(3 << 30)).unwrap();
    copy.read_exact(&mut content).unwrap();
    assert_eq!((&content[..5000], content[5000]), (&[7; 5000][..], 0));
}

#[test]
fn gnu_tar_reads_what_is_packed() {
    let folder = TempDir::new().unwrap();
    let top = folder.path().join("top");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("long".repeat(50)), "content").unwrap();
    for name in ["sparse".to_owned(), "sparse".repeat(40)] {
        let mut sparse = File::create(top.join(name)).unwrap();
        sparse.seek(SeekFrom::Start(1 << 20)).unwrap();
        sparse.write_all(b"end").unwrap();
    }
    fs::write(folder.path().join("top.tar"), packed(&top).unwrap().0).unwrap();
    fs::create_dir(folder.path().join("copy")).unwrap();
    let status = std::process::Command::new("tar")
        .args(["-x", "-f", "top.tar", "-C", "copy"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(look(&top), look(&folder.path().join("copy/top")));
}

#[test]
fn the_place_is_found_as_docker_does() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("there/top")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let root = Root::open(folder.path()).unwrap();
    let find =
        |path: &str, name: Option<&str>, replace| Target::find(&root, Path::new(path), name.map(OsStr::new), replace);
    assert!(find("/there", Some("other"), false).is_ok(), "into the folder");
    assert!(matches!(find("/there", Some("top"), false), Err(ArchiveError::Exists { .. })));
    assert!(find("/there", Some("top"), true).is_ok());
    assert!(matches!(find("/there", None, false), Err(ArchiveError::Exists { .. })), "no folder is merged");
    assert!(find("/new", Some("top"), false).is_ok(), "under another name");
    assert!(find("/file", Some("top"), false).is_ok(), "in its place");
    assert!(matches!(find("/no/where", Some("top"), false), Err(ArchiveError::File { .. })));
    assert!(find("/../../new", Some("top"), false).is_ok(), "nothing leads out");
    for name in ["", ".", "..", "a/b", "../a", "/a", "a/"] {
        assert!(matches!(find("/there", Some(name), true), Err(ArchiveError::Place { .. })), "{name}");
    }
}

#[test]
fn what_is_there_is_replaced_whole_or_stays() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("new")).unwrap();
    fs::write(path("new/a"), "new").unwrap();
    fs::write(path("file"), "new").unwrap();
    fs::set_permissions(path("new"), Permissions::from_mode(0o500)).unwrap();
    let (tree, file) = (packed(&path("new")).unwrap().0, packed(&path("file")).unwrap().0);
    fs::create_dir(path("tree")).unwrap();
    fs::write(path("tree/old"), "old").unwrap();
    fs::write(path("other"), "old").unwrap();

    for (archive, to, replace) in [(&tree, "tree", false), (&tree, "other", true), (&file, "tree", true)] {
        assert!(unpacked(archive, &path(to), replace).is_err(), "{to}");
    }
    // Where it is cut between two entries, only what carries it knows.
    for cut in [0, 100, 511, 513, 1025, 1500] {
        assert!(unpacked(&tree[..cut], &path("tree"), true).is_err(), "{cut}");
    }
    assert_eq!(left_in(&path("tree")), ["old"]);
    assert_eq!(left_in(folder.path()), ["file", "new", "other", "tree"]);

    unpacked(&tree, &path("tree"), true).unwrap();
    unpacked(&file, &path("other"), false).unwrap();
    assert_eq!(left_in(&path("tree")), ["a"]);
    assert_eq!(fs::metadata(path("tree")).unwrap().mode() & 0o777, 0o500);
    assert_eq!(fs::read_to_string(path("other")).unwrap(), "new");
    assert_eq!(left_in(folder.path()), ["file", "new", "other", "tree"]);
}

#[test]
fn what_can_not_be_in_its_place_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("tree")).unwrap();
    fs::write(path("file"), "").unwrap();
    make(&Plant::Pipe, &path("pipe"), Path::new(""));
    let (tree, file) = (packed(&path("tree")).unwrap().0, packed(&path("file")).unwrap().0);
    // Of an archive no more than the header of its first entry: what comes later is not waited for.
    for (archive, to) in [(&tree[..512], "file"), (&file[..], "pipe"), (&tree[..], "pipe")] {
        let refused = unpacked(archive, &path(to), true);
        assert!(matches!(refused, Err(ArchiveError::Place { .. })), "{to}: {refused:?}");
    }
    let root = Root::open(folder.path()).unwrap();
    let draft = Draft::begin(Target::find(&root, Path::new("/later"), None, true).unwrap()).unwrap();
    make(&Plant::Pipe, &path("later"), Path::new(""));
    assert!(matches!(draft.unpack(0, &file[..]), Err(ArchiveError::Place { .. })), "it has come meanwhile");
    drop(draft);
    assert_eq!(left_in(folder.path()), ["file", "later", "pipe", "tree"]);
}

#[test]
fn what_the_kernel_has_is_copied_although_it_does_not_say_its_size() {
    let folder = TempDir::new().unwrap();
    for file in ["/proc/version", "/sys/devices/virtual/net/lo/mtu"].map(Path::new) {
        let (archive, summary) = packed(file).unwrap();
        let content = fs::read(file).unwrap();
        assert_eq!(summary.bytes, content.len() as u64);
        let copy = folder.path().join(file.file_name().unwrap());
        unpacked(&archive, &copy, false).unwrap();
        assert_eq!(fs::read(copy).unwrap(), content);
    }
}

#[test]
fn what_is_no_file_can_not_be_copied_by_itself() {
    let error = packed(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(error, ArchiveError::File { .. }), "{error:?}");
}

#[test]
fn sockets_are_left_out_and_counted() {
    let folder = TempDir::new().unwrap();
    let top = folder.path().join("top");
    fs::create_dir(&top).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    let (archive, summary) = packed(&top).unwrap();
    assert_eq!((summary.entries, summary.left_out), (1, 1));
    unpacked(&archive, &folder.path().join("copy"), false).unwrap();
    assert_eq!(left_in(&folder.path().join("copy")), [""; 0]);
}

#[test]
fn an_archive_that_fails_has_no_end() {
    let folder = TempDir::new().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let mut deep = folder.path().join("deep");
    for _ in 0..300 {
        fs::create_dir(&deep).unwrap();
        deep.push("d");
    }
    let root = Root::open(folder.path()).unwrap();
    for (name, begun) in [("socket", false), ("deep", true)] {
        let mut archive = Vec::new();
        let place = root.place(&Path::new("/").join(name), false).unwrap();
        pack(&place, &place.name, &mut archive).unwrap_err();
        assert_eq!(!archive.is_empty(), begun);
        assert!(!archive.ends_with(&[0; 1024]), "{name}: that is the end of one that is whole");
    }
}

#[test]
fn no_more_is_unpacked_than_is_allowed() {
    let folder = TempDir::new().unwrap();
    let top = folder.path().join("top");
    fs::create_dir(&top).unwrap();
    for number in 0..10 {
        fs::write(top.join(number.to_string()), [1; 1000]).unwrap();
    }
    let archive = packed(&top).unwrap().0;
    let unpack = |name: &str, limits: Limits| {
        let into = folder.path().join(name);
        fs::create_dir(&into).unwrap();
        Unpacker::new(File::open(&into).unwrap().as_fd(), limits).unpack(archive.as_slice()).map(|_| ())
    };
    let enough = Limits { entries: 11, bytes: 10_000, length: 10_000 };
    unpack("enough", enough).unwrap();
    unpack("entries", Limits { entries: 10, ..enough }).unwrap_err();
    unpack("bytes", Limits { bytes: 9_999, ..enough }).unwrap_err();
    unpack("length", Limits { length: 9_999, ..enough }).unwrap_err();
}

#[test]
fn a_folder_is_what_it_is_to_be_when_it_is_seen() {
    let folder = TempDir::new().unwrap();
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::set_permissions(&from, Permissions::from_mode(0o750)).unwrap();
    let (archive, _) = packed(&from).unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let seen = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ATTRIB;
    inotify::add_watch(&watch, folder.path(), seen).unwrap();
    unpacked(&archive, &folder.path().join("to"), false).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut told = Vec::new();
    while let Ok(event) = events.next() {
        if event.file_name() == Some(c"to") {
            told.push(event.events() - inotify::ReadFlags::ISDIR);
        }
    }
    assert_eq!(told, [inotify::ReadFlags::MOVED_TO], "nothing of it changes once it is there");
}

#[test]
fn permissions_are_kept_but_for_those_that_nobody_is_to_have() {
    let folder = TempDir::new().unwrap();
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    for (name, mode) in [("all", 0o6777), ("few", 0o640)] {
        fs::write(from.join(name), "").unwrap();
        fs::set_permissions(from.join(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&from, Permissions::from_mode(0o3777)).unwrap();
    let (archive, _) = packed(&from).unwrap();
    for (umask, modes) in [(0, [0o1777, 0o777, 0o640]), (0o027, [0o1750, 0o750, 0o640])] {
        let to = TempDir::new().unwrap();
        let root = Root::open(to.path()).unwrap();
        let draft = Draft::begin(Target::find(&root, Path::new("/to"), None, false).unwrap()).unwrap();
        let (top, _) = draft.unpack(umask, archive.as_slice()).unwrap();
        draft.commit(&top).unwrap();
        let mode = |name: &str| fs::metadata(to.path().join(name)).unwrap().mode() & 0o7777;
        assert_eq!(["to", "to/all", "to/few"].map(mode), modes);
    }
}
