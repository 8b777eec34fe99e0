//! What zbus would stop the whole tree of objects for, and no compiler refuses.

use std::{fs, path::PathBuf};

/// The files of the server that implement an interface, and their text.
fn interfaces() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/server");
    let texts = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let texts = texts.map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    let found: Vec<_> = texts.filter(|(_, text)| text.contains("#[interface(")).collect();
    assert!(found.len() > 10, "the interfaces are somewhere else");
    found
}

#[test]
fn no_interface_takes_itself_mutably() {
    for (path, text) in interfaces() {
        assert!(!text.contains("&mut self"), "{}", path.display());
    }
}

#[test]
fn no_getter_awaits() {
    for (path, text) in interfaces() {
        for property in text.split("#[zbus(property").skip(1) {
            let (_, member) = property.split_once(")]\n").unwrap();
            let declaration = member.trim_start().lines().next().unwrap();
            let setter = declaration.contains(" set_");
            assert!(setter || declaration.starts_with("fn "), "{}: {declaration}", path.display());
        }
    }
}
