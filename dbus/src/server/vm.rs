//! `org.workfort.Nexus1.Vm`.

use std::sync::Arc;

use nexus_actors::{HistoryLine, RemoveOptions, StopOptions, VmSetting, snapshot::VmSnapshot};
use nexus_model::{ErrorKind, ExitStatus, Name, microseconds};
use serde_json::json;
use zbus::{Connection, OwnedFd, OwnedObjectPath, interface, message::Header, object_server::SignalEmitter};

use super::{
    call::Call,
    console::{self, Tail},
    options::{Argument, Dict, Options, nothing},
    path,
    picture::Picture,
    served::Served,
    text,
};
use crate::Error;

/// A virtual machine.
#[derive(Debug)]
pub(super) struct Vm {
    engine: Served,
    name: Name,
    picture: Picture<VmSnapshot>,
}

impl Vm {
    pub(super) const fn new(engine: Served, name: Name, picture: Picture<VmSnapshot>) -> Self {
        Self { engine, name, picture }
    }

    /// What can be set is read as it was set: a setter can't wait until it is shown.
    fn settings(&self) -> Arc<VmSnapshot> {
        match &self.picture {
            Picture::Still(picture) => picture.clone(),
            Picture::Live(_) => self.engine.board().vms().get(&self.name).unwrap_or_else(|| self.picture.get()),
        }
    }

    fn call<'a>(&'a self, bus: &'a Connection, header: &Header<'_>) -> Call<'a> {
        Call::new(&self.engine, bus, header).about_vm(&self.name)
    }

    /// Changes a setting.
    async fn assign(
        &self,
        bus: &Connection,
        header: Option<Header<'_>>,
        property: &str,
        value: serde_json::Value,
        setting: Result<VmSetting, Error>,
    ) -> Result<(), Error> {
        let header = header.ok_or_else(|| Error::invalid_args("there was no call"))?;
        let set = |origin| async move { Ok::<_, Error>(self.engine.set_vm(&origin, &self.name, setting?).await?) };
        self.call(bus, &header).assign(property, value, set).await
    }
}

/// Options of what stops a VM.
pub(super) fn stop_options(options: &mut Options) -> Result<StopOptions, Error> {
    Ok(StopOptions { timeout: options.duration("timeout-usec")? })
}

fn remove_options(options: &mut Options) -> Result<RemoveOptions, Error> {
    Ok(RemoveOptions {
        force: options.take("force")?.unwrap_or_default(),
        remove_workspaces: options.take("remove-workspaces")?.unwrap_or_default(),
    })
}

/// What of which console is wanted: that of the run before, or the last.
fn wanted(options: &mut Options) -> Result<(bool, Tail), Error> {
    let previous = options.take("previous")?.unwrap_or_default();
    let tail = Tail { follow: options.take("follow")?.unwrap_or_default(), lines: options.take("tail-lines")? };
    if previous && tail.follow {
        return Err(Error::new(
            ErrorKind::InvalidArgs,
            "nothing more is written to a `previous` console: leave `follow`",
        ));
    }
    Ok((previous, tail))
}

/// One word for how a VMM ended.
pub(super) const fn cause(status: ExitStatus) -> &'static str {
    match status {
        ExitStatus::Code(_) => "exited",
        ExitStatus::Signal(_) => "killed",
        ExitStatus::Unknown => "unknown",
    }
}

#[interface(name = "org.workfort.Nexus1.Vm", introspection_docs = false)]
impl Vm {
    #[zbus(out_args("job"))]
    async fn start(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let start = |origin, ()| async move { self.engine.start_vm(&origin, &self.name).await };
        self.call(bus, &header).job(options, nothing, start).await
    }

    #[zbus(out_args("job"))]
    async fn stop(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let stop = |origin, how| async move { self.engine.stop_vm(&origin, &self.name, how).await };
        self.call(bus, &header).job(options, stop_options, stop).await
    }

    #[zbus(out_args("job"))]
    async fn restart(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let restart = |origin, how| async move { self.engine.restart_vm(&origin, &self.name, how).await };
        self.call(bus, &header).job(options, stop_options, restart).await
    }

    async fn kill(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let kill = |origin, ()| async move { self.engine.kill_vm(&origin, &self.name).await };
        self.call(bus, &header).change(Dict::new(), nothing, kill).await
    }

    async fn pause(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let pause = |origin, ()| async move { self.engine.pause_vm(&origin, &self.name).await };
        self.call(bus, &header).change(Dict::new(), nothing, pause).await
    }

