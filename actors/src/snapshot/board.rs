//! Where actors publish and others read.

use std::{
    collections::BTreeMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
};

use nexus_model::{ArtifactName, ExitStatus, Name};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    AssetSnapshot, ConnectionSnapshot, ImageSnapshot, JobId, JobSnapshot, ManagerSnapshot, VmSnapshot,
    WorkspaceSnapshot,
};
use crate::supervisor::ChildStatus;

/// How one object changed.
#[derive(Clone, Debug)]
pub enum Update<K, T> {
    /// It is there now; this is its picture.
    Added(K, Arc<T>),
    /// It changed; this is the picture after this very change.
    Changed(K, Arc<T>),
    /// It is gone.
    Removed(K),
}

/// One step in the ordered history of all objects.
#[derive(Debug)]
pub enum Change {
    /// A VM.
    Vm(Update<Name, VmSnapshot>),
    /// A connection, by its VM and number.
    Connection(Update<(Name, u32), ConnectionSnapshot>),
    /// A workspace.
    Workspace(Update<Name, WorkspaceSnapshot>),
    /// An image.
    Image(Update<ArtifactName, ImageSnapshot>),
    /// An asset.
    Asset(Update<ArtifactName, AssetSnapshot>),
    /// A job.
    Job(Update<JobId, JobSnapshot>),
    /// The daemon.
    Manager(Arc<ManagerSnapshot>),
    /// An actor, by its place in the tree (`root/vms/web/machine`).
    Actor(Update<String, ChildStatus>),
    /// A VMM ended.
    VmExited {
        /// The VM.
        name: Name,
        /// How.
        status: ExitStatus,
        /// One sentence.
        reason: String,
    },
    /// Nothing changed: whoever reads this sends it back, so that the sender knows that all before it was read.
    Barrier(oneshot::Sender<()>),
}

/// The reading end of the queue. There is one reader at a time: the projector.
pub type Changes = mpsc::UnboundedReceiver<Change>;

/// The newest picture of every object, and the queue of how they came about.
#[derive(Clone, Debug)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: RwLock<mpsc::UnboundedSender<Change>>,
    vms: Shelf<Name, VmSnapshot>,
    connections: Shelf<(Name, u32), ConnectionSnapshot>,
    workspaces: Shelf<Name, WorkspaceSnapshot>,
    images: Shelf<ArtifactName, ImageSnapshot>,
    assets: Shelf<ArtifactName, AssetSnapshot>,
    jobs: Shelf<JobId, JobSnapshot>,
    actors: Shelf<String, ChildStatus>,
    manager: watch::Sender<Arc<ManagerSnapshot>>,
}

/// All objects of one kind.
#[derive(Debug)]
pub struct Shelf<K, T>(RwLock<BTreeMap<K, watch::Sender<Arc<T>>>>);

impl<K: Clone + Ord + Hash, T: PartialEq> Shelf<K, T> {
    fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    /// The newest picture of one object.
    pub fn get(&self, key: &K) -> Option<Arc<T>> {
        self.watch(key).map(|receiver| receiver.borrow().clone())
    }

    /// Follows one object; the sender is dropped when the object is removed.
    pub fn watch(&self, key: &K) -> Option<watch::Receiver<Arc<T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).map(watch::Sender::subscribe)
    }

    /// The newest pictures of all objects, in the order of their keys.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().map(|sender| sender.borrow().clone()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Publishes a picture; none when it is the same as the newest.
    fn put(&self, key: K, picture: T) -> Option<Update<K, T>> {
        let mut shelf = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = shelf.get(&key) else {
            let picture = Arc::new(picture);
            shelf.insert(key.clone(), watch::Sender::new(picture.clone()));
            return Some(Update::Added(key, picture));
        };
        if **sender.borrow() == picture {
            return None;
        }
        let picture = Arc::new(picture);
        sender.send_replace(picture.clone());
        Some(Update::Changed(key, picture))
    }

    fn take(&self, key: &K) -> Option<Update<K, T>> {
        let mut shelf = self.0.write().unwrap_or_else(PoisonError::into_inner);
        shelf.remove(key).map(|_| Update::Removed(key.clone()))
    }
}

