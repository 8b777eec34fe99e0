//! What is asked of Firecracker. Source: `src/firecracker/swagger/firecracker.yaml` of Firecracker; the tests check every
//! request against it.

use std::path::Path;

use hyper::Method;
use nexus_model::vm::VmmKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::vmm::{MachinePlan, VmmError, kernel_args};

/// `reboot=k` resets over the keyboard controller, the one way that ends Firecracker; it has no PCI to look for.
const KERNEL_ARGS: &str = "console=ttyS0 reboot=k panic=1 quiet pci=off";
/// The longest kernel command line: `CMDLINE_MAX_SIZE` of Firecracker, without the final NUL.
const MAX_KERNEL_ARGS: usize = 2047;

/// One call of the API.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// None has no body.
    pub(super) body: Option<Value>,
}

#[derive(Serialize)]
struct Logger {
    level: &'static str,
    show_level: bool,
}

#[derive(Serialize)]
struct MachineConfiguration {
    vcpu_count: u32,
    mem_size_mib: u64,
}

#[derive(Serialize)]
struct BootSource<'a> {
    kernel_image_path: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd_path: Option<&'a Path>,
    boot_args: String,
}

#[derive(Serialize)]
struct Drive<'a> {
    drive_id: &'static str,
    is_root_device: bool,
    is_read_only: bool,
    path_on_host: &'a Path,
    cache_type: &'static str,
}

#[derive(Serialize)]
struct Vsock<'a> {
    guest_cid: u32,
    uds_path: &'a Path,
}

#[derive(Serialize)]
struct EntropyDevice {}

#[derive(Serialize)]
struct InstanceActionInfo {
    action_type: &'static str,
}

#[derive(Serialize)]
struct Vm {
    state: &'static str,
}

/// The answer of `GET /`, as far as it is of use.
#[derive(Debug, Deserialize)]
pub(super) struct InstanceInfo {
    pub(super) state: InstanceState,
}

/// Where the instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum InstanceState {
    #[serde(rename = "Not started")]
    NotStarted,
    Running,
    Paused,
}

/// The answer to a request that is refused.
#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    pub(super) fault_message: String,
}

impl Request {
    fn new(method: Method, path: &'static str, body: &impl Serialize) -> Result<Self, VmmError> {
        let body =
            serde_json::to_value(body).map_err(|error| unsupported(format!("a path is no UTF-8 text ({error})")))?;
        Ok(Self { method, path, body: Some(body) })
    }

    fn put(path: &'static str, body: &impl Serialize) -> Result<Self, VmmError> {
        Self::new(Method::PUT, path, body)
    }

    pub(super) const fn describe() -> Self {
        Self { method: Method::GET, path: "/", body: None }
    }

    pub(super) fn start() -> Result<Self, VmmError> {
        Self::put("/actions", &InstanceActionInfo { action_type: "InstanceStart" })
    }

    pub(super) fn pause() -> Result<Self, VmmError> {
        Self::new(Method::PATCH, "/vm", &Vm { state: "Paused" })
    }

    pub(super) fn resume() -> Result<Self, VmmError> {
        Self::new(Method::PATCH, "/vm", &Vm { state: "Resumed" })
    }
}

/// The kernel that Firecracker can load.
pub(super) fn kernel(plan: &MachinePlan) -> Result<&Path, VmmError> {
    let missing = || unsupported(format!("it needs {} as an uncompressed ELF file", plan.kernel.display()));
    plan.kernel_elf.as_deref().ok_or_else(missing)
}

/// Everything that describes the machine, in the order in which it is sent. Each can be repeated until the start.
pub(super) fn machine(plan: &MachinePlan) -> Result<Vec<Request>, VmmError> {
    let boot_args = kernel_args(KERNEL_ARGS, plan);
    if boot_args.len() > MAX_KERNEL_ARGS {
        return Err(unsupported(format!("its kernel command line is longer than {MAX_KERNEL_ARGS} bytes")));
    }
    // Its log goes where the console does, to a standard output whose reader bounds it.
    let mut requests = vec![
        Request::put("/logger", &Logger { level: "Warning", show_level: true })?,
        Request::put(
            "/machine-config",
            &MachineConfiguration { vcpu_count: plan.vcpus, mem_size_mib: plan.memory_bytes >> 20 },
        )?,
        Request::put(
            "/boot-source",
            &BootSource { kernel_image_path: kernel(plan)?, initrd_path: plan.initrd.as_deref(), boot_args },
        )?,
    ];
    if let Some(disk) = &plan.disk {
        requests.push(Request::put(
            "/drives/root",
            &Drive {
                drive_id: "root",
                // Only says whether Firecracker adds a `root=` of its own.
                is_root_device: false,
                is_read_only: false,
                path_on_host: disk,
                // What the guest has synced must survive a power cut of the host; the default ignores its flushes.
                cache_type: "Writeback",
            },
        )?);
    }
    requests.push(Request::put("/vsock", &Vsock { guest_cid: plan.cid, uds_path: &plan.vsock_socket() })?);
    requests.push(Request::put("/entropy", &EntropyDevice {})?);
    Ok(requests)
}

fn unsupported(reason: String) -> VmmError {
    VmmError::Unsupported { kind: VmmKind::Firecracker, reason }
}

#[cfg(test)]
#[path = "requests_test.rs"]
mod tests;
