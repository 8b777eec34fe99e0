//! Interfaces by their structure: what a client can see of them, and no more.

use std::{collections::BTreeMap, path::PathBuf};

use zbus_xml::{ArgDirection, Interface, Node};

/// What a change can break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) methods: BTreeMap<String, Vec<Argument>>,
    pub(crate) signals: BTreeMap<String, Vec<Argument>>,
    pub(crate) properties: BTreeMap<String, Property>,
    /// The API revision that each member came with; those that came with the interface are absent.
    pub(crate) since: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) signature: String,
    pub(crate) out: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) signature: String,
    pub(crate) access: String,
    pub(crate) emits: String,
}

const EMITS: &str = "org.freedesktop.DBus.Property.EmitsChangedSignal";
const SINCE: &str = "org.gtk.GDBus.Since";

impl Shape {
    fn of(interface: &Interface<'_>) -> Self {
        let mut shape = Self::default();
        let mut since = |member: &str, annotations: &[zbus_xml::Annotation]| {
            if let Some(since) = annotation(annotations, SINCE) {
                shape.since.insert(member.to_owned(), since.parse().expect("Since is a number"));
            }
        };
        for method in interface.methods() {
            since(method.name().as_str(), method.annotations());
            shape.methods.insert(method.name().to_string(), arguments(method.args(), false));
        }
        for signal in interface.signals() {
            since(signal.name().as_str(), signal.annotations());
            shape.signals.insert(signal.name().to_string(), arguments(signal.args(), true));
        }
        for property in interface.properties() {
            since(property.name().as_str(), property.annotations());
            let emits = annotation(property.annotations(), EMITS).unwrap_or("true").to_owned();
            let shown = Property {
                signature: property.ty().to_string(),
                access: format!("{:?}", property.access()).to_lowercase(),
                emits,
            };
            shape.properties.insert(property.name().to_string(), shown);
        }
        shape
    }
}

fn annotation<'a>(annotations: &'a [zbus_xml::Annotation], name: &str) -> Option<&'a str> {
    annotations.iter().find(|annotation| annotation.name() == name).map(zbus_xml::Annotation::value)
}

fn arguments(arguments: &[zbus_xml::Arg], out: bool) -> Vec<Argument> {
    let one = |argument: &zbus_xml::Arg| Argument {
        name: argument.name().unwrap_or_default().to_owned(),
        signature: argument.ty().to_string(),
        out: argument.direction().map_or(out, |direction| direction == ArgDirection::Out),
    };
    arguments.iter().map(one).collect()
}

/// The interfaces of one introspection document, at its top.
pub(crate) fn shapes(xml: &str) -> BTreeMap<String, Shape> {
    let node = Node::from_reader(xml.as_bytes()).expect("introspection data");
    node.interfaces().iter().map(|interface| (interface.name().to_string(), Shape::of(interface))).collect()
}

/// Where the contract is.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interfaces")
}

/// Every file of the contract.
pub(crate) fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("dbus/interfaces");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    files.sort();
    files
}

/// The contract.
pub(crate) fn contract() -> BTreeMap<String, Shape> {
    files().iter().flat_map(|path| shapes(&std::fs::read_to_string(path).expect("a file"))).collect()
}