macro_rules! shelves {
    ($($shelf:ident, $publish:ident, $withdraw:ident, $variant:ident, $key:ty, $picture:ty, $noun:literal);+ $(;)?) => {
        impl Board {
            $(
                #[doc = concat!("All ", $noun, "s.")]
                #[must_use]
                pub fn $shelf(&self) -> &Shelf<$key, $picture> {
                    &self.0.$shelf
                }

                #[doc = concat!("Shows the newest picture of a ", $noun, ". The store has it already.")]
                pub fn $publish(&self, key: $key, picture: $picture) {
                    let queue = self.queue();
                    if let Some(update) = self.0.$shelf.put(key, picture) {
                        let _ = queue.send(Change::$variant(update));
                    }
                }

                #[doc = concat!("Takes a ", $noun, " away. The store has forgotten it already.")]
                pub fn $withdraw(&self, key: &$key) {
                    let queue = self.queue();
                    if let Some(update) = self.0.$shelf.take(key) {
                        let _ = queue.send(Change::$variant(update));
                    }
                }
            )+
        }
    };
}

shelves! {
    vms, publish_vm, withdraw_vm, Vm, Name, VmSnapshot, "VM";
    connections, publish_connection, withdraw_connection, Connection, (Name, u32), ConnectionSnapshot, "connection";
    workspaces, publish_workspace, withdraw_workspace, Workspace, Name, WorkspaceSnapshot, "workspace";
    images, publish_image, withdraw_image, Image, ArtifactName, ImageSnapshot, "image";
    assets, publish_asset, withdraw_asset, Asset, ArtifactName, AssetSnapshot, "asset";
    jobs, publish_job, withdraw_job, Job, JobId, JobSnapshot, "job";
    actors, publish_actor, withdraw_actor, Actor, String, ChildStatus, "supervised actor";
}

impl Board {
    /// An empty board that nobody follows.
    #[must_use]
    pub fn new(manager: ManagerSnapshot) -> Self {
        let (queue, _) = mpsc::unbounded_channel();
        let inner = Inner {
            queue: RwLock::new(queue),
            vms: Shelf::new(),
            connections: Shelf::new(),
            workspaces: Shelf::new(),
            images: Shelf::new(),
            assets: Shelf::new(),
            jobs: Shelf::new(),
            actors: Shelf::new(),
            manager: watch::Sender::new(Arc::new(manager)),
        };
        Self(Arc::new(inner))
    }

    /// The daemon's own picture.
    #[must_use]
    pub fn manager(&self) -> watch::Receiver<Arc<ManagerSnapshot>> {
        self.0.manager.subscribe()
    }

    /// Changes the daemon's own picture.
    pub fn update_manager(&self, change: impl FnOnce(&mut ManagerSnapshot)) {
        let queue = self.queue();
        let mut manager = ManagerSnapshot::clone(&self.0.manager.borrow());
        change(&mut manager);
        if **self.0.manager.borrow() != manager {
            let manager = Arc::new(manager);
            self.0.manager.send_replace(manager.clone());
            let _ = queue.send(Change::Manager(manager));
        }
    }

    /// Puts something on the queue that is no picture.
    pub fn announce(&self, change: Change) {
        let _ = self.queue().send(change);
    }

    /// Returns once all that was published so far has been projected. Returns at once when nobody projects.
    pub async fn flushed(&self) {
        let (done, projected) = oneshot::channel();
        self.announce(Change::Barrier(done));
        let _ = projected.await;
    }

    /// A queue for a projector: an older one gets nothing more. All pictures that are there come first, as
    /// [`Update::Added`].
    #[must_use]
    pub fn follow(&self) -> Changes {
        let (sender, changes) = mpsc::unbounded_channel();
        let mut queue = self.0.queue.write().unwrap_or_else(PoisonError::into_inner);
        let _ = sender.send(Change::Manager(self.0.manager.borrow().clone()));
        self.0.replay(&sender);
        *queue = sender;
        changes
    }

    fn queue(&self) -> std::sync::RwLockReadGuard<'_, mpsc::UnboundedSender<Change>> {
        self.0.queue.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn replay(&self, sender: &mpsc::UnboundedSender<Change>) {
        fn each<K: Clone, T>(
            shelf: &Shelf<K, T>,
            sender: &mpsc::UnboundedSender<Change>,
            change: impl Fn(Update<K, T>) -> Change,
        ) {
            for (key, picture) in shelf.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = sender.send(change(Update::Added(key.clone(), picture.borrow().clone())));
            }
        }
        each(&self.workspaces, sender, Change::Workspace);
        each(&self.images, sender, Change::Image);
        each(&self.assets, sender, Change::Asset);
        each(&self.vms, sender, Change::Vm);
        each(&self.connections, sender, Change::Connection);
        each(&self.jobs, sender, Change::Job);
        each(&self.actors, sender, Change::Actor);
    }
}
