//! Takes tools out that run on the provider's side, and mends what named them.

use serde_json::{Value, json, value::RawValue};

use super::{
    fields::Fields,
    rules::{NAMESPACE, client_side_tools, default_tool_type},
};
use crate::provider::Api;

/// Removes server-side tools from a request, and returns their types or names. `Err` says what is malformed.
pub(super) fn strip(api: Api, fields: &mut Fields<'_>) -> Result<Vec<String>, String> {
    let mut removed = Vec::new();
    let Some(tools) = fields.raw("tools").filter(|raw| *raw != "null") else { return Ok(removed) };
    let kept = kept(api, tools, &mut removed)?;
    if removed.is_empty() {
        return Ok(removed);
    }
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
    Ok(removed)
}

type Named = (Option<String>, Box<RawValue>);

fn kept(api: Api, tools: &str, removed: &mut Vec<String>) -> Result<Vec<Named>, String> {
    let wrong = |error: serde_json::Error| format!("tools: {error}");
    let tools: Vec<&RawValue> = serde_json::from_str(tools).map_err(wrong)?;
    let mut kept = Vec::new();
    for raw in tools {
        let mut tool: Fields<'_> = serde_json::from_str(raw.get()).map_err(wrong)?;
        let kind = match tool.raw("type") {
            None => default_tool_type(api).unwrap_or("").to_owned(),
            Some(_) => tool.get("type").ok_or("tools: a type is not a string")?,
        };
        let name: Option<String> = tool.get("name").or_else(|| {
            tool.get::<Value>("function").and_then(|function| function["name"].as_str().map(str::to_owned))
        });
        if !client_side_tools(api).iter().any(|allowed| matches(allowed, &kind)) {
            removed.push(if kind.is_empty() { "a tool without a type".to_owned() } else { kind });
            continue;
        }
        let before = removed.len();
        if kind == NAMESPACE
            && let Some(nested) = tool.raw("tools")
        {
            let nested = self::kept(api, nested, removed)?;
            let nested: Vec<&RawValue> = nested.iter().map(|(_, tool)| tool.as_ref()).collect();
            tool.set("tools", &nested).map_err(wrong)?;
        }
        let tool = match removed.len() == before {
            true => raw.to_owned(),
            false => serde_json::value::to_raw_value(&tool).map_err(wrong)?,
        };
        kept.push((name, tool));
    }
    Ok(kept)
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
