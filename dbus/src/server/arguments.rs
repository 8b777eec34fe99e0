//! The arguments of a call as they are written down: without secrets, and of bounded size.

use serde_json::{Map, Value, json};
use zbus::Variant;

use super::options::Dict;

/// Options whose values are secrets; their keys are none.
const SECRET: [&str; 2] = ["env", "files"];
/// What stands for what is not written down.
const HIDDEN: &str = "***";
/// So many bytes of a text are kept.
const TEXT: usize = 256;
/// So many bytes are kept of a call, and a little more.
const ALL: usize = 4096;

/// The arguments of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    named: Map<String, Value>,
    options: Map<String, Value>,
}

impl Arguments {
    /// An argument that is none of the options.
    pub(super) fn push(&mut self, name: &str, value: impl Into<Value>) {
        let mut room = ALL;
        self.named.insert(name.to_owned(), bounded(value.into(), &mut room));
    }

    /// The options as they came. They are not to be kept as long as nobody has said which are known.
    pub(super) fn of_options(given: &Dict) -> Map<String, Value> {
        let mut room = ALL;
        let value = |(key, value): (&String, &zbus::OwnedVariant)| {
            // Up to a million numbers, of which nothing would be kept.
            let value = if key == "files" { json!(HIDDEN) } else { bounded(plain(value), &mut room) };
            (key.clone(), value)
        };
        let mut keys: Vec<_> = given.iter().collect();
        keys.sort_by_key(|(key, _)| key.as_str());
        keys.into_iter().map(value).collect()
    }

    /// Keeps of the options what is no secret: what is not `known` may be one that was mistyped.
    pub(super) fn keep(&mut self, given: Map<String, Value>, known: &[&'static str]) {
        let kept = |(key, value): (String, Value)| {
            let value = match value {
                value if SECRET.contains(&key.as_str()) => hidden(&value),
                value if known.contains(&key.as_str()) || key.starts_with("x-") => value,
                _ => json!(HIDDEN),
            };
            (bounded_text(&key), value)
        };
        self.options = given.into_iter().map(kept).collect();
        // It has a place of its own.
        self.options.remove("reason");
    }

    /// All of them, by their names.
    pub(super) fn into_value(mut self) -> Value {
        if !self.options.is_empty() {
            self.named.insert("options".to_owned(), Value::Object(self.options));
        }
        Value::Object(self.named)
    }
}

/// Names stay, what they name does not. A name that is a whole assignment, which is refused, has a secret in itself.
fn hidden(value: &Value) -> Value {
    let name = |key: &str| key.split(['=', '\0']).next().unwrap_or_default().to_owned();
    match value {
        Value::Object(entries) => entries.keys().map(|key| (name(key), json!(HIDDEN))).collect(),
        _ => json!(HIDDEN),
    }
}

/// What JSON has for it.
fn plain(value: &Variant<'_>) -> Value {
    match value {
        Variant::U8(number) => json!(number),
        Variant::Bool(truth) => json!(truth),
        Variant::I16(number) => json!(number),
        Variant::U16(number) => json!(number),
        Variant::I32(number) => json!(number),
        Variant::U32(number) => json!(number),
        Variant::I64(number) => json!(number),
        Variant::U64(number) => json!(number),
        Variant::F64(number) => json!(number),
        Variant::Str(text) => json!(text.as_str()),
        Variant::Signature(signature) => json!(signature.to_string()),
        Variant::ObjectPath(path) => json!(path.as_str()),
        Variant::Variant(inner) => plain(inner),
        Variant::Array(array) => array.iter().map(plain).collect(),
        Variant::Structure(structure) => structure.fields().iter().map(plain).collect(),
        Variant::Dict(dict) => {
            let key = |key: &Variant<'_>| match plain(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            dict.iter().map(|(name, value)| (key(name), plain(value))).collect()
        }
        Variant::Fd(_) => json!("descriptor"),
    }
}

/// As much of it as there is room for; what is left out leaves `…`.
fn bounded(value: Value, room: &mut usize) -> Value {
    match value {
        Value::String(text) => {
            let text = bounded_text(&text);
            *room = room.saturating_sub(text.len());
            Value::String(text)
        }
        Value::Array(values) => {
            let mut kept = Vec::new();
            for value in values {
                if *room == 0 {
                    kept.push(json!("…"));
                    break;
                }
                *room = room.saturating_sub(8);
                kept.push(bounded(value, room));
            }
            Value::Array(kept)
        }
        Value::Object(entries) => {
            let mut kept = Map::new();
            for (key, value) in entries {
                if *room == 0 {
                    kept.insert("…".to_owned(), Value::Null);
                    break;
                }
                let key = bounded_text(&key);
                *room = room.saturating_sub(key.len() + 8);
                kept.insert(key, bounded(value, room));
            }
            Value::Object(kept)
        }
        other => other,
    }
}

fn bounded_text(text: &str) -> String {
    if text.len() <= TEXT { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(TEXT)]) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use zbus::OwnedVariant;

