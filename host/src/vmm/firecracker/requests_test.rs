//! Every request against Firecracker's own description of its API, `shared/firecracker` beside the repository.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::*;
use crate::vmm::plan::tests::plan;

/// The description, with every object closed, so that a misspelt property is an error as it is to Firecracker. None, with
/// the reason printed, where it is not there; in CI it has to be.
fn description() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/firecracker/firecracker-1.17-dev.yaml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if env::var_os("CI").is_none() => {
            eprintln!("skipped: {}: {error}", path.display());
            return None;
        }
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let mut description: Value = serde_saphyr::from_str(&text).unwrap();
    for definition in description["definitions"].as_object_mut().unwrap().values_mut() {
        if definition["properties"].is_object() {
            definition["additionalProperties"] = json!(false);
        }
    }
    Some(description)
}

/// The schema of what `method` of `path` takes, and whether it takes anything.
fn body_schema<'a>(description: &'a Value, request: &Request) -> Option<&'a Value> {
    let matches = |template: &str| {
        let (template, path) = (template.split('/'), request.path.split('/'));
        template.clone().count() == path.clone().count()
            && template.zip(path).all(|(part, word)| part == word || part.starts_with('{'))
    };
    let (_, operations) = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(template, _)| matches(template))
        .unwrap_or_else(|| panic!("the API has no {}", request.path));
    let operation = &operations[request.method.as_str().to_lowercase()];
    assert!(operation.is_object(), "{} has no {}", request.path, request.method);
    operation["parameters"].as_array()?.iter().find(|parameter| parameter["in"] == "body").map(|body| &body["schema"])
}

fn check(description: &Value, request: &Request) {
    let name = format!("{} {}", request.method, request.path);
    match (body_schema(description, request), &request.body) {
        (None, None) => {}
        (Some(schema), Some(body)) => {
            let root = json!({ "allOf": [schema], "definitions": description["definitions"] });
            // Swagger 2.0 takes its schemas from draft 4.
            let validator = jsonschema::draft4::new(&root).unwrap();
            let errors: Vec<_> = validator.iter_errors(body).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {body}: {errors:?}");
        }
        (schema, body) => panic!("{name} takes {schema:?} and was given {body:?}"),
    }
}

#[test]
fn every_request_is_one_that_the_api_has() {
    let Some(description) = description() else { return };
    let plan = MachinePlan { kernel_elf: Some("/k/vmlinux".into()), initrd: Some("/k/initrd".into()), ..plan() };
    let mut requests = machine(&plan).unwrap();
    requests.extend([
        Request::describe(),
        Request::start().unwrap(),
        Request::pause().unwrap(),
        Request::resume().unwrap(),
    ]);
    for request in &requests {
        check(&description, request);
    }
}

#[test]
#[should_panic(expected = "PUT /machine-config")]
fn the_check_finds_a_property_that_the_api_has_not() {
    let Some(description) = description() else { panic!("PUT /machine-config was not checked") };
    let body = json!({ "vcpu_count": 1, "mem_size_mib": 128, "memory_size_mib": 128 });
    check(&description, &Request::put("/machine-config", &body).unwrap());
}

#[test]
fn every_state_of_an_instance_is_known() {
    let Some(description) = description() else { return };
    let states = description["definitions"]["InstanceInfo"]["properties"]["state"]["enum"].as_array().unwrap();
    assert!(!states.is_empty());
    for state in states {
        let answer = json!({ "app_name": "Firecracker", "id": "1", "state": state, "vmm_version": "1.17.0" });
        serde_json::from_value::<InstanceInfo>(answer).unwrap();
    }
}

#[test]
fn a_kernel_that_is_no_elf_file_is_refused_before_anything_starts() {
    let error = kernel(&plan()).unwrap_err();
    assert!(error.to_string().contains("/k/vmlinuz as an uncompressed ELF file"), "{error}");
}

#[test]
fn kernel_arguments_that_are_too_long_are_refused() {
    let long = |length| MachinePlan {
        kernel_elf: Some(PathBuf::from("/k/vmlinux")),
        kernel_args: "x".repeat(length),
        ..plan()
    };
    assert!(machine(&long(1024)).is_ok());
    assert!(matches!(machine(&long(2048)), Err(VmmError::Unsupported { .. })));
}
