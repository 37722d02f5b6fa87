//! Takes tools out that run on the provider's side, and mends what named them.

use std::{
    borrow::Cow,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
};

use serde_json::{Value, json, value::RawValue};

use super::{
    fields::Fields,
    rules::{NAMESPACE, client_side_tools, default_tool_type, is_of_its_own_design},
};
use crate::provider::Api;

/// What a request's tools are.
#[derive(Debug)]
pub(super) struct Tools {
    /// The types of those that were taken out.
    pub(super) removed: Vec<String>,
    /// Of those that were kept, cache marks left out.
    pub(super) hash: u64,
    /// Their length as they were sent, those that were taken out included.
    pub(super) bytes: u64,
    /// Those of the provider's own design.
    pub(super) typed: u64,
    /// Whether the model is told of some only once a later block names them.
    pub(super) deferred: bool,
}

/// Removes server-side tools from a request. `Err` says what is malformed.
pub(super) fn strip(api: Api, fields: &mut Fields<'_>, hashes: &RandomState) -> Result<Tools, String> {
    let mut look =
        Look { api, removed: Vec::new(), hasher: hashes.build_hasher(), typed: 0, deferred: false };
    let tools = fields.raw("tools").filter(|raw| *raw != "null").unwrap_or("[]");
    let bytes = u64::try_from(tools.len()).unwrap_or(u64::MAX / 4);
    let kept = look.kept(tools)?;
    if !look.removed.is_empty() {
        let own = |(name, tool): Named<'_>| (name, Cow::Owned(tool.into_owned()));
        let kept: Vec<Named<'_>> = kept.into_iter().map(own).collect();
        replace(api, fields, &kept)?;
    }
    let Look { removed, hasher, typed, deferred, .. } = look;
    Ok(Tools { removed, hash: hasher.finish(), bytes, typed, deferred })
}

/// Whether any of these tools, which stand in a conversation, runs on the provider's side.
pub(super) fn run_elsewhere(api: Api, tools: &str) -> Result<bool, String> {
    let hasher = DefaultHasher::new();
    let mut look = Look { api, removed: Vec::new(), hasher, typed: 0, deferred: false };
    look.kept(tools)?;
    Ok(!look.removed.is_empty())
}

/// Puts the tools that were kept in the place of all, and mends what named others.
fn replace(api: Api, fields: &mut Fields<'_>, kept: &[Named<'_>]) -> Result<(), String> {
    let malformed = |error: serde_json::Error| error.to_string();
    let choice: Option<Value> = fields.get("tool_choice");
    if kept.is_empty() {
        fields.remove("tools");
        fields.remove("tool_choice");
        fields.remove("parallel_tool_calls");
    } else {
        let names: Vec<&str> = kept.iter().filter_map(|(name, _)| name.as_deref()).collect();
        if choice.is_some_and(|choice| names_another(&choice, &names)) {
            let auto = if api.provider() == crate::provider::Provider::Anthropic {
                json!({"type": "auto"})
            } else {
                json!("auto")
            };
            fields.set("tool_choice", &auto).map_err(malformed)?;
        }
        let kept: Vec<&RawValue> = kept.iter().map(|(_, tool)| tool.as_ref()).collect();
        fields.set("tools", &kept).map_err(malformed)?;
    }
    Ok(())
}

type Named<'a> = (Option<String>, Cow<'a, RawValue>);

/// Goes through tools.
struct Look {
    api: Api,
    removed: Vec<String>,
    hasher: DefaultHasher,
    typed: u64,
    deferred: bool,
}

impl Look {
    fn kept<'a>(&mut self, tools: &'a str) -> Result<Vec<Named<'a>>, String> {
        let wrong = |error: serde_json::Error| format!("tools: {error}");
        let tools: Vec<&RawValue> = serde_json::from_str(tools).map_err(wrong)?;
        tools.len().hash(&mut self.hasher);
        let mut kept = Vec::new();
        for raw in tools {
            let mut tool: Fields<'_> = serde_json::from_str(raw.get()).map_err(wrong)?;
            let kind = match tool.raw("type") {
                None => default_tool_type(self.api).unwrap_or("").to_owned(),
                Some(_) => tool.get("type").ok_or("tools: a type is not a string")?,
            };
            let name: Option<String> = tool.get("name").or_else(|| {
                tool.get::<Value>("function")
                    .and_then(|function| function["name"].as_str().map(str::to_owned))
            });
            let Some(allowed) = client_side_tools(self.api).iter().find(|allowed| matches(allowed, &kind))
            else {
                self.removed.push(if kind.is_empty() { "a tool without a type".to_owned() } else { kind });
                continue;
            };
            self.typed += u64::from(is_of_its_own_design(allowed));
            self.deferred |= tool.says("defer_loading");
            let before = self.removed.len();
            if kind == NAMESPACE
                && let Some(nested) = tool.raw("tools").map(str::to_owned)
            {
                let nested = self.kept(&nested)?;
                if self.removed.len() != before {
                    let nested: Vec<&RawValue> = nested.iter().map(|(_, tool)| tool.as_ref()).collect();
                    tool.set("tools", &nested).map_err(wrong)?;
                }
            }
            for (name, value) in tool.iter().filter(|(name, _)| *name != "cache_control") {
                (name, value).hash(&mut self.hasher);
            }
            let tool = match self.removed.len() == before {
                true => Cow::Borrowed(raw),
                false => Cow::Owned(serde_json::value::to_raw_value(&tool).map_err(wrong)?),
            };
            kept.push((name, tool));
        }
        Ok(kept)
    }
}

fn matches(allowed: &str, kind: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == allowed,
    }
}

/// Whether a `tool_choice` insists on a tool that is not among those kept.
fn names_another(choice: &Value, kept: &[&str]) -> bool {
    let Some(choice) = choice.as_object() else { return false };
    let name = choice
        .get("name")
        .or_else(|| choice.get("function").and_then(|function| function.get("name")))
        .and_then(Value::as_str);
    let kind = choice.get("type").and_then(Value::as_str).unwrap_or_default();
    match name {
        Some(name) => !kept.contains(&name),
        None => !matches!(kind, "auto" | "any" | "none"),
    }
}
