//! What a keeper is asked to start.

use std::{
    ffi::OsString,
    fmt,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::vsock::Endpoint;

/// What a program is to its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramRole {
    /// The virtual machine monitor. Its process is the unit's leader.
    Vmm,
    /// The vsock device's other half, without which the guest can't be reached.
    VsockSidecar,
}

impl fmt::Display for ProgramRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmm => "the VMM",
            Self::VsockSidecar => "the vsock sidecar",
        })
    }
}

/// One program of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What it is to the VM.
    pub role: ProgramRole,
    /// The program, by absolute path, and its arguments.
    pub argv: Vec<OsString>,
    /// Its whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The next program is not started before something listens on this Unix socket.
    pub ready_socket: Option<PathBuf>,
    /// Where its standard output and error go; none throws them away. Standard input is always `/dev/null`.
    pub log: Option<Log>,
}

/// A file for a program's output that can't fill the disk. The keeper writes it, outside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The file. It is appended to, never followed when it is a symbolic link, and made with mode 0600.
    pub path: PathBuf,
    /// When it would grow beyond this, it is renamed to `<path>.1`, over the one that was there, and begun anew.
    pub max_bytes: u64,
}

/// What the programs of a VM can see and do: user, mount, process, IPC, UTS and network namespaces of their own, no
/// capability and no way to a new one, no descriptor of the keeper. There is no network, no `/proc`, no `/sys`, no `/tmp` and
/// no `/etc` but the dynamic linker's cache; `/usr` and what leads there (`/bin`, `/lib`, …) are as on the host and read-only.
/// They keep their user id, so files belong to whom they did before.
///
/// Everything given here appears at the path that it has outside, which must exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Files and folders that can be read: programs outside `/usr`, kernels, read-only disks.
    pub read_only: Vec<PathBuf>,
    /// Files and folders that can be written: disks, and the folder for the sockets that the programs make.
    pub read_write: Vec<PathBuf>,
    /// Device nodes beside `/dev/null`, `/dev/zero` and `/dev/urandom`, such as `/dev/kvm`.
    pub devices: Vec<PathBuf>,
}

/// The programs of a VM, in the order in which they start; the last is the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The programs. When one ends, all end.
    pub programs: Vec<Program>,
    /// How they are confined. None is no confinement at all: for VMs of the `process` driver only.
    pub sandbox: Option<Sandbox>,
    /// Their working directory, inside the sandbox.
    pub working_directory: PathBuf,
    /// How the guest's vsock ports are reached once they run. It is recorded with them: what this machine offers may be
    /// another thing by the time they are adopted.
    pub endpoint: Endpoint,
}

/// A launch that no keeper accepts: a defect of the caller, or a path that a user chose badly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLaunch {
    /// There must be one VMM, the last program, and at most one sidecar.
    #[error("a launch needs one VMM as its last program, after at most one sidecar")]
    Programs,
    /// A program must be given by absolute path.
    #[error("{0} must be started by absolute path")]
    Program(ProgramRole),
    /// A path is relative or has `..` in it.
    #[error("{} must be absolute and without `..`", .0.display())]
    Path(PathBuf),
    /// The programs could write the keeper's own folder, or one above it.
    #[error("{} must not be writable in the sandbox: the keeper's records are there", .0.display())]
    Records(PathBuf),
    /// A path lies below a folder that the programs can write, so an earlier run may have replaced it with a link.
    #[error("{} must not lie below {}, which the sandbox can write", path.display(), writable.display())]
    Replaceable {
        /// The path.
        path: PathBuf,
        /// The folder that is writable.
        writable: PathBuf,
    },
    /// A path or text that no launch can carry.
    #[error("a path is no UTF-8 text")]
    Encoding,
}

