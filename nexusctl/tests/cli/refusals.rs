//! What is not done unasked, and what is not understood.

use crate::{nexusctl, parts};

#[test]
fn what_destroys_wants_yes_where_nobody_can_be_asked() {
    for (arguments, what) in [
        (&["vm", "delete", "web"][..], "delete VM web"),
        (&["vm", "kill", "web", "db"], "kill VMs web, db, with what its guest has not written"),
        (&["ws", "delete", "web"], "delete workspace web with all that is in it"),
        (&["workspace", "rm", "web"], "delete workspace web with all that is in it"),
        (&["image", "delete", "alpine"], "delete image alpine"),
        (&["prune"], "remove orphans"),
    ] {
        let expected = format!(
            "Error: nobody confirmed to {what}\n  \
               There is no terminal to ask on.\n  \
               Say it with the option: --yes\n"
        );
        let output = nexusctl(arguments).output().unwrap();
        assert_eq!(parts(&output), (Some(2), String::new(), expected), "{arguments:?}");
    }
}

#[test]
fn what_is_not_understood_ends_with_2() {
    for (arguments, said) in [
        (&["vm", "create", "web", "--memory", "much"][..], "write a number and a unit: 512M, 2G"),
        (&["vm", "create", "web", "--memory", "256"], "did you mean 256M?"),
        (&["exec", "web", "--timeout", "0s", "true"], "for ever"),
        (&["vm", "start", "web", "--boot-timeout", "soon"], "write a number and a unit: 30s, 2m"),
        (&["events", "--since", "soon"], "write how long ago"),
        (&["audit", "--follow", "--until", "10m"], "cannot be used with"),
        (&["vm", "create", "web", "--image", "a", "--workspace", "b"], "cannot be used with"),
        (&["vm", "create", "web", "--vmm", "vmware"], "`vmware` is none of auto, firecracker, qemu, process"),
        (&["vm", "list", "-q", "-o", "json"], "cannot be used with"),
        (&["vm", "start"], "required arguments were not provided"),
        (&["exec", "web"], "required arguments were not provided"),
        (&["completions", "powershell"], "there are completions for bash, zsh and fish"),
        (&["prune", "vm"], "`vm` is none of unit, process"),
        (&["prune", "--dry-run", "--yes"], "cannot be used with"),
        (&["frobnicate"], "unrecognized subcommand"),
    ] {
        let (status, stdout, stderr) = parts(&nexusctl(arguments).output().unwrap());
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
