//! What clients were told holds: whoever heard that a VM is stopped finds it stopped.

use std::collections::BTreeMap;

use crate::{
    check::Observation,
    client::{Record, vm_name},
    plan::Op,
};

/// What is known of a VM from what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Absent,
    Resting,
    Wanted,
}

/// What is known of each VM, by its number in the deck.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    wishes: BTreeMap<u8, Expected>,
    policies: BTreeMap<u8, String>,
}

impl Expectations {
    /// Takes in what clients were told in a round. Where two of them wanted something of a VM at once, or an answer says
    /// nothing, nothing is known.
    pub(crate) fn learn(&mut self, records: &[Record]) {
        let mut wishes: BTreeMap<u8, Vec<(&Record, Option<Expected>)>> = BTreeMap::new();
        let mut policies: BTreeMap<u8, Vec<(&Record, String)>> = BTreeMap::new();
        for record in records.iter().filter(|record| !record.is_refusal()) {
            if let Some((vm, expected)) = wish(record.op) {
                wishes.entry(vm).or_default().push((record, expected));
            }
            if let Op::Create { vm, policy, .. } | Op::Policy { vm, policy } = record.op {
                policies.entry(vm).or_default().push((record, policy.to_owned()));
            }
        }
        for (vm, wishes) in wishes {
            // A removal that broke off is finished later, whatever was asked for meanwhile.
            let broke_off =
                |(record, _): &(&Record, _)| matches!(record.op, Op::Remove { .. }) && record.result.is_err();
            let known = if wishes.iter().any(broke_off) { None } else { last(wishes).flatten() };
            set(&mut self.wishes, vm, known);
        }
        for (vm, policies) in policies {
            // Under the one before, a crash may have been the end of it.
            if self.wishes.get(&vm) == Some(&Expected::Wanted) {
                self.wishes.remove(&vm);
            }
            set(&mut self.policies, vm, last(policies));
        }
    }

    /// Everything that is not as was said.
    pub(crate) fn broken(&self, seen: &Observation) -> Vec<String> {
        let mut broken = Vec::new();
        for (vm, expected) in &self.wishes {
            let name = vm_name(*vm);
            match (expected, seen.rows.get(&name)) {
                (Expected::Absent, None) => {}
                (Expected::Absent, Some(row)) => {
                    broken.push(format!("VM {name} was removed, and is there, {}", row.state));
                }
                (_, None) => broken.push(format!("VM {name} was not removed, and is gone")),
                (Expected::Resting, Some(row)) if row.desired == "running" => {
                    broken.push(format!("VM {name} was stopped, and is wanted to run ({})", row.state));
                }
                // What could not go on says so, and what was not to be started again.
                (Expected::Wanted, Some(row))
                    if row.desired != "running"
                        && row.state != "failed"
                        && (row.state.as_str(), row.policy.as_str()) != ("crashed", "no") =>
                {
                    broken.push(format!("VM {name} was started, and is {} as if nobody wanted it", row.state));
                }
                _ => {}
            }
        }
        for (vm, policy) in &self.policies {
            if let Some(row) = seen.rows.get(&vm_name(*vm))
                && row.policy != *policy
            {
                broken.push(format!("VM v{vm} was told the restart policy {policy}, and has {}", row.policy));
            }
        }
        broken
    }

    /// What is seen is what is to stay while nobody wants anything else.
    pub(crate) fn take_over(&mut self, seen: &Observation, vms: u8) {
        for vm in 0..vms {
            let row = seen.rows.get(&vm_name(vm));
            let expected = match row {
                None => Some(Expected::Absent),
                Some(row) if row.starts_with_daemon => None,
                Some(row) if row.desired == "running" => Some(Expected::Wanted),
                Some(_) => Some(Expected::Resting),
            };
            set(&mut self.wishes, vm, expected);
            set(&mut self.policies, vm, row.map(|row| row.policy.clone()));
        }
    }

    /// Nothing is there any more.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn set<T>(map: &mut BTreeMap<u8, T>, vm: u8, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(vm, value)),
        None => drop(map.remove(&vm)),
    }
}

/// What an operation that succeeds leaves, where that is certain.
fn wish(op: Op) -> Option<(u8, Option<Expected>)> {
    match op {
        Op::Create { vm, autostart, .. } => Some((vm, (!autostart).then_some(Expected::Resting))),
        Op::Stop { vm, .. } | Op::Kill { vm } => Some((vm, Some(Expected::Resting))),
        Op::Start { vm } | Op::Restart { vm } => Some((vm, Some(Expected::Wanted))),
        Op::Remove { vm, .. } => Some((vm, Some(Expected::Absent))),
        _ => None,
    }
}

/// What the last of them left, if that is certain.
fn last<T>(mut wishes: Vec<(&Record, T)>) -> Option<T> {
    wishes.sort_by_key(|(record, _)| record.ended);
    let (record, expected) = wishes.pop()?;
    let alone = wishes.iter().all(|(other, _)| other.ended <= record.begun);
    (record.result.is_ok() && alone).then_some(expected)
}
