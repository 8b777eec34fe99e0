//! What docs/actors.md and docs/supervisor.md state has a test each, and that test is there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The tests that a text names: `file::function`, both in lower case, in backticks.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    let is_name = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_/-".contains(&byte))
    };
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter_map(|span| span.split_once("::")).filter(|(file, test)| is_name(file) && is_name(test)).collect()
}

/// Whether a file has a function of this name that is a test, or that `both_ways!` makes tests of.
fn has_test(file: &Path, name: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let (mut attribute, mut listed) = (false, false);
    for line in text.lines().map(str::trim_start) {
        listed = line.starts_with("crate::both_ways!(") || listed && !line.starts_with(");");
        if listed && line.trim_end_matches(',') == name {
            return true;
        }
        if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
            attribute = true;
        } else if let Some((_, function)) = line.split_once("fn ") {
            if attribute && function.split_once('(').is_some_and(|(own, _)| own == name) {
                return true;
            }
            attribute = false;
        }
    }
    false
}

#[test]
fn every_test_that_is_named_is_there() {
    for (document, folder, at_least) in
        [("docs/actors.md", "tests", 60), ("docs/supervisor.md", "actors/tests/supervisor", 60)]
    {
        let text = fs::read_to_string(repository().join(document)).unwrap();
        let named = tests_named(&text);
        assert!(named.len() >= at_least, "{document} names {} tests", named.len());
        for (file, test) in named {
            let candidates = [repository().join(folder), repository()].map(|base| base.join(format!("{file}.rs")));
            let found = candidates.iter().any(|candidate| has_test(candidate, test));
            assert!(found, "{document} names the test `{file}::{test}`, which is not there");
        }
    }
}

/// What a page states: its list items, and the rows of its tables whose last column names a test.
fn statements(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut in_item, mut in_table) = (false, false);
    for line in text.lines() {
        if !line.starts_with('|') {
            in_table = false;
        } else if line.ends_with("| test |") {
            in_table = true;
        } else if in_table && !line.starts_with("|---") {
            found.push(line.to_owned());
        }
        if line.starts_with("- ") {
            in_item = true;
            found.push(line.to_owned());
        } else if in_item && line.starts_with("  ") {
            found.last_mut().unwrap().push_str(line);
        } else {
            in_item = false;
        }
    }
    found
}

#[test]
fn every_statement_has_a_test() {
    let text = fs::read_to_string(repository().join("docs/actors.md")).unwrap();
    let statements = statements(&text);
    assert!(statements.len() > 80, "{} statements are found", statements.len());
    let without: Vec<&String> = statements.iter().filter(|statement| tests_named(statement).is_empty()).collect();
    assert!(without.is_empty(), "no test is named for {without:#?}");
}

#[test]
fn what_is_no_statement_and_no_test_is_told_apart() {
    let text = "- one: `a::b_c`,\n  `x/y::d`.\nno item\n| what | test |\n|---|---|\n| `K` | `a::e` |\n\n| other |\n|---|\n| row |\n";
    assert_eq!(statements(text), ["- one: `a::b_c`,  `x/y::d`.", "| `K` | `a::e` |"]);
    assert_eq!(tests_named(text), [("a", "b_c"), ("x/y", "d"), ("a", "e")]);
    assert!(tests_named("`ChildSpec::new`, `POLICY_…`, a::b").is_empty());
    let own = repository().join("tests/law.rs");
    assert!(
        has_test(&own, "every_statement_has_a_test") && !has_test(&own, "statements") && !has_test(&own, "nothing")
    );
}
