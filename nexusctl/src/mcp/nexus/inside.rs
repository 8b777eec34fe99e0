//! What the tools take that act inside a VM: what its agent's own take, and which VM.

use std::borrow::Cow;

use nexus_mcp::{
    JsonObject,
    schemars::{JsonSchema, Schema, SchemaGenerator},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error};
use serde_json::{Value, json};

/// The argument that the agent does not get.
const VM: &str = "vm";

/// Arguments of a tool of the agent's, with the VM. The agent has the last word on them.
#[derive(Debug)]
pub(super) struct InVm<T> {
    /// The VM's name or id.
    pub(super) vm: String,
    /// As they were written.
    pub(super) arguments: JsonObject,
    /// What they mean.
    pub(super) meant: T,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for InVm<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut arguments = JsonObject::deserialize(deserializer)?;
        let vm = arguments.remove(VM).ok_or_else(|| D::Error::missing_field(VM))?;
        let vm = String::deserialize(vm).map_err(D::Error::custom)?;
        let meant = T::deserialize(Value::Object(arguments.clone())).map_err(D::Error::custom)?;
        Ok(Self { vm, arguments, meant })
    }
}

impl<T: JsonSchema> JsonSchema for InVm<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}InVm", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        let object = schema.ensure_object();
        if let Some(Value::Object(properties)) = object.get_mut("properties") {
            properties.insert(VM.to_owned(), json!({"type": "string", "description": "The VM's name or id."}));
        }
        if let Value::Array(required) = object.entry("required").or_insert_with(|| json!([])) {
            required.insert(0, VM.into());
        }
        schema
    }
}

#[cfg(test)]
mod tests {
    use nexus_mcp::{FileRead, RunCommand, schemars::schema_for};

    use super::*;

    #[test]
    fn the_vm_is_an_argument_beside_the_agents_own() {
        let schema = schema_for!(InVm<FileRead>);
        assert_eq!(schema.get("required"), Some(&json!(["vm", "path"])));
        let own = schema_for!(FileRead);
        let names = |schema: &Schema| schema.get("properties").unwrap().as_object().unwrap().len();
        assert_eq!(names(&schema), names(&own) + 1);
        assert_eq!(schema_for!(InVm<RunCommand>).get("required"), Some(&json!(["vm"])));
    }

    #[test]
    fn the_agent_gets_the_rest_as_it_was_written() {
        let read: InVm<FileRead> = serde_json::from_value(json!({"vm": "web", "path": "/a"})).unwrap();
        assert_eq!((read.vm.as_str(), Value::Object(read.arguments)), ("web", json!({"path": "/a"})));
        for (wrong, why) in [
            (json!({"path": "/a"}), "missing field `vm`"),
            (json!({"vm": 1, "path": "/a"}), "expected a string"),
            (json!({"vm": "web"}), "missing field `path`"),
            (json!({"vm": "web", "path": "/a", "what": 1}), "unknown field `what`"),
        ] {
            let error = serde_json::from_value::<InVm<FileRead>>(wrong).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
