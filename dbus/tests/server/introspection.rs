//! What a live server says of itself is the contract, no more and no less.

use std::collections::{BTreeMap, BTreeSet};

use nexus_dbus::{
    LOG_CONTROL, ROOT,
    client::{Interfaces, objects},
};
use zbus::{Connection, fdo::IntrospectableProxy};

use crate::{
    fixture::{Fixture, one_of_everything},
    xml::{self, Shape},
};

/// The structure of every interface that is served at `path`, but those that every object has.
async fn live(connection: &Connection, path: &str) -> BTreeMap<String, Shape> {
    let proxy = IntrospectableProxy::builder(connection).destination("org.workfort.Nexus1").path(path);
    let mut shapes = xml::shapes(&proxy.build().await.unwrap().introspect().await.unwrap());
    shapes.retain(|name, _| !name.starts_with("org.freedesktop.DBus."));
    shapes
}

#[tokio::test]
async fn every_object_has_exactly_the_interfaces_of_the_contract() {
    let fixture = Fixture::with(one_of_everything).await;
    is_the_contract(&fixture.client).await;
}

/// Introspects every object, and fails unless that is the contract, all of it and nothing else.
pub(crate) async fn is_the_contract(client: &Connection) {
    let contract = xml::contract();
    let mut served = BTreeSet::new();
    let paths = objects(client).await.unwrap().into_keys().map(|path| path.to_string());
    for path in paths.chain([ROOT.to_owned(), LOG_CONTROL.to_owned()]) {
        for (name, shape) in live(client, &path).await {
            assert_eq!(contract.get(&name), Some(&without_since(&shape, &contract, &name)), "{name} on {path}");
            served.insert(name);
        }
    }
    let unserved: Vec<_> = contract.keys().filter(|name| !served.contains(*name)).collect();
    assert_eq!(unserved, Vec::<&String>::new(), "in the contract, and nowhere served");
}

/// When a member came is only in the contract.
fn without_since(shape: &Shape, contract: &BTreeMap<String, Shape>, name: &str) -> Shape {
    Shape { since: contract.get(name).map(|shape| shape.since.clone()).unwrap_or_default(), ..shape.clone() }
}

/// The interfaces of an object, by the last part of their names.
fn interfaces(object: &Interfaces) -> Vec<&'static str> {
    let present = [
        ("Vm", object.vm.is_some()),
        ("Guest", object.guest.is_some()),
        ("Connection", object.connection.is_some()),
        ("Workspace", object.workspace.is_some()),
        ("Image", object.image.is_some()),
        ("Asset", object.asset.is_some()),
        ("Job", object.job.is_some()),
        ("Supervised", object.supervised.is_some()),
        ("Supervisor", object.supervisor.is_some()),
    ];
    present.into_iter().filter_map(|(name, present)| present.then_some(name)).collect()
}

#[tokio::test]
async fn the_tree_is_that_of_the_contract() {
    let fixture = Fixture::with(one_of_everything).await;
    let mut tree: Vec<(String, Vec<&str>)> = objects(&fixture.client)
        .await
        .unwrap()
        .into_iter()
        .map(|(path, object)| (path.trim_start_matches(ROOT).to_owned(), interfaces(&object)))
        .filter(|(_, interfaces)| !interfaces.is_empty())
        .collect();
    tree.sort();
    let tree: Vec<(&str, &[&str])> = tree.iter().map(|(path, interfaces)| (path.as_str(), &interfaces[..])).collect();
    let expected: [(&str, &[&str]); 17] = [
        ("/asset/kernel_2d6_2e1", &["Asset"]),
        ("/image/alpine_2d3_2e20", &["Image"]),
        ("/job/1", &["Job"]),
        ("/job/2", &["Job"]),
        ("/supervisor/assets", &["Supervised"]),
        ("/supervisor/images", &["Supervised"]),
        ("/supervisor/jobs", &["Supervised"]),
        ("/supervisor/reaper", &["Supervised"]),
        ("/supervisor/root", &["Supervised", "Supervisor"]),
        ("/supervisor/store", &["Supervised"]),
        ("/supervisor/vms", &["Supervised", "Supervisor"]),
        ("/supervisor/vms_2fweb", &["Supervised", "Supervisor"]),
        ("/supervisor/vms_2fweb_2fconnections", &["Supervised", "Supervisor"]),
        ("/supervisor/workspaces", &["Supervised", "Supervisor"]),
        ("/vm/web", &["Vm", "Guest", "Supervised"]),
        ("/vm/web/connection/1", &["Connection", "Supervised"]),
        ("/workspace/disk", &["Workspace", "Supervised"]),
    ];
    assert_eq!(tree, expected);
}
