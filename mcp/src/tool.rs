//! The tools that there are.

use std::fmt::Debug;

use rmcp::{
    handler::server::tool::{schema_for_input, schema_for_output},
    model::{JsonObject, ToolAnnotations},
    schemars::JsonSchema,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What can be called.
pub trait Tool: Copy + Debug + PartialEq + Send + Sync + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// Its name.
    fn name(self) -> &'static str;

    /// What a client is told of it, see [`description`](Self::description).
    fn describe(self) -> rmcp::model::Tool;

    /// The tool of that name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|tool| tool.name() == name)
    }

    /// The description of a tool that takes `I` and answers `O`.
    fn description<I: JsonSchema + 'static, O: JsonSchema + 'static>(
        self,
        title: &'static str,
        text: &'static str,
        hints: ToolAnnotations,
    ) -> rmcp::model::Tool {
        // The only failure is that a type is no object, which is one of the `flaws`.
        let input = schema_for_input::<I>().unwrap_or_default();
        rmcp::model::Tool::new(self.name(), text, input)
            .with_title(title)
            .with_raw_output_schema(schema_for_output::<O>())
            .with_annotations(hints)
    }

    /// The arguments, or what is wrong with them: whoever called can do better the next time.
    ///
    /// # Errors
    /// A sentence for the caller.
    fn understand<A: DeserializeOwned>(self, arguments: JsonObject) -> Result<A, String> {
        serde_json::from_value(arguments.into())
            .map_err(|error| format!("the arguments of {} are not what they should be: {error}", self.name()))
    }

    /// Tools of which a client is told less than it needs, and what is missing. For tests: there are to be none.
    fn flaws() -> Vec<String> {
        let mut flaws = Vec::new();
        for tool in Self::ALL {
            let told = tool.describe();
            let mut check = |is: bool, flaw: &str| {
                if !is {
                    flaws.push(format!("{tool:?}: {flaw}"));
                }
            };
            let (input, output) = (&*told.input_schema, told.output_schema.as_deref());
            let properties = |schema: &JsonObject| schema.get("properties").and_then(Value::as_object).cloned();
            let described = |property: &Value| property.get("description").is_some_and(Value::is_string);
            check(Self::named(&told.name) == Some(*tool), "it is not found by its name");
            check(input.get("type") == Some(&"object".into()), "it takes no object");
            check(input.get("additionalProperties") == Some(&false.into()), "it takes what it does not know");
            check(properties(input).iter().flatten().all(|(_, it)| described(it)), "an argument has no description");
            check(output.is_some_and(|it| it.get("type") == Some(&"object".into())), "it answers no object");
            check(output.and_then(properties).is_some_and(|all| !all.is_empty()), "its answer has no fields");
        }
        flaws
    }
}
