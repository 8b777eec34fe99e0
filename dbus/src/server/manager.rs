//! `org.workfort.Nexus1.Manager`.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use nexus_actors::{
    ImportAsset, ImportImage, Orphan, Place, Prune,
    snapshot::{JobId, JobSnapshot, ManagerSnapshot, ObjectRef, VmSnapshot},
};
use nexus_model::{
    ArtifactName, AssetKind, ErrorKind, Name,
    vm::{VmFile, VmSpec},
};
use zbus::{
    Connection, ObjectPath, OwnedFd, OwnedObjectPath, interface, message::Header, object_server::SignalEmitter,
};

use super::{
    call::Call,
    find::find,
    options::{Argument, Dict, Options, nothing},
    path,
    picture::Picture,
    records::{self, List, Wanted},
    served::Served,
    tally::Tally,
    text,
    vm::stop_options,
};
use crate::{API_REVISION, Error};

/// Optional capabilities.
const FEATURES: [&str; 1] = ["bind-caller"];

/// What is made, found and listed.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    pub(super) engine: Served,
    pub(super) version: Arc<str>,
    pub(super) picture: Picture<ManagerSnapshot>,
    pub(super) tally: Picture<Tally>,
}

impl Manager {
    /// A call about what has that name, or is to get it.
    fn call<'a, N: FromStr>(
        &'a self,
        bus: &'a Connection,
        header: &Header<'_>,
        name: &str,
        object: impl FnOnce(N) -> ObjectRef,
    ) -> Call<'a> {
        let call = Call::new(&self.engine, bus, header).argument("name", name);
        match name.parse() {
            Ok(name) => call.about(object(name)),
            Err(_) => call,
        }
    }

    /// A call about the VM of that name or id.
    fn call_of_vm<'a>(&'a self, bus: &'a Connection, header: &Header<'_>, given: &str) -> Call<'a> {
        let name = self.vm(given).map_or_else(|_| given.to_owned(), |name| name.to_string());
        self.call(bus, header, &name, ObjectRef::Vm)
    }

    async fn open_list(
        &self,
        list: List,
        options: Dict,
        bus: &Connection,
        header: &Header<'_>,
    ) -> Result<OwnedFd, Error> {
        let open = |wanted| async move { records::open(&self.engine, list, wanted).await };
        Call::new(&self.engine, bus, header).query_with(options, Wanted::decode, open).await.map(OwnedFd::from)
    }

    /// The VM that a caller means.
    fn vm(&self, given: &str) -> Result<Name, Error> {
        let all = self.engine.board().vms();
        find("VM", given, |name| all.get(name), || all.all(), |vm| (&vm.name, vm.id))
    }
}

/// A name to give; none is one that Nexus makes up.
fn new_name(name: &str) -> Result<Option<Name>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    name.parse().map(Some).map_err(|error| Argument { name: "name", error }.into())
}

fn vm_spec(options: &mut Options) -> Result<VmSpec, Error> {
    let default = VmSpec::default();
    Ok(VmSpec {
        image: options.parse("image")?,
        workspace: options.parse("workspace")?,
        kernel: options.parse("kernel")?,
        initrd: options.parse("initrd")?,
        vmm: options.parse("vmm")?.unwrap_or(default.vmm),
        vcpus: options.take("vcpus")?.unwrap_or(default.vcpus),
        memory_bytes: options.take("memory-bytes")?.unwrap_or(default.memory_bytes),
        kernel_args: options.take("kernel-args")?.unwrap_or(default.kernel_args),
        env: options.take::<BTreeMap<String, String>>("env")?.unwrap_or(default.env),
        files: files(options)?.into(),
        tags: options.take("tags")?.unwrap_or(default.tags),
        label: default.label,
        role: options.parse("role")?.unwrap_or(default.role),
        autostart: options.take("autostart")?.unwrap_or(default.autostart),
        restart_policy: options.parse("restart-policy")?.unwrap_or(default.restart_policy),
        ephemeral: options.take("ephemeral")?.unwrap_or(default.ephemeral),
    })
}

