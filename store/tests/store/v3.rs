//! A database that the program with schema 3 wrote: the rows of [`v2`], and what schema 3 knows besides.

use std::time::Duration;

use nexus_model::{EventKind, Id};
use nexus_store::{CallEnd, CallRow, EventRow, Filter, NewCall, NewEvent, OK, Store, VmOf};
use serde_json::json;

use crate::{
    old::{assert_tables_become_new, build},
    sample::{Content, at, name},
    v2,
};

const SQL: &str = include_str!("v3.sql");

fn events() -> Vec<EventRow> {
    let mut events = v2::transitions();
    let text = str::to_owned;
    let removed = NewEvent { at: at(4), vm: old(), ..NewEvent::now(EventKind::VmRemoved, text("vm/old")) };
    let fault = NewEvent {
        at: at(5),
        from: text("ok"),
        to: text("restarting"),
        detail: text("panicked"),
        ..NewEvent::now(EventKind::ActorFault, text("supervisor/store"))
    };
    events.extend([EventRow { seq: 3, event: removed }, EventRow { seq: 4, event: fault }]);
    events
}

fn old() -> Option<VmOf> {
    Some(VmOf { name: name("old"), id: Some(Id::from(0xee)) })
}

fn calls() -> Vec<CallRow> {
    let text = str::to_owned;
    let ended = CallRow {
        seq: 1,
        call: NewCall {
            request: Id::from(0xf1),
            at: nexus_model::Timestamp(1_700_000_003_500_000),
            sender: text(":1.7"),
            pid: 4711,
            executable: text("/usr/bin/nexusctl"),
            unit: text("session.scope"),
            caller_reason: text("spring cleaning"),
            path: text("/org/workfort/Nexus1/vm/old"),
            member: text("Remove"),
            subject: text("vm/old"),
            vm: old(),
            arguments: json!({ "options": { "force": true } }),
            before: text("running"),
        },
        end: Some(CallEnd {
            subject: text("vm/old"),
            vm: old(),
            after: String::new(),
            job: 9,
            result: text(OK),
            message: String::new(),
            took: Duration::from_micros(1500),
        }),
    };
    let under_way = CallRow {
        seq: 2,
        call: NewCall {
            request: Id::from(0xf2),
            at: nexus_model::Timestamp(1_700_000_005_500_000),
            sender: text("peer"),
            pid: 0,
            executable: String::new(),
            unit: String::new(),
            caller_reason: String::new(),
            path: text("/org/workfort/Nexus1"),
            member: text("CreateVm"),
            subject: text("daemon"),
            vm: None,
            arguments: json!({ "name": "" }),
            before: String::new(),
        },
        end: None,
    };
    vec![ended, under_way]
}

#[test]
fn its_rows_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nexus.db");
    build(&path, SQL);
    let store = Store::open(&path).unwrap();
    assert_eq!(Content::of(&store), v2::content());
    assert_eq!(store.events(&Filter::default(), 0, 9).unwrap().rows, events());
    assert_eq!(store.calls(&Filter::default(), 0, 9).unwrap().rows, calls());
}

#[test]
fn its_tables_are_those_of_a_new_database() {
    assert_tables_become_new(SQL);
}
