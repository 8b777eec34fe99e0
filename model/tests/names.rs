//! Names, ids and object paths.

use nexus_model::{ArtifactName, Id, InstanceId, Name, path_component};
use proptest::prelude::*;

/// The other direction of `path_component`, by the rule of `sd_bus_path_decode(3)`.
fn decoded(component: &str) -> Option<String> {
    if component == "_" {
        return Some(String::new());
    }
    let mut bytes = Vec::new();
    let mut rest = component.as_bytes();
    while let [first, after @ ..] = rest {
        if *first != b'_' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[test]
fn names_that_hosts_could_have() {
    for good in ["a", "web", "web-1", "a1", &"x".repeat(63)] {
        assert_eq!(good.parse::<Name>().map(|name| name.to_string()).as_deref(), Ok(good));
    }
    for bad in ["", "-", "1web", "web-", "-web", "Web", "web_1", "web.1", "wéb", "web 1", "web\n", &"x".repeat(64)] {
        assert!(bad.parse::<Name>().is_err(), "{bad:?}");
    }
}

#[test]
fn names_that_versions_could_have() {
    for good in ["python-3.12", "kernel-6.18.9", "3.12", "a_b", "0", &"x".repeat(64)] {
        assert_eq!(good.parse::<ArtifactName>().map(|name| name.to_string()).as_deref(), Ok(good));
    }
    for bad in ["", ".", "..", ".hidden", "a.", "a-", "_a", "A", "a/b", "a b", "a\0", &"x".repeat(65)] {
        assert!(bad.parse::<ArtifactName>().is_err(), "{bad:?}");
    }
}

#[test]
fn an_error_does_not_repeat_a_book() {
    let error = "x".repeat(1 << 20).parse::<Name>().unwrap_err();
    assert!(error.to_string().len() < 300);
}

#[test]
fn known_components() {
    // From the manual page of sd_bus_path_encode(3) and the contract.
    assert_eq!(path_component("web-1"), "web_2d1");
    assert_eq!(path_component("1"), "_31");
    assert_eq!(path_component(""), "_");
    assert_eq!(path_component("python-3.12"), "python_2d3_2e12");
}

#[test]
fn ids_are_not_made_twice() {
    let ids: std::collections::HashSet<Id> = (0..1000).map(|_| Id::random().unwrap()).collect();
    assert_eq!(ids.len(), 1000);
}

proptest! {
    #[test]
    fn no_text_breaks_a_parser(text in ".*") {
        let _ = text.parse::<Name>();
        let _ = text.parse::<ArtifactName>();
        let _ = text.parse::<Id>();
        let _ = text.parse::<InstanceId>();
    }

    #[test]
    fn what_is_a_name_matches_the_contract(text in "[a-z0-9A-Z._-]{0,66}") {
        let first = text.starts_with(|first: char| first.is_ascii_lowercase());
        let last = text.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit());
        let all = text.chars().all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '-');
        prop_assert_eq!(text.parse::<Name>().is_ok(), first && last && all && text.len() <= 63);
    }

    #[test]
    fn components_are_valid_and_lead_back(text in ".{0,80}") {
        let component = path_component(&text);
        prop_assert!(!component.is_empty());
        prop_assert!(component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        prop_assert_eq!(decoded(&component), Some(text));
    }

    #[test]
    fn ids_lead_back(bits in any::<u64>()) {
        let id = Id::from(bits);
        prop_assert_eq!(id.to_string().len(), 16);
        prop_assert_eq!(id.to_string().parse::<Id>(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
    }
}