/// Decodes what a guest is to be given.
fn files(options: &mut Options) -> Result<Vec<VmFile>, Error> {
    let given: Vec<(String, Dict)> = options.take("files")?.unwrap_or_default();
    let file = |(path, about): (String, Dict)| {
        let mut about = Options::new(about);
        let file = VmFile {
            content: match (about.take::<Vec<u8>>("content")?, about.take::<String>("text")?) {
                (Some(content), None) => content.into(),
                (None, Some(text)) => text.into_bytes().into(),
                _ => return Err(Error::invalid_args("each of `files` has either `content` or `text`")),
            },
            mode: about.take("mode")?,
            owner: about.take("owner")?,
            path,
        };
        about.finish()?;
        Ok(file)
    };
    given.into_iter().map(file).collect()
}

fn base(options: &mut Options) -> Result<ArtifactName, Error> {
    options.parse("base")?.ok_or_else(|| Error::invalid_args("option `base` must name an image"))
}

fn asset(options: &mut Options, kind: &str, path: &str) -> Result<ImportAsset, Error> {
    Ok(ImportAsset {
        kind: kind.parse::<AssetKind>().map_err(|error| Argument { name: "kind", error })?,
        path: path.into(),
        version: options.take("version")?,
        digest: options.take("digest")?,
        default: options.take("default")?.unwrap_or_default(),
    })
}

fn prune(options: &mut Options, kinds: &[String]) -> Result<Prune, Error> {
    let kind = |kind: &String| kind.parse().map_err(|error| Error::from(Argument { name: "kinds", error }));
    Ok(Prune {
        kinds: kinds.iter().map(kind).collect::<Result<_, _>>()?,
        dry_run: options.take("dry-run")?.unwrap_or_default(),
    })
}

