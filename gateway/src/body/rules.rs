//! What a request's body may ask for: the whole table. Anything that reaches out from the provider's side,
//! reads what is stored there, or is priced by other than tokens is not let through.

use crate::provider::Api;

/// What becomes of a field that is not let through. Values that say nothing (`null`, `false`, `[]`) pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The request makes no sense without it, so it is refused.
    Refuse,
    /// The request works without it.
    Remove,
}

/// Fields by name.
pub const FIELDS: &[(&[Api], &str, Rule)] = &[
    (ANTHROPIC, "mcp_servers", Rule::Refuse),
    (ANTHROPIC, "container", Rule::Refuse),
    (ANTHROPIC, "fallbacks", Rule::Remove),
    (ANTHROPIC, "speed", Rule::Remove),
    (ANTHROPIC, "inference_geo", Rule::Remove),
    (OPENAI, "service_tier", Rule::Remove),
    (&[Api::Chat], "web_search_options", Rule::Remove),
    (&[Api::Chat], "audio", Rule::Refuse),
    (&[Api::Responses], "background", Rule::Refuse),
    (&[Api::Responses], "previous_response_id", Rule::Refuse),
    (&[Api::Responses], "conversation", Rule::Refuse),
    (&[Api::Responses], "prompt", Rule::Refuse),
];

const ANTHROPIC: &[Api] = &[Api::Messages, Api::CountTokens];
const OPENAI: &[Api] = &[Api::Chat, Api::Responses];

/// Types of tools that run on the agent's side. All others run on the provider's, and are taken out.
/// A `*` at the end stands for a version.
#[must_use]
pub fn client_side_tools(api: Api) -> &'static [&'static str] {
    match api {
        Api::Messages | Api::CountTokens => &["custom", "bash_*", "text_editor_*", "computer_*", "memory_*"],
        Api::Chat => &["function", "custom"],
        Api::Responses => &["function", "custom", "local_shell", "apply_patch", NAMESPACE],
    }
}

/// Whether the provider itself writes what the model is told of such a tool.
#[must_use]
pub fn is_of_its_own_design(allowed: &str) -> bool {
    !matches!(allowed, "function" | "custom" | NAMESPACE)
}

/// The type of a tool that only holds others.
pub const NAMESPACE: &str = "namespace";

/// The type of a tool that names none.
#[must_use]
pub fn default_tool_type(api: Api) -> Option<&'static str> {
    match api {
        Api::Messages | Api::CountTokens => Some("custom"),
        Api::Chat | Api::Responses => None,
    }
}
