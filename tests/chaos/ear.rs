//! A client that only listens: what it was told must be what is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use nexus_dbus::{ROOT, SERVICE};
use tokio_util::task::AbortOnDropHandle;
use zbus::{
    Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant,
    fdo::{DBusProxy, ManagedObjects, ObjectManagerProxy, PropertiesProxy},
    message,
    names::{InterfaceName, OwnedInterfaceName, OwnedUniqueName},
    proxy::CacheProperties,
};
use zbus_xml::Node;

use crate::world::World;

/// How many signals a round may have.
const SIGNALS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
const MANAGER: &str = "org.workfort.Nexus1.Manager";
const VM: &str = "org.workfort.Nexus1.Vm";
const EMITS: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";

/// The properties (`Interface.Property`) that need not say that they have changed, by the introspection data itself.
fn silent(repository: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(repository.join("dbus/interfaces")).expect("the interfaces are there").flatten();
    let mut silent = BTreeSet::new();
    for file in files.filter(|file| file.path().extension().is_some_and(|extension| extension == "xml")) {
        let xml = fs::read(file.path()).expect("introspection data");
        for interface in Node::from_reader(xml.as_slice()).expect("introspection data").interfaces() {
            let names = interface.properties().filter(|property| {
                let emits = property.annotations().iter().find(|annotation| annotation.name() == EMITS);
                emits.is_some_and(|emits| matches!(emits.value(), "false" | "invalidates"))
            });
            silent.extend(names.map(|property| format!("{}.{}", interface.name(), property.name())));
        }
    }
    silent
}

/// What was heard of one nexusd since it was first seen.
#[derive(Default)]
struct Heard {
    /// Whose signals they are; none while nobody has the name.
    owner: Option<OwnedUniqueName>,
    /// The objects as they were at first, and as signals have changed them since.
    objects: ManagedObjects,
    /// What each VM was said to be, one after the other.
    states: BTreeMap<String, Vec<String>>,
}

/// Hears every signal of whatever nexusd there is.
pub(crate) struct Ear {
    heard: Arc<Mutex<Heard>>,
    silent: BTreeSet<String>,
    _task: AbortOnDropHandle<()>,
}

impl Ear {
    pub(crate) fn listen(world: Arc<World>) -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let heard = Arc::<Mutex<Heard>>::default();
        let ear = heard.clone();
        let task = tokio::spawn(async move {
            loop {
                // It ends with the bus, or with the nexusd that was to say what there is.
                let _: zbus::Result<()> = follow(&world.connect().await, &ear).await;
                *lock(&ear) = Heard::default();
            }
        });
        Self { heard, silent: silent(repository), _task: AbortOnDropHandle::new(task) }
    }

    /// Forgets what VMs were said to be. Gives who is heard.
    pub(crate) fn begin(&self) -> Option<OwnedUniqueName> {
        let mut heard = lock(&self.heard);
        heard.states.clear();
        heard.owner.clone()
    }

    /// Who is heard.
    pub(crate) fn owner(&self) -> Option<OwnedUniqueName> {
        lock(&self.heard).owner.clone()
    }

    /// What this VM was said to be.
    pub(crate) fn states(&self, path: &str) -> Vec<String> {
        lock(&self.heard).states.get(path).cloned().unwrap_or_default()
    }

    /// What is there and was not told, or was told and is not there.
    pub(crate) async fn untold(&self, bus: &Connection) -> zbus::Result<Vec<String>> {
        let now = objects(bus).await?;
        Ok(differences(&now, &lock(&self.heard).objects, &self.silent))
    }
}

