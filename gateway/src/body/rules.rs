//! What a request may ask for: the whole table, which `docs/security.md` repeats. Anything that reaches out from
//! the provider's side, reads what is stored there, or is priced by other than tokens is not let through.

use crate::provider::Api;

/// What becomes of an API's fields. One that no list names is taken out: what a provider adds is closed until
/// somebody has looked at it, and agents send optional fields that a request works without.
#[derive(Debug)]
pub struct FieldRules {
    /// Sent on as they are.
    pub pass: &'static [&'static str],
    /// The request works without it, so it is taken out. Values that say nothing (`null`, `false`, `[]`) stay.
    pub remove: &'static [&'static str],
    /// The request makes no sense without it, so it is refused. Values that say nothing pass.
    pub refuse: &'static [&'static str],
}

/// The rules of an API's top-level fields.
#[must_use]
pub fn fields(api: Api) -> &'static FieldRules {
    match api {
        Api::Messages | Api::CountTokens => &MESSAGES,
        Api::Chat => &CHAT,
        Api::Responses => &RESPONSES,
    }
}

const MESSAGES: FieldRules = FieldRules {
    pass: &[
        "cache_control",
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    ],
    remove: &[
        "compaction",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "service_tier",
        "speed",
        "user_profile_id",
        "workspace_id",
    ],
    refuse: &["container", "mcp_servers", "thread"],
};

const CHAT: FieldRules = FieldRules {
    pass: &[
        "chat_template_kwargs",
        "enable_thinking",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "min_p",
        "model",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "safety_identifier",
        "seed",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    ],
    remove: &[
        "modalities",
        "models",
        "plugins",
        "prediction",
        "provider",
        "route",
        "service_tier",
        "transforms",
        "web_search_options",
    ],
    refuse: &["audio"],
};

const RESPONSES: FieldRules = FieldRules {
    pass: &[
        "client_metadata",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ],
    remove: &["context_management", "moderation", "service_tier"],
    refuse: &["background", "conversation", "previous_response_id", "prompt"],
};

/// Values of `anthropic-beta`, by their beginnings, that open what runs or is stored at the provider, or is priced
/// otherwise. Others pass: what they open needs a field or a tool, and those are on lists.
pub const CLOSED_BETAS: &[&str] = &[
    "advisor-",
    "code-execution-",
    "compact-",
    "fast-mode-",
    "files-api-",
    "managed-agents-",
    "mcp-client-",
    "mcp-servers-",
    "server-side-fallback-",
    "skills-",
    "web-fetch-",
    "web-search-",
];

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
