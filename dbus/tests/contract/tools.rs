//! Other people's tools read the contract, too.

use std::{path::Path, process::Command};

use crate::xml;

/// Where Debian's libdbus-1-dev and Fedora's dbus-devel have it.
const DTD: &str = "/usr/share/xml/dbus-1/introspect.dtd";

/// Runs a tool on every file. One that is not installed is a failure only where everything must be tested.
fn accepts(program: &str, package: &str, arguments: impl Fn(&Path, &Path) -> Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for file in xml::files() {
        let output = match Command::new(program).args(arguments(&file, folder.path())).output() {
            Ok(output) => output,
            Err(error) => return missing(&format!("{program} ({error}); {package} has it")),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{program} refuses {}: {said}", file.display());
    }
}

fn missing(what: &str) {
    nexus_tests::not_run(&format!("there is no {what}"));
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_dtd_of_dbus_accepts_it() {
    if !Path::new(DTD).exists() {
        return missing(&format!("{DTD}; libdbus-1-dev has it"));
    }
    accepts("xmllint", "libxml2-utils", |file, _| {
        ["--nonet", "--noout", "--dtdvalid", DTD].map(str::to_owned).into_iter().chain([text(file)]).collect()
    });
}

#[test]
fn gdbus_codegen_accepts_it() {
    accepts("gdbus-codegen", "libglib2.0-dev-bin", |file, folder| {
        vec!["--interface-info-body".to_owned(), "--output".to_owned(), text(&folder.join("out.c")), text(file)]
    });
}

#[test]
fn gdbus_codegen_finds_the_documentation() {
    accepts("gdbus-codegen", "libglib2.0-dev-bin", |file, folder| {
        vec!["--generate-docbook".to_owned(), text(&folder.join("doc")), text(file)]
    });
}

#[test]
fn qdbusxml2cpp_makes_a_proxy_of_it() {
    accepts("qdbusxml2cpp", "qtbase5-dev-tools", |file, folder| {
        vec!["-p".to_owned(), text(&folder.join("proxy")), text(file)]
    });
}

#[test]
fn qdbusxml2cpp_makes_an_adaptor_of_it() {
    accepts("qdbusxml2cpp", "qtbase5-dev-tools", |file, folder| {
        vec!["-a".to_owned(), text(&folder.join("adaptor")), text(file)]
    });
}