/// As long as there is a bus, and a nexusd that answers.
async fn follow(bus: &Connection, heard: &Mutex<Heard>) -> zbus::Result<()> {
    let names = DBusProxy::new(bus).await?;
    let mut owners = names.receive_name_owner_changed_with_args(&[(0, SERVICE)]).await?;
    loop {
        let Ok(owner) = names.get_name_owner(SERVICE.try_into()?).await else {
            if owners.next().await.is_none() {
                return Ok(());
            }
            continue;
        };
        let rule = MatchRule::builder().msg_type(message::Type::Signal).sender(owner.as_ref().to_owned()).build()?;
        let mut signals = MessageStream::for_match_rule(rule, bus, Some(SIGNALS)).await?;
        *lock(heard) = Heard { objects: objects(bus).await?, owner: Some(owner), ..Heard::default() };
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Some(Ok(message)) => lock(heard).take_in(&message)?,
                    _ => return Ok(()),
                },
                _ = owners.next() => break,
            }
        }
        *lock(heard) = Heard::default();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    fn take_in(&mut self, message: &Message) -> zbus::Result<()> {
        let header = message.header();
        let (body, member) = (message.body(), header.member().map(ToString::to_string));
        match member.as_deref() {
            Some("InterfacesAdded") => {
                type Properties = HashMap<String, OwnedVariant>;
                let (path, interfaces): (OwnedObjectPath, HashMap<OwnedInterfaceName, Properties>) =
                    body.deserialize()?;
                let vm = interfaces.iter().find(|(name, _)| name.as_str() == VM);
                if let Some(state) = vm.and_then(|(_, properties)| state_in(properties)) {
                    self.states.insert(path.to_string(), vec![state]);
                }
                self.objects.entry(path).or_default().extend(interfaces);
            }
            Some("InterfacesRemoved") => {
                let (path, interfaces): (OwnedObjectPath, Vec<OwnedInterfaceName>) = body.deserialize()?;
                if let Some(object) = self.objects.get_mut(&path) {
                    object.retain(|name, _| !interfaces.contains(name));
                    if object.is_empty() {
                        self.objects.remove(&path);
                    }
                }
            }
            Some("PropertiesChanged") => {
                type Changed = (OwnedInterfaceName, HashMap<String, OwnedVariant>, Vec<String>);
                let (interface, changed, _): Changed = body.deserialize()?;
                let Some(path) = header.path() else { return Ok(()) };
                if interface.as_str() == VM
                    && let Some(state) = state_in(&changed)
                {
                    self.states.entry(path.to_string()).or_default().push(state);
                }
                let object = self.objects.get_mut(&OwnedObjectPath::from(path.to_owned()));
                if let Some(properties) = object.and_then(|object| object.get_mut(&interface)) {
                    properties.extend(changed);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn state_in(properties: &HashMap<String, OwnedVariant>) -> Option<String> {
    String::try_from(properties.get("State")?.clone()).ok()
}

/// Every object with all its properties, the manager as well.
async fn objects(bus: &Connection) -> zbus::Result<ManagedObjects> {
    let all = ObjectManagerProxy::builder(bus).destination(SERVICE).path(ROOT).build().await?;
    let mut objects = all.get_managed_objects().await?;
    let properties = PropertiesProxy::builder(bus).destination(SERVICE).path(ROOT);
    let properties = properties.cache_properties(CacheProperties::No).build().await?;
    let manager = properties.get_all(InterfaceName::try_from(MANAGER)?).await?;
    objects.entry(OwnedObjectPath::try_from(ROOT)?).or_default().insert(MANAGER.try_into()?, manager);
    Ok(objects)
}

/// In words. `silent` are the properties (`Interface.Property`) that say nothing when they change.
fn differences(now: &ManagedObjects, told: &ManagedObjects, silent: &BTreeSet<String>) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, object) in now {
        for (interface, properties) in object {
            let Some(told) = told.get(path).and_then(|object| object.get(interface)) else {
                differences.push(format!("nobody was told of {interface} at {path}"));
                continue;
            };
            for (name, value) in properties {
                if told.get(name) != Some(value) && !silent.contains(&format!("{interface}.{name}")) {
                    differences.push(format!("{path}: {name} is {value:?}, and was told to be {:?}", told.get(name)));
                }
            }
        }
    }
    for (path, object) in told {
        for interface in object.keys() {
            if !now.get(path).is_some_and(|object| object.contains_key(interface)) {
                differences.push(format!("nobody was told that {interface} at {path} is gone"));
            }
        }
    }
    differences
}
