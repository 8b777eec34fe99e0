//! What a tree of many small files costs, in and out.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nexus_bench_peer::Request;
use nexus_dbus::client::Options;
use zbus::Variant;

use crate::{
    Outcome, blocking,
    calls::timed,
    report::Report,
    samples::Samples,
    scale::Scale,
    session::{PATIENCE, Programs, Session},
    testbed::{Kind, Subject, Testbed},
};

/// Of each file.
const FILE_BYTES: usize = 1024;
/// In each folder.
const FOLDER_FILES: usize = 100;

/// A tree on the host, and where it goes.
struct Tree {
    source: PathBuf,
    /// Where copies come back to.
    back: PathBuf,
    /// Where `nexusctl cp` takes it, as nexusctl sees it.
    copied: &'static str,
    /// Where tar takes it, as the peer sees it.
    unpacked: String,
    /// How large an archive of it is. The other end has to know, as a connection can't be closed for one direction alone.
    archive_bytes: u64,
}

/// Measures it.
///
/// # Errors
/// When it does not arrive.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs, guest: &Path) -> Outcome<()> {
    report.section(
        "Many small files",
        &format!(
            "A tree of {} files of {FILE_BYTES} bytes, {FOLDER_FILES} in a folder, goes into a VM and comes back, with \
             `nexusctl cp`: it compares a checksum, has all of it on the disk at the end, and puts it in its place whole or not \
             at all. Against `tar`, a bare connection to a program of the bench's in the same VM (over vsock in QEMU, over a \
             Unix socket in a `process` VM, which has no vsock), and `tar` at its other end (busybox' in QEMU), which does \
             nothing of the kind; and against that and a `sync -f` of what was unpacked. As whole programs, in turns.",
            scale.files
        ),
    );
    let mut testbed = Testbed::start(programs, guest).await?;
    report.comparisons();
    for kind in Kind::ALL {
        let subject = testbed.run(kind).await?;
        let tree = Tree::new(&testbed.session, kind, scale.files)?;
        let mut columns: [Samples; 6] = Default::default();
        for number in 0..scale.copies {
            tree.clear(&subject, number > 0).await?;
            let put = timed(tree.put(&testbed.session, &subject)).await?;
            let tar_in = timed(tree.tar_in(&subject)).await?;
            let synced_in = tar_in + timed(subject.peer.run(&["sync", "-f", &tree.unpacked])).await?;
            let bytes = tree.packed_bytes(&subject).await?;
            let get = timed(tree.get(&testbed.session, &subject)).await?;
            let tar_out = timed(tree.tar_out(&subject, bytes)).await?;
            let synced_out = tar_out + timed(sync(&tree.back)).await?;
            let samples = [put, tar_in, synced_in, get, tar_out, synced_out];
            columns.iter_mut().zip(samples).for_each(|(column, sample)| column.push(sample));
        }
        let [put, tar_in, synced_in, get, tar_out, synced_out] = &columns;
        let label = kind.label();
        report.compare(&format!("{label}: in, `nexusctl cp` ÷ tar"), put, tar_in, None);
        report.compare(&format!("{label}: in, `nexusctl cp` ÷ tar and `sync`"), put, synced_in, None);
        report.compare(&format!("{label}: out, `nexusctl cp` ÷ tar"), get, tar_out, None);
        report.compare(&format!("{label}: out, `nexusctl cp` ÷ tar and `sync`"), get, synced_out, None);
        testbed.end(subject).await?;
    }
    Ok(())
}

impl Tree {
    fn new(session: &Session, kind: Kind, files: usize) -> Outcome<Self> {
        let folder = session.folder().join(match kind {
            Kind::Process => "files-process",
            Kind::Qemu => "files-qemu",
        });
        let source = folder.join("tree");
        for number in 0..files {
            let inside = source.join((number / FOLDER_FILES).to_string());
            if number % FOLDER_FILES == 0 {
                fs::create_dir_all(&inside)?;
            }
            fs::write(inside.join(number.to_string()), format!("{number:FILE_BYTES$}"))?;
        }
        let (copied, unpacked) = match kind {
            Kind::Process => ("/", folder.join("unpacked").display().to_string()),
            Kind::Qemu => ("/root", "/root/unpacked".to_owned()),
        };
        let archive_bytes = archive_bytes(&source)?;
        Ok(Self { source, archive_bytes, back: folder.join("back"), copied, unpacked })
    }