#[interface(name = "org.workfort.Nexus1.Manager", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("vm"))]
    async fn create_vm(
        &self,
        name: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let call = self.call(bus, &header, &name, ObjectRef::Vm);
        let outcome = call.outcome();
        let create = |origin, spec| async move {
            let name = self.engine.create_vm(&origin, new_name(&name)?, spec).await?;
            outcome.about(ObjectRef::Vm(name.clone()));
            Ok::<_, Error>(path::vm(&name))
        };
        call.change(options, vm_spec, create).await
    }

    #[zbus(out_args("vm", "job"))]
    async fn run_vm(
        &self,
        name: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, OwnedObjectPath), Error> {
        let call = self.call(bus, &header, &name, ObjectRef::Vm);
        let run = |origin, mut spec: VmSpec| async move {
            spec.ephemeral |= name.is_empty();
            let (name, job) = self.engine.run_vm(&origin, new_name(&name)?, spec).await?;
            Ok::<_, Error>((path::vm(&name), job))
        };
        call.job_with(options, vm_spec, run).await
    }

    #[zbus(out_args("vm"))]
    fn get_vm(&self, name: String) -> Result<OwnedObjectPath, Error> {
        Ok(path::vm(&self.vm(&name)?))
    }

    #[zbus(out_args("vm"))]
    fn get_vm_by_pid(&self, pid: u32) -> Result<OwnedObjectPath, Error> {
        let vms = self.engine.board().vms().all();
        let vm = vms.iter().find(|vm| pid != 0 && vm.leader == pid).map(|vm| path::vm(&vm.name));
        vm.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no VM has a VMM with process id {pid}")))
    }

    #[zbus(out_args("workspace"))]
    fn get_workspace(&self, name: String) -> Result<OwnedObjectPath, Error> {
        let all = self.engine.board().workspaces();
        let found = find("workspace", &name, |name| all.get(name), || all.all(), |one| (&one.name, one.id))?;
        Ok(path::workspace(&found))
    }

    #[zbus(out_args("image"))]
    fn get_image(&self, name: String) -> Result<OwnedObjectPath, Error> {
        let all = self.engine.board().images();
        let found = find("image", &name, |name| all.get(name), || all.all(), |one| (&one.name, one.id))?;
        Ok(path::image(&found))
    }

    #[zbus(out_args("asset"))]
    fn get_asset(&self, name: String) -> Result<OwnedObjectPath, Error> {
        let all = self.engine.board().assets();
        let found = find("asset", &name, |name| all.get(name), || all.all(), |one| (&one.name, one.id))?;
        Ok(path::asset(&found))
    }

    #[zbus(out_args("job"))]
    fn get_job(&self, id: JobId) -> Result<OwnedObjectPath, Error> {
        let job = self.engine.board().jobs().get(&id).map(|_| path::job(id));
        job.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "there is no job {id}; they go 60 s after their end: see which are there with `nexusctl job list`"
                ),
            )
        })
    }

    #[zbus(out_args("supervisor"))]
    fn get_supervisor(&self, name: String) -> Result<OwnedObjectPath, Error> {
        let root = Place::Root.to_string();
        let place = if name == root { root } else { format!("{root}/{name}") };
        let found = self.engine.board().actors().get(&place).filter(|actor| actor.strategy.is_some());
        let path = found.map(|_| path::actor(&place));
        path.ok_or_else(|| nexus_actors::Error::not_found("supervisor", &name).into())
    }

    #[zbus(out_args("vms"))]
    fn list_vms(&self) -> Vec<(String, String, String, OwnedObjectPath)> {
        let board = self.engine.board();
        let health =
            |name: &Name| board.actors().get(&Place::Machine(name.clone()).to_string()).map(|actor| actor.health);
        let row = |vm: Arc<VmSnapshot>| {
            let health = health(&vm.name).map(|health| health.to_string()).unwrap_or_default();
            (vm.name.to_string(), vm.lifecycle.state().to_string(), health, path::vm(&vm.name))
        };
        board.vms().all().into_iter().map(row).collect()
    }

    #[zbus(out_args("jobs"))]
    fn list_jobs(&self) -> Vec<(JobId, String, String, f64, OwnedObjectPath)> {
        let row = |job: Arc<JobSnapshot>| {
            (job.id, job.kind.to_string(), job.state.to_string(), job.progress.unwrap_or(-1.0), path::job(job.id))
        };
        self.engine.board().jobs().all().into_iter().map(row).collect()
    }

    #[zbus(out_args("job"))]
    async fn start_vm(
        &self,
        name: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let call = self.call_of_vm(bus, &header, &name);
        let start = |origin, ()| async move { Ok::<_, Error>(self.engine.start_vm(&origin, &self.vm(&name)?).await?) };
        call.job(options, nothing, start).await
    }

    #[zbus(out_args("job"))]
    async fn stop_vm(
        &self,
        name: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let call = self.call_of_vm(bus, &header, &name);
        let stop =
            |origin, how| async move { Ok::<_, Error>(self.engine.stop_vm(&origin, &self.vm(&name)?, how).await?) };
        call.job(options, stop_options, stop).await
    }

    async fn kill_vm(
        &self,
        name: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let call = self.call_of_vm(bus, &header, &name);
        let kill = |origin, ()| async move { Ok::<_, Error>(self.engine.kill_vm(&origin, &self.vm(&name)?).await?) };
        call.change(Dict::new(), nothing, kill).await
    }

    #[zbus(out_args("job"))]
    async fn import_image(
        &self,
        path: String,
        name: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let call = self.call(bus, &header, &name, ObjectRef::Image).argument("path", path.clone());
        let decode = |options: &mut Options| {
            let name = name.parse().map_err(|error| Argument { name: "name", error })?;
            Ok(ImportImage { path: path.into(), name, size_bytes: options.take("size-bytes")? })
        };
        let import = |origin, request| async move { self.engine.import_image(&origin, request).await };
        call.job(options, decode, import).await
    }

    #[zbus(out_args("job"))]
    async fn create_workspace(
        &self,
        name: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let call = self.call(bus, &header, &name, ObjectRef::Workspace);
        let decode = |options: &mut Options| Ok((new_name(&name)?, base(options)?));
        let create = |origin, (name, base)| async move { self.engine.create_workspace(&origin, name, base).await };
        call.job(options, decode, create).await
    }

    #[zbus(out_args("job"))]
    async fn import_asset(
        &self,
        kind: String,
        path: String,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let call = Call::new(&self.engine, bus, &header).argument("kind", kind.clone()).argument("path", path.clone());
        let decode = |options: &mut Options| asset(options, &kind, &path);
        let import = |origin, request| async move { self.engine.import_asset(&origin, request).await };
        call.job(options, decode, import).await
    }

    #[zbus(out_args("audit"))]
    async fn open_audit(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, Error> {
        self.open_list(List::Audit, options, bus, &header).await
    }

    #[zbus(out_args("events"))]
    async fn open_events(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, Error> {
        self.open_list(List::Events, options, bus, &header).await
    }

    #[zbus(out_args("checks"))]
    async fn check_host(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(String, bool, String)>, Error> {
        let checks = Call::new(&self.engine, bus, &header).query(self.engine.check_host()).await?;
        Ok(checks.into_iter().map(|check| (check.name.to_owned(), check.ok, check.detail)).collect())
    }

    #[zbus(out_args("orphans"))]
    async fn list_orphans(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(String, String, String)>, Error> {
        let orphans = Call::new(&self.engine, bus, &header).query(self.engine.orphans()).await?;
        let row = |orphan: Orphan| (orphan.kind.to_string(), orphan.name, orphan.fate.to_string());
        Ok(orphans.into_iter().map(row).collect())
    }

    #[zbus(out_args("job"))]
    async fn prune(
        &self,
        kinds: Vec<String>,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let call = Call::new(&self.engine, bus, &header).argument("kinds", kinds.clone());
        let decode = |options: &mut Options| prune(options, &kinds);
        let prune = |origin, request| async move { self.engine.prune(&origin, request).await };
        call.job(options, decode, prune).await
    }

    #[zbus(signal)]
    pub(super) async fn job_new(
        emitter: &SignalEmitter<'_>,
        id: JobId,
        job: ObjectPath<'_>,
        kind: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: JobId,
        job: ObjectPath<'_>,
        kind: &str,
        state: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn vm_exited(
        emitter: &SignalEmitter<'_>,
        name: &str,
        vm: ObjectPath<'_>,
        exit_code: i32,
        cause: &str,
        reason: &str,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        self.version.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn api_revision(&self) -> u32 {
        API_REVISION
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Vec<String> {
        FEATURES.map(str::to_owned).to_vec()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn architecture(&self) -> String {
        std::env::consts::ARCH.to_owned()
    }

    #[zbus(property)]
    fn vmm_available(&self) -> Vec<String> {
        self.picture.get().vmm_available.iter().map(ToString::to_string).collect()
    }

    #[zbus(property)]
    fn state(&self) -> String {
        nexus_model::failpoint("bus.state");
        self.tally.get().state(self.picture.get().draining).to_owned()
    }

    #[zbus(property)]
    fn vm_count(&self) -> u32 {
        self.tally.get().vms
    }

    #[zbus(property)]
    fn running_vm_count(&self) -> u32 {
        self.tally.get().running_vms
    }

    #[zbus(property)]
    fn job_count(&self) -> u32 {
        self.tally.get().jobs
    }

    #[zbus(property)]
    fn committed_memory_bytes(&self) -> u64 {
        self.tally.get().committed_memory_bytes
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_path(&self) -> String {
        text(Some(&self.picture.get().storage_path))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_backend(&self) -> String {
        self.picture.get().storage_backend.to_string()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn storage_free_bytes(&self) -> u64 {
        self.engine.storage_free_bytes()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn database_path(&self) -> String {
        text(Some(&self.picture.get().database_path))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn schema_version(&self) -> u32 {
        self.picture.get().schema_version
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn table_count(&self) -> u32 {
        self.picture.get().table_count
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn database_bytes(&self) -> u64 {
        self.engine.database_bytes()
    }

    #[zbus(property)]
    fn default_kernel(&self) -> OwnedObjectPath {
        self.picture.get().default_kernel.as_ref().map_or_else(path::none, path::asset)
    }
}
