//! A VM's states and their transitions.

use nexus_model::{
    Timestamp,
    vm::{IllegalTransition, InvalidSpec, Lifecycle, Reason, VmSpec, VmState},
};
use proptest::prelude::*;

type Transition = fn(Lifecycle, Reason, Timestamp) -> Result<Lifecycle, IllegalTransition>;

/// Each transition with where it leads and from where it is legal: DESIGN's table once more, written the other way round.
const TRANSITIONS: [(Transition, VmState, &[VmState]); 8] = {
    use VmState::{Crashed, Created, Failed, Paused, Running, Starting, Stopped, Stopping};
    [
        (Lifecycle::starting, Starting, &[Created, Stopped, Crashed, Failed]),
        (Lifecycle::running, Running, &[Starting]),
        (Lifecycle::paused, Paused, &[Running]),
        (Lifecycle::resumed, Running, &[Paused]),
        (Lifecycle::stopping, Stopping, &[Starting, Running, Paused]),
        (Lifecycle::stopped, Stopped, &[Starting, Running, Paused, Stopping, Crashed]),
        (Lifecycle::crashed, Crashed, &[Starting, Running, Paused, Stopping]),
        (Lifecycle::failed, Failed, &[Starting, Crashed]),
    ]
};

#[test]
fn exactly_the_legal_transitions_are_legal() {
    for (transition, to, legal) in TRANSITIONS {
        for from in VmState::ALL.iter().copied() {
            let lifecycle = Lifecycle::restored(from, Reason::Requested, Timestamp(1));
            match transition(lifecycle, Reason::Killed, Timestamp(2)) {
                Ok(next) => {
                    assert!(legal.contains(&from), "{from} → {to}");
                    assert_eq!((next.state(), next.reason(), next.changed_at()), (to, Reason::Killed, Timestamp(2)));
                }
                Err(error) => {
                    assert!(!legal.contains(&from), "{from} → {to}");
                    assert_eq!((error.from, error.to), (from, to));
                    for state in legal {
                        assert!(error.needed.contains(state.as_str()), "{} lacks {state}", error.needed);
                    }
                }
            }
        }
    }
}

#[test]
fn every_state_can_be_left() {
    for from in VmState::ALL {
        let leads_on = TRANSITIONS.iter().any(|(_, _, legal)| legal.contains(from));
        assert!(leads_on, "{from} is a dead end");
    }
}

#[test]
fn words_lead_back() {
    for state in VmState::ALL {
        assert_eq!(state.as_str().parse(), Ok(*state));
    }
    let error = "sleeping".parse::<VmState>().unwrap_err();
    assert!(error.to_string().contains("running"), "{error}");
}

#[test]
fn a_specification_is_checked() {
    let with = |change: fn(&mut VmSpec)| {
        let mut spec = VmSpec::default();
        change(&mut spec);
        spec.validate()
    };
    assert_eq!(with(|_| ()), Ok(()));
    assert_eq!(with(|spec| spec.vcpus = 0), Err(InvalidSpec::Vcpus(0)));
    assert_eq!(with(|spec| spec.vcpus = 33), Err(InvalidSpec::Vcpus(33)));
    assert_eq!(with(|spec| spec.memory_bytes = 1 << 20), Err(InvalidSpec::Memory(1 << 20)));
    assert_eq!(with(|spec| spec.memory_bytes = (64 << 20) + 1), Err(InvalidSpec::Memory((64 << 20) + 1)));
    assert_eq!(with(|spec| spec.kernel_args = "a\nb".into()), Err(InvalidSpec::KernelArgs));
    assert_eq!(with(|spec| spec.label = "a\u{7}".into()), Err(InvalidSpec::Label));
    assert!(with(|spec| spec.env = [("A=B".into(), String::new())].into()).is_err());
    assert!(with(|spec| spec.env = [("A".into(), "\0".into())].into()).is_err());
    assert!(with(|spec| spec.tags = vec![String::new(); 65]).is_err());
}

#[test]
fn a_specification_survives_json_and_refuses_what_it_does_not_know() {
    let spec = VmSpec::default();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<VmSpec>(&json).unwrap(), spec);
    let unknown = json.replacen('{', "{\"colour\":\"red\",", 1);
    assert!(serde_json::from_str::<VmSpec>(&unknown).unwrap_err().to_string().contains("colour"));
}

proptest! {
    /// Whatever is tried in whatever order, only legal steps are taken, and a refusal changes nothing.
    #[test]
    fn no_sequence_leaves_the_drawing(steps in prop::collection::vec(0..TRANSITIONS.len(), 0..60)) {
        let mut lifecycle = Lifecycle::created(Timestamp(0));
        for (at, step) in steps.into_iter().enumerate() {
            let (transition, to, legal) = TRANSITIONS[step];
            let from = lifecycle.state();
            if let Ok(next) = transition(lifecycle, Reason::Requested, Timestamp(at as u64)) {
                prop_assert!(legal.contains(&from));
                prop_assert_eq!(next.state(), to);
                lifecycle = next;
            }
            prop_assert_eq!(lifecycle.state().has_vmm(), matches!(
                lifecycle.state(),
                VmState::Starting | VmState::Running | VmState::Paused | VmState::Stopping
            ));
        }
    }
}
