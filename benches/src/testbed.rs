//! A daemon, and a VM of either kind with the bench's peer in it.

use std::path::Path;

use nexus_dbus::client::{GuestProxy, Options, Row, VmProperties};
use nexus_host::agent::AgentClient;
use zbus::{OwnedObjectPath, Variant, proxy::CacheProperties};

use crate::{
    Outcome, boot,
    changes::Changes,
    fleet::{self, AfterDeath},
    peer::Peer,
    session::{PATIENCE, Programs, Session},
};

/// What a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A process of the host.
    Process,
    /// A machine in QEMU.
    Qemu,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Process, Self::Qemu];

    /// As tables have it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Process => "`process`",
            Self::Qemu => "QEMU",
        }
    }

    /// The name of the VM.
    const fn vm(self) -> &'static str {
        match self {
            Self::Process => "plain",
            Self::Qemu => "real",
        }
    }
}

/// The daemon, with an image.
pub(crate) struct Testbed {
    pub(crate) session: Session,
    changes: Changes,
}

/// A VM that runs.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) path: OwnedObjectPath,
    pub(crate) guest: GuestProxy<'static>,
    pub(crate) peer: Peer,
}

impl Testbed {
    /// Starts the daemon, and a bare service beside it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn start(programs: &Programs, guest: &Path) -> Outcome<Self> {
        let mut session = Session::start(programs, Some(guest)).await?;
        session.start_daemon().await?;
        session.start_service().await?;
        boot::import(&session, guest).await?;
        let changes = Changes::follow(&session.connection).await?;
        Ok(Self { session, changes })
    }

    /// Runs a VM, until its guest has answered and the peer listens in it.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn run(&mut self, kind: Kind) -> Outcome<Subject> {
        let (session, name) = (&self.session, kind.vm());
        let path = match kind {
            Kind::Process => fleet::create_one(session, name, AfterDeath::Down).await?,
            Kind::Qemu => boot::create(session, name).await?,
        };
        session.job(session.vm(&path).await?.start(Options::new()).await?).await?;
        self.changes.ready(&session.connection, &path).await?;
        let guest = GuestProxy::builder(&session.connection).path(path.clone());
        let guest = guest.cache_properties(CacheProperties::No).build().await?;
        let peer = match kind {
            Kind::Process => Peer::start_in_process(session, &guest, name).await?,
            Kind::Qemu => {
                let vm = VmProperties::read(&session.connection, &path).await?;
                Peer::start_behind(session, &guest, name, boot::endpoint(&vm)).await?
            }
        };
        Ok(Subject { kind, name, path, guest, peer })
    }

    /// A control connection of the bench's own to its agent.
    ///
    /// # Errors
    /// When it is not to be had.
    pub(crate) async fn agent(&self, subject: &Subject) -> Outcome<AgentClient> {
        let vm = VmProperties::read(&self.session.connection, &subject.path).await?;
        let token = boot::token(&vm)?;
        Ok(AgentClient::connect(&boot::endpoint(&vm), token.as_deref(), PATIENCE).await?.0)
    }

    /// Kills it, so that it takes no time from the next one.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn end(&mut self, subject: Subject) -> Outcome<()> {
        self.session.vm(&subject.path).await?.kill().await?;
        self.changes.until(&subject.path, "Leader", Variant::from(0_u32)).await?;
        Ok(())
    }
}
