//! A daemon with a VM whose kernel is a real one.

use std::time::Duration;

use tokio::time::timeout;

use crate::{GuestParts, TestDaemon};

/// Ten times what any step with a real VM took on two busy cores: its CPU may be emulated.
pub const REAL_PATIENCE: Duration = Duration::from_secs(240);

impl TestDaemon {
    /// One that may import the parts of a real guest.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn for_guest_parts() -> Self {
        let folder = GuestParts::folder().canonicalize().expect("the parts are there");
        Self::configured(&format!("paths:\n  allow:\n    - {}\n", folder.display())).await
    }

    /// One with a VM `web` in QEMU, whose disk is from these parts and whose guest answers. `more` is what `vm create` is
    /// told besides.
    ///
    /// # Panics
    /// When there is none in the end.
    pub async fn with_real_vm(parts: &GuestParts, more: &[&str]) -> Self {
        let daemon = Self::for_guest_parts().await;
        let [kernel, initrd, rootfs] =
            [&parts.kernel, &parts.initrd, &parts.rootfs].map(|part| part.to_str().expect("a path is UTF-8"));
        daemon.ctl(&["kernel", "import", kernel, "--initrd", initrd]).await;
        daemon.ctl(&["image", "import", rootfs, "guest"]).await;
        let create = ["vm", "create", "web", "--image", "guest", "--vmm", "qemu"];
        daemon.ctl(&[&create, more].concat()).await;
        daemon.ctl(&["vm", "start", "web"]).await;
        daemon
    }

    /// What nexusctl writes when all is well.
    ///
    /// # Panics
    /// When it is not.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let output = timeout(REAL_PATIENCE, self.nexusctl(arguments).output()).await.expect("nexusctl ends");
        let output = output.expect("nexusctl runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it is UTF-8")
    }
}
