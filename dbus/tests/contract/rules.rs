//! What holds for every member, see CONTRACT's rules on names, arguments and documentation.

use crate::xml;

/// Verbs that can never grow.
const WITHOUT_OPTIONS: [&str; 14] = [
    "Close",
    "Kill",
    "KillVm",
    "Pause",
    "Resume",
    "MakeDefault",
    "ResetFailed",
    "ResizeExec",
    "SignalExec",
    "Wait",
    "WaitExec",
    "CheckHost",
    "GetHistory",
    "GetUsage",
];

#[test]
fn every_mutating_method_ends_in_options() {
    for (interface, shape) in xml::contract() {
        for (method, arguments) in &shape.methods {
            if ["Get", "List"].iter().any(|verb| method.starts_with(verb)) || WITHOUT_OPTIONS.contains(&method.as_str())
            {
                continue;
            }
            let last = arguments.iter().rfind(|argument| !argument.out);
            let options = last.is_some_and(|last| last.name == "options" && last.signature == "a{sv}");
            assert!(options, "{interface}.{method} takes no options");
        }
    }
}

#[test]
fn every_argument_has_a_name_in_lower_snake() {
    for (interface, shape) in xml::contract() {
        for (member, arguments) in shape.methods.iter().chain(&shape.signals) {
            for argument in arguments {
                let snake = argument.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                assert!(snake && !argument.name.is_empty(), "{interface}.{member}: `{}`", argument.name);
            }
        }
    }
}

#[test]
fn sizes_and_times_are_numbers_named_with_their_unit() {
    for (interface, shape) in xml::contract() {
        for (name, property) in &shape.properties {
            let unit = ["Bytes", "At", "USec"].iter().any(|unit| name.ends_with(unit));
            assert!(!unit || property.signature == "t", "{interface}.{name} is `{}`", property.signature);
        }
    }
}

#[test]
fn every_property_says_how_its_changes_are_told() {
    for file in xml::files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let annotated = text.matches("org.freedesktop.DBus.Property.EmitsChangedSignal").count();
        assert_eq!(text.matches("<property ").count(), annotated, "{}", file.display());
    }
}

#[test]
fn every_member_is_documented() {
    for file in xml::files() {
        let text = std::fs::read_to_string(&file).unwrap();
        for (interface, shape) in xml::shapes(&text) {
            let arguments = shape.methods.iter().chain(&shape.signals);
            let members = arguments.clone().map(|(name, _)| name).chain(shape.properties.keys());
            for name in members.chain([&interface]) {
                assert!(text.contains(&format!(" {name}:")), "{interface}: {name} has no comment");
            }
            for argument in arguments.flat_map(|(_, arguments)| arguments) {
                assert!(
                    text.contains(&format!("@{}:", argument.name)),
                    "{interface}: @{} is not explained",
                    argument.name
                );
            }
        }
    }
}

#[test]
fn a_file_is_named_after_its_interface() {
    for file in xml::files() {
        let interfaces = xml::shapes(&std::fs::read_to_string(&file).unwrap());
        let stem = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(interfaces.keys().collect::<Vec<_>>(), [stem]);
    }
}