    async fn resume(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let resume = |origin, ()| async move { self.engine.resume_vm(&origin, &self.name).await };
        self.call(bus, &header).change(Dict::new(), nothing, resume).await
    }

    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        let remove = |origin, how| async move { self.engine.remove_vm(&origin, &self.name, how).await };
        self.call(bus, &header).job(options, remove_options, remove).await
    }

    #[zbus(out_args("log"))]
    async fn open_log(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, Error> {
        let gone = self.engine.board().vms().watch(&self.name);
        let open = |(previous, tail)| async move {
            let vm = self.picture.get();
            let log = if previous { vm.previous_console_log() } else { vm.console_log.clone() };
            console::open(log, tail, gone).await
        };
        self.call(bus, &header).query_with(options, wanted, open).await.map(OwnedFd::from)
    }

    #[zbus(out_args("history"))]
    async fn get_history(
        &self,
        limit: u32,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(u64, String, String, String)>, Error> {
        let lines = self.call(bus, &header).query(self.engine.vm_history(&self.name, limit)).await?;
        let row = |line: HistoryLine| (line.at.0, line.to.to_string(), line.reason.to_string(), line.detail);
        Ok(lines.into_iter().map(row).collect())
    }

    #[zbus(signal)]
    pub(super) async fn exited(
        emitter: &SignalEmitter<'_>,
        exit_code: i32,
        cause: &str,
        reason: &str,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.picture.get().id.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.to_string()
    }

    #[zbus(property)]
    fn label(&self) -> String {
        self.settings().label.clone()
    }

    #[zbus(property)]
    pub(super) async fn set_label(
        &self,
        value: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), Error> {
        self.assign(bus, header, "Label", json!(value), Ok(VmSetting::Label(value))).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn role(&self) -> String {
        self.picture.get().role.to_string()
    }

    #[zbus(property)]
    fn tags(&self) -> Vec<String> {
        self.settings().tags.clone()
    }

    #[zbus(property)]
    pub(super) async fn set_tags(
        &self,
        value: Vec<String>,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), Error> {
        self.assign(bus, header, "Tags", json!(value), Ok(VmSetting::Tags(value))).await
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.picture.get().lifecycle.state().to_string()
    }

    #[zbus(property)]
    fn state_reason(&self) -> String {
        self.picture.get().lifecycle.reason().to_string()
    }

    #[zbus(property)]
    fn state_changed_at(&self) -> u64 {
        self.picture.get().lifecycle.changed_at().0
    }

    #[zbus(property)]
    fn job(&self) -> OwnedObjectPath {
        self.picture.get().job.map_or_else(path::none, path::job)
    }

    #[zbus(property)]
    fn guest_ready(&self) -> bool {
        self.picture.get().guest.is_some()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn ephemeral(&self) -> bool {
        self.picture.get().ephemeral
    }

    #[zbus(property)]
    fn autostart(&self) -> bool {
        self.settings().autostart
    }

    #[zbus(property)]
    pub(super) async fn set_autostart(
        &self,
        value: bool,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), Error> {
        self.assign(bus, header, "Autostart", json!(value), Ok(VmSetting::Autostart(value))).await
    }

    #[zbus(property)]
    fn restart_policy(&self) -> String {
        self.settings().restart_policy.to_string()
    }

    #[zbus(property)]
    pub(super) async fn set_restart_policy(
        &self,
        value: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), Error> {
        let policy = value.parse().map_err(|error| Argument { name: "RestartPolicy", error }.into());
        self.assign(bus, header, "RestartPolicy", json!(value), policy.map(VmSetting::RestartPolicy)).await
    }

    #[zbus(property)]
    fn vmm(&self) -> String {
        self.picture.get().vmm.map(|vmm| vmm.to_string()).unwrap_or_default()
    }

    #[zbus(property)]
    fn isolated(&self) -> bool {
        self.picture.get().isolated
    }

    #[zbus(property)]
    fn image(&self) -> OwnedObjectPath {
        self.picture.get().image.as_ref().map_or_else(path::none, path::image)
    }

    #[zbus(property)]
    fn kernel(&self) -> OwnedObjectPath {
        self.picture.get().kernel.as_ref().map_or_else(path::none, path::asset)
    }

    #[zbus(property)]
    fn workspaces(&self) -> Vec<OwnedObjectPath> {
        self.picture.get().workspaces.iter().map(path::workspace).collect()
    }

    #[zbus(property)]
    fn connections(&self) -> Vec<OwnedObjectPath> {
        self.picture.get().connections.iter().map(|number| path::connection(&self.name, *number)).collect()
    }

    #[zbus(property)]
    fn vcpu_count(&self) -> u32 {
        self.picture.get().vcpus
    }

    #[zbus(property)]
    fn memory_bytes(&self) -> u64 {
        self.picture.get().memory_bytes
    }

    #[zbus(property)]
    fn context_id(&self) -> u32 {
        self.picture.get().cid
    }

    #[zbus(property)]
    fn leader(&self) -> u32 {
        self.picture.get().leader
    }

    #[zbus(property)]
    fn unit(&self) -> String {
        self.picture.get().unit.clone()
    }

    #[zbus(property)]
    fn invocation_id(&self) -> String {
        self.picture.get().invocation_id.clone()
    }

    #[zbus(property)]
    fn exit_code(&self) -> i32 {
        self.picture.get().exit.map_or(0, ExitStatus::shell_code)
    }

    #[zbus(property)]
    fn exit_reason(&self) -> String {
        self.picture.get().exit_reason.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> u64 {
        self.picture.get().created_at.0
    }

    #[zbus(property)]
    fn started_at(&self) -> u64 {
        self.picture.get().started_at.0
    }

    #[zbus(property)]
    fn stopped_at(&self) -> u64 {
        self.picture.get().stopped_at.0
    }

    #[zbus(property, name = "BootDurationUSec")]
    fn boot_duration_usec(&self) -> u64 {
        microseconds(self.picture.get().boot_duration)
    }

    #[zbus(property, name = "ReadyDurationUSec")]
    fn ready_duration_usec(&self) -> u64 {
        microseconds(self.picture.get().ready_duration)
    }

    #[zbus(property)]
    fn api_socket_path(&self) -> String {
        text(self.picture.get().api_socket.as_deref())
    }

    #[zbus(property)]
    fn vsock_path(&self) -> String {
        text(self.picture.get().vsock_socket.as_deref())
    }

    #[zbus(property)]
    fn console_log_path(&self) -> String {
        text(Some(&self.picture.get().console_log))
    }
}