    /// Removes what a round has left.
    async fn clear(&self, subject: &Subject, again: bool) -> Outcome<()> {
        if again {
            subject.peer.run(&["rm", "-rf", &self.unpacked]).await?;
            let copied = Path::new(self.copied).join("tree").display().to_string();
            subject.guest.delete_file(&copied, Options::from([("recursive", Variant::from(true))])).await?;
            fs::remove_dir_all(&self.back)?;
        }
        fs::create_dir_all(self.back.join("unpacked"))?;
        subject.peer.run(&["mkdir", &self.unpacked]).await
    }

    async fn put(&self, session: &Session, subject: &Subject) -> Outcome<()> {
        let mut copy = session.command("nexusctl");
        copy.arg("cp").arg(&self.source).arg(format!("{}:{}", subject.name, self.copied));
        blocking::succeed(copy).await
    }

    async fn get(&self, session: &Session, subject: &Subject) -> Outcome<()> {
        let mut copy = session.command("nexusctl");
        let source = Path::new(self.copied).join("tree");
        copy.arg("cp").arg(format!("{}:{}", subject.name, source.display())).arg(&self.back);
        blocking::succeed(copy).await
    }

    async fn tar_in(&self, subject: &Subject) -> Outcome<()> {
        let unpack = ["tar", "-x", "-f", "-", "-C", &self.unpacked];
        let connection = subject.peer.ask(Request::run_with(self.archive_bytes, &unpack)).await?;
        let mut pack = pack(&self.source);
        pack.stdout(connection.try_clone()?);
        blocking::succeed(pack).await?;
        blocking::run(move || blocking::done(&connection)).await
    }

    /// `bytes` is how many come: the connection does not end with them.
    async fn tar_out(&self, subject: &Subject, bytes: u64) -> Outcome<()> {
        let pack = ["tar", "-c", "-f", "-", "-C", &self.unpacked, "."];
        let connection = subject.peer.ask(Request::run(&pack)).await?;
        let mut unpack = Command::new("tar");
        unpack.args(["-x", "-f", "-", "-C"]).arg(self.back.join("unpacked")).stdin(Stdio::piped());
        blocking::run(move || {
            let mut unpack = unpack.spawn()?;
            let stdin = unpack.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            blocking::pass(&connection, stdin, bytes)?;
            blocking::done(&connection)?;
            if unpack.wait()?.success() { Ok(()) } else { Err(io::Error::other("tar failed")) }
        })
        .await
    }

    /// How large an archive of what tar unpacked is.
    async fn packed_bytes(&self, subject: &Subject) -> Outcome<u64> {
        let count = format!("tar -c -f - -C {} . | wc -c", self.unpacked);
        let options = Options::from([("timeout-usec", Variant::from(u64::try_from(PATIENCE.as_micros())?))]);
        let (_, stdout, _, _) = subject.guest.run(&["sh", "-c", &count], options).await?;
        Ok(stdout.trim().parse()?)
    }
}

/// An archive of a folder on the host.
fn pack(folder: &Path) -> Command {
    let mut pack = Command::new("tar");
    pack.args(["-c", "-f", "-", "-C"]).arg(folder).arg(".").stdin(Stdio::null()).stdout(Stdio::piped());
    pack
}

/// How large it is.
fn archive_bytes(folder: &Path) -> Outcome<u64> {
    let mut pack = pack(folder).spawn()?;
    let mut archive = pack.stdout.take().ok_or("tar has no output")?;
    let bytes = io::copy(&mut archive, &mut io::sink())?;
    if pack.wait()?.success() { Ok(bytes) } else { Err("tar failed".into()) }
}

/// Waits until what is in a folder of the host is on the disk.
async fn sync(folder: &Path) -> Outcome<()> {
    let mut sync = Command::new("sync");
    sync.arg("-f").arg(folder);
    blocking::succeed(sync).await
}