impl Launch {
    /// Checks what can be checked without looking at the machine.
    ///
    /// # Errors
    /// The first thing that can't be.
    pub fn validate(&self, runtime_dir: &Path) -> Result<(), InvalidLaunch> {
        let (vmm, sidecars) = self.programs.split_last().ok_or(InvalidLaunch::Programs)?;
        if vmm.role != ProgramRole::Vmm
            || sidecars.len() > 1
            || sidecars.iter().any(|program| program.role != ProgramRole::VsockSidecar)
        {
            return Err(InvalidLaunch::Programs);
        }
        for program in &self.programs {
            if !program.argv.first().is_some_and(|path| Path::new(path).is_absolute()) {
                return Err(InvalidLaunch::Program(program.role));
            }
        }
        let logs = || self.programs.iter().filter_map(|program| program.log.as_ref().map(|log| &log.path));
        let sockets = self.programs.iter().filter_map(|program| program.ready_socket.as_ref());
        for path in logs().chain(sockets).chain([&self.working_directory]) {
            check_plain(path)?;
        }
        check_plain(runtime_dir)?;
        let Some(sandbox) = &self.sandbox else { return Ok(()) };
        for path in sandbox.paths() {
            check_plain(path)?;
        }
        for writable in &sandbox.read_write {
            if runtime_dir.starts_with(writable) {
                return Err(InvalidLaunch::Records(writable.clone()));
            }
            if let Some(path) =
                sandbox.paths().chain(logs()).find(|path| *path != writable && path.starts_with(writable))
            {
                return Err(InvalidLaunch::Replaceable { path: path.clone(), writable: writable.clone() });
            }
        }
        Ok(())
    }
}

impl Sandbox {
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.read_only.iter().chain(&self.read_write).chain(&self.devices)
    }
}

fn check_plain(path: &Path) -> Result<(), InvalidLaunch> {
    let plain =
        path.is_absolute() && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if plain { Ok(()) } else { Err(InvalidLaunch::Path(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(role: ProgramRole) -> Program {
        Program { role, argv: vec!["/usr/bin/true".into()], env: Vec::new(), ready_socket: None, log: None }
    }

    fn launch(roles: &[ProgramRole], sandbox: Sandbox) -> Launch {
        Launch {
            programs: roles.iter().copied().map(program).collect(),
            sandbox: Some(sandbox),
            working_directory: "/".into(),
            endpoint: Endpoint::Kernel { cid: 3 },
        }
    }

    fn check(launch: &Launch) -> Result<(), InvalidLaunch> {
        launch.validate(Path::new("/run/nexus/1"))
    }

    #[test]
    fn the_vmm_comes_last_and_once() {
        use ProgramRole::{Vmm, VsockSidecar};
        for good in [&[Vmm][..], &[VsockSidecar, Vmm]] {
            assert_eq!(check(&launch(good, Sandbox::default())), Ok(()));
        }
        for bad in [&[][..], &[VsockSidecar], &[Vmm, VsockSidecar], &[Vmm, Vmm], &[VsockSidecar, VsockSidecar, Vmm]] {
            assert_eq!(check(&launch(bad, Sandbox::default())), Err(InvalidLaunch::Programs), "{bad:?}");
        }
    }

    #[test]
    fn a_program_is_an_absolute_path() {
        for argv in [vec![], vec!["qemu".into()]] {
            let mut launch = launch(&[ProgramRole::Vmm], Sandbox::default());
            launch.programs[0].argv = argv;
            assert_eq!(check(&launch), Err(InvalidLaunch::Program(ProgramRole::Vmm)));
        }
    }

    #[test]
    fn the_records_cannot_be_written() {
        for writable in ["/run/nexus/1", "/run/nexus", "/"] {
            let sandbox = Sandbox { read_write: vec![writable.into()], ..Sandbox::default() };
            assert_eq!(check(&launch(&[ProgramRole::Vmm], sandbox)), Err(InvalidLaunch::Records(writable.into())));
        }
        for writable in ["/run/nexus/1/sockets", "/run/nexus/11"] {
            let sandbox = Sandbox { read_write: vec![writable.into()], ..Sandbox::default() };
            assert_eq!(check(&launch(&[ProgramRole::Vmm], sandbox)), Ok(()));
        }
    }

    #[test]
    fn nothing_that_a_vmm_could_have_replaced_is_opened() {
        let writable = PathBuf::from("/run/nexus/1/sockets");
        let below = writable.join("kernel");
        let sandbox = Sandbox { read_write: vec![writable.clone()], ..Sandbox::default() };
        let read = Sandbox { read_only: vec![below.clone()], ..sandbox.clone() };
        let error = InvalidLaunch::Replaceable { path: below.clone(), writable };
        assert_eq!(check(&launch(&[ProgramRole::Vmm], read)), Err(error.clone()));
        let mut logged = launch(&[ProgramRole::Vmm], sandbox);
        logged.programs[0].log = Some(Log { path: below, max_bytes: 1 });
        assert_eq!(check(&logged), Err(error));
    }

    #[test]
    fn paths_are_plain() {
        for path in ["relative", "/a/../b"] {
            let sandbox = Sandbox { read_only: vec![path.into()], ..Sandbox::default() };
            assert_eq!(check(&launch(&[ProgramRole::Vmm], sandbox)), Err(InvalidLaunch::Path(path.into())));
        }
    }
}
