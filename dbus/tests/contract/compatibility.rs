//! What a change may not do to those who use the last release.

use std::collections::BTreeMap;

use crate::xml::{self, Shape};

/// What of `old` is not in `new` as it was, and what is new there and does not say since when.
fn breaks(old: &BTreeMap<String, Shape>, new: &BTreeMap<String, Shape>, revision: u32) -> Vec<String> {
    let mut breaks = Vec::new();
    for (name, old) in old {
        let Some(new) = new.get(name) else {
            breaks.push(format!("{name} is gone"));
            continue;
        };
        compare(name, &old.methods, &new.methods, &mut breaks);
        compare(name, &old.signals, &new.signals, &mut breaks);
        compare(name, &old.properties, &new.properties, &mut breaks);
        let members = new.methods.keys().chain(new.signals.keys()).chain(new.properties.keys());
        let is_old = |member: &&String| {
            old.methods.contains_key(*member)
                || old.signals.contains_key(*member)
                || old.properties.contains_key(*member)
        };
        for member in members.filter(|member| !is_old(member)) {
            if new.since.get(member) != Some(&revision) {
                breaks.push(format!("{name}.{member} is new and not marked as being there since {revision}"));
            }
        }
    }
    breaks
}

fn compare<T: PartialEq>(
    interface: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    breaks: &mut Vec<String>,
) {
    for (member, old) in old {
        match new.get(member) {
            None => breaks.push(format!("{interface}.{member} is gone")),
            Some(new) if new != old => breaks.push(format!("{interface}.{member} is not what it was")),
            Some(_) => (),
        }
    }
}

#[test]
fn nothing_of_the_last_release_is_gone_or_different() {
    let released = xml::folder().join("released");
    if !released.exists() {
        println!("nothing is released yet: there is no {}", released.display());
        return;
    }
    let mut old = BTreeMap::new();
    for entry in std::fs::read_dir(released).unwrap() {
        old.extend(xml::shapes(&std::fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    assert_eq!(breaks(&old, &xml::contract(), nexus_dbus::API_REVISION), Vec::<String>::new());
}

const RELEASED: &str = r#"<node>
  <interface name="a.B">
    <method name="Do"><arg name="how" type="s" direction="in"/><arg name="job" type="o" direction="out"/></method>
    <signal name="Done"><arg name="job" type="o"/></signal>
    <property name="State" type="s" access="read"/>
  </interface>
  <interface name="a.C"/>
</node>"#;

#[track_caller]
fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(RELEASED.contains(from), "{from}");
    breaks(&xml::shapes(RELEASED), &xml::shapes(&RELEASED.replace(from, to)), 2)
}

#[test]
fn the_same_breaks_nothing() {
    assert_eq!(changed("a.C", "a.C"), Vec::<String>::new());
}

#[test]
fn a_removal_breaks() {
    assert_eq!(changed(r#"<interface name="a.C"/>"#, ""), ["a.C is gone"]);
    assert_eq!(changed(r#"<property name="State" type="s" access="read"/>"#, ""), ["a.B.State is gone"]);
    assert_eq!(changed(r#"<signal name="Done"><arg name="job" type="o"/></signal>"#, ""), ["a.B.Done is gone"]);
}

#[test]
fn another_type_breaks() {
    assert_eq!(changed(r#"type="s" direction="in""#, r#"type="u" direction="in""#), ["a.B.Do is not what it was"]);
    assert_eq!(
        changed(r#"<arg name="job" type="o"/>"#, r#"<arg name="job" type="u"/>"#),
        ["a.B.Done is not what it was"]
    );
    assert_eq!(changed(r#"access="read""#, r#"access="readwrite""#), ["a.B.State is not what it was"]);
    let cached = r#"access="read"><annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/></property>"#;
    assert_eq!(changed(r#"access="read"/>"#, cached), ["a.B.State is not what it was"]);
}

#[test]
fn an_argument_more_breaks() {
    let more = r#"<arg name="how" type="s" direction="in"/><arg name="x" type="s" direction="in"/>"#;
    assert_eq!(changed(r#"<arg name="how" type="s" direction="in"/>"#, more), ["a.B.Do is not what it was"]);
}

#[test]
fn an_addition_says_since_when() {
    let unmarked = changed(r#"<interface name="a.C"/>"#, r#"<interface name="a.C"><method name="New"/></interface>"#);
    assert_eq!(unmarked, ["a.C.New is new and not marked as being there since 2"]);
    let marked = r#"<interface name="a.C"><method name="New"><annotation name="org.gtk.GDBus.Since" value="2"/></method></interface>"#;
    assert_eq!(changed(r#"<interface name="a.C"/>"#, marked), Vec::<String>::new());
}
