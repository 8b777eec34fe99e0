//! `nexusctl events`.

use serde_json::Value;

use super::{List, Look, Wanted, at, show, step, text};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
};

/// Show what happened: to what, when, and why
///
/// States of VMs, disks, images and kernels, ends of jobs, faults and restarts of actors, starts of the daemon; also of what
/// is gone by now. With -o json each is an object on a line of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    #[command(flatten)]
    wanted: Wanted,
}

const LOOK: Look = Look { columns: &[("AT", 20), ("WHAT", 22), ("EVENT", 21), ("STATE", 20), ("WHY", 0)], cells };

impl Events {
    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        let wanted = &self.wanted;
        let nothing = format!("No event{} is kept.", wanted.of_what());
        show(bus, List::Events, wanted, LOOK, nothing).await
    }
}

fn cells(row: &Value) -> Vec<String> {
    let reason = text(row, "reason").replace('-', " ");
    let why = match (reason.as_str(), text(row, "detail")) {
        ("", detail) => detail.to_owned(),
        (_, "") => reason,
        (reason, detail) => format!("{reason}: {detail}"),
    };
    vec![
        at(row),
        text(row, "subject").to_owned(),
        text(row, "kind").to_owned(),
        step(text(row, "from"), text(row, "to")),
        why,
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::records::{print_table, row};

    #[test]
    fn an_event_is_what_happened_to_what_and_why() {
        let event = json!({
            "at_usec": 1_700_000_000_000_000_u64, "kind": "vm-state", "subject": "vm/web", "from": "running",
            "to": "crashed", "reason": "vmm-exited", "detail": "it said \u{1b}[2J",
        });
        assert_eq!(cells(&event)[3..], ["running → crashed", "vmm exited: it said \u{1b}[2J"]);
        assert_eq!(
            row(&cells(&event), LOOK),
            "2023-11-14T22:13:20Z   vm/web                   vm-state                running → crashed      \
             vmm exited: it said \u{fffd}[2J"
        );
    }

    #[test]
    fn what_is_no_json_is_no_panic() {
        print_table(&b"nonsense\n"[..], LOOK, "nothing").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(row(&cells(&Value::Null), LOOK), "");
    }
}