    use super::*;

    fn kept(given: &[(&str, Variant<'static>)], known: &[&'static str]) -> Value {
        let owned = |(key, value): &(&str, Variant<'static>)| {
            ((*key).to_owned(), OwnedVariant::try_from(value.try_clone().unwrap()).unwrap())
        };
        let given: Dict = given.iter().map(owned).collect();
        let mut arguments = Arguments::default();
        arguments.push("name", "web");
        arguments.keep(Arguments::of_options(&given), known);
        arguments.into_value()
    }

    #[test]
    fn secrets_are_hidden_and_their_names_are_not() {
        let env = Variant::from(HashMap::from([("TOKEN", "hunter2")]));
        let given = [("env", env), ("vcpus", 2_u32.into()), ("tags", vec!["a", "b"].into())];
        assert_eq!(
            kept(&given, &["env", "vcpus", "tags"]),
            json!({ "name": "web", "options": { "env": { "TOKEN": "***" }, "vcpus": 2, "tags": ["a", "b"] } })
        );
        let content = HashMap::from([("content", Variant::from(b"hunter2".to_vec()))]);
        let files = Variant::from(vec![("/etc/token", content)]);
        assert_eq!(kept(&[("files", files)], &["files"])["options"]["files"], "***");
        // However wrong it is.
        let assignment = Variant::from(HashMap::from([("TOKEN=hunter2", "")]));
        assert_eq!(kept(&[("env", assignment)], &["env"])["options"]["env"], json!({ "TOKEN": "***" }));
        assert_eq!(kept(&[("env", "hunter2".into())], &["env"])["options"]["env"], "***");
        assert_eq!(kept(&[("envs", "hunter2".into())], &["env"])["options"]["envs"], "***");
        assert_eq!(kept(&[("x-trace", "abc".into())], &[])["options"]["x-trace"], "abc");
        assert_eq!(kept(&[("reason", "tests".into())], &["reason"]), json!({ "name": "web" }));
    }

    #[test]
    fn what_is_long_is_cut() {
        let mut arguments = Arguments::default();
        arguments.push("path", "ü".repeat(10_000));
        arguments.push("argv", vec!["x".repeat(100); 1000]);
        let value = arguments.into_value();
        assert_eq!(value["path"].as_str().unwrap().len(), TEXT + "…".len());
        let argv = value["argv"].as_array().unwrap();
        assert!(argv.len() < 50 && argv.last().unwrap() == "…", "{}", argv.len());
    }

    #[test]
    fn a_deep_value_is_one_of_json() {
        let deep = Variant::Variant(Box::new(HashMap::from([(7_u32, vec![true])]).into()));
        assert_eq!(kept(&[("x-deep", deep)], &[])["options"]["x-deep"], json!({ "7": [true] }));
    }
}
