//! `nexusctl audit`.

use std::time::Duration;

use serde_json::Value;

use super::{List, Look, Wanted, at, show, step, text};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    output::amount,
};

/// Show who asked for what, and what came of it
///
/// Every call that changed something or tried to: when, by which program, on what, and with which result. Secrets are not
/// kept. With -o json each is an object on a line of its own, with the arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    wanted: Wanted,
}

const LOOK: Look = Look {
    columns: &[("AT", 20), ("WHO", 20), ("CALL", 22), ("ON", 22), ("STATE", 20), ("TOOK", 7), ("RESULT", 0)],
    cells,
};

impl Audit {
    pub(crate) async fn run(self, bus: &Bus) -> Result<Exit, Failure> {
        let wanted = &self.wanted;
        let nothing = format!("No call{} that changed something is kept.", wanted.of_what());
        show(bus, List::Audit, wanted, LOOK, nothing).await
    }
}

fn cells(row: &Value) -> Vec<String> {
    let took = Duration::from_micros(row["took_usec"].as_u64().unwrap_or_default());
    let took = if took.is_zero() { String::new() } else { amount::duration(took) };
    vec![
        at(row),
        who(row),
        call(row),
        text(row, "subject").to_owned(),
        step(text(row, "before"), text(row, "after")),
        took,
        result(row),
    ]
}

/// The method; the property and what it was set to.
fn call(row: &Value) -> String {
    let member = text(row, "member");
    match row["arguments"].get("value") {
        None => member.to_owned(),
        Some(Value::String(value)) => format!("{member} = {value}"),
        Some(value) => format!("{member} = {value}"),
    }
}

/// The program and its process; the name on the bus where they are not known.
fn who(row: &Value) -> String {
    let program = text(row, "executable").rsplit('/').next().unwrap_or_default();
    match (program, row["pid"].as_u64().unwrap_or_default()) {
        (_, 0) => text(row, "sender").to_owned(),
        ("", pid) => format!("process {pid}"),
        (program, pid) => format!("{program} ({pid})"),
    }
}

fn result(row: &Value) -> String {
    let result = match (text(row, "result"), text(row, "message")) {
        ("", _) => "under way".to_owned(),
        ("ok", _) => match row["job"].as_u64().unwrap_or_default() {
            0 => "ok".to_owned(),
            job => format!("ok, job {job}"),
        },
        (name, message) => format!("{}: {message}", name.rsplit('.').next().unwrap_or(name)),
    };
    match text(row, "caller_reason") {
        "" => result,
        reason => format!("{result} (because: {reason})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_who_wanted_what_and_what_came_of_it() {
        let call = json!({
            "at_usec": 1_700_000_000_000_000_u64, "sender": ":1.7", "pid": 4711, "executable": "/usr/bin/nexusctl",
            "member": "Start", "subject": "vm/web", "before": "stopped", "after": "starting", "job": 3, "result": "ok",
            "message": "", "took_usec": 2_500, "caller_reason": "it is Monday",
        });
        assert_eq!(
            cells(&call),
            [
                "2023-11-14T22:13:20Z",
                "nexusctl (4711)",
                "Start",
                "vm/web",
                "stopped → starting",
                "2 ms",
                "ok, job 3 (because: it is Monday)"
            ]
        );
    }

    #[test]
    fn a_setting_is_shown_with_its_value() {
        let of = |member: &str, arguments: Value| call(&json!({ "member": member, "arguments": arguments }));
        assert_eq!(of("RestartPolicy", json!({ "value": "no" })), "RestartPolicy = no");
        assert_eq!(of("Autostart", json!({ "value": true })), "Autostart = true");
        assert_eq!(of("Tags", json!({ "value": ["a", "b"] })), r#"Tags = ["a","b"]"#);
        assert_eq!(of("Stop", json!({ "options": {} })), "Stop");
    }

    #[test]
    fn what_failed_was_cut_off_or_is_under_way_says_so() {
        let of = |result: &str, message: &str| super::result(&json!({ "result": result, "message": message }));
        assert_eq!(of("org.workfort.Nexus1.Error.Busy", "it is being stopped"), "Busy: it is being stopped");
        assert_eq!(of("cut-off", "nexusd ended"), "cut-off: nexusd ended");
        assert_eq!(of("", ""), "under way");
    }

    #[test]
    fn who_is_not_known_has_a_name_on_the_bus() {
        assert_eq!(who(&json!({ "sender": "peer", "pid": 0 })), "peer");
        assert_eq!(who(&json!({ "sender": ":1.7", "pid": 7, "executable": "" })), "process 7");
    }
}
