//! What of a request decides how many tokens go in: its parts as hashes and sizes.

use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};

use super::{BadBody, content, fields::Fields, tools::Tools};
use crate::provider::Api;

/// Bytes that are added to each element, for what a provider puts between two.
const BETWEEN: u64 = 32;
/// Fields that do not change how input is counted. What is not named here does, as far as we know.
const COUNTED_ALIKE: &[&str] = &[
    "cache_control",
    "client_metadata",
    "include",
    "logit_bias",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "metadata",
    "model",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "seed",
    "stop",
    "stop_sequences",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "top_k",
    "top_p",
    "user",
];

/// A part of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    /// Of what it says, cache marks left out. An element's is of all elements up to it.
    pub hash: u64,
    /// Its length, in no case less than its tokens beside images.
    pub bytes: u64,
    /// Inline images.
    pub images: u64,
}

/// A request's parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Bytes in all.
    pub bytes: u64,
    /// Of all fields that have no part of their own here, but may change how input is counted.
    pub frame: u64,
    /// `system` and `instructions`.
    pub system: Part,
    /// `tools`; they hold no image.
    pub tools: Part,
    /// Tools of the provider's own design, whose definitions are not in the request.
    pub typed_tools: u64,
    /// The conversation's elements in their order.
    pub elements: Vec<Part>,
    /// Whether what is counted of one part may depend on others that come later.
    pub volatile: bool,
}

impl Outline {
    /// Reads a request whose tools have been looked through, and refuses blocks that do not pass.
    ///
    /// # Errors
    /// [`BadBody`], at the first block that does not pass.
    pub(super) fn read(
        api: Api,
        fields: &Fields<'_>,
        bytes: usize,
        tools: &Tools,
        hashes: &RandomState,
    ) -> Result<Self, BadBody> {
        let mut outline = Self {
            bytes: length(bytes),
            tools: Part { hash: tools.hash, bytes: tools.bytes, images: 0 },
            typed_tools: tools.typed,
            volatile: tools.deferred || drops_what_it_was_sent(fields),
            ..Self::default()
        };
        let mut system = content::Walk::new(api, hashes);
        let mut frame = hashes.build_hasher();
        let mut chain: DefaultHasher = hashes.build_hasher();
        for (name, raw) in fields.iter() {
            match name {
                "messages" | "input" => {
                    for element in content::elements(raw)? {
                        let mut walk = content::Walk::new(api, hashes);
                        walk.blocks(element)?;
                        let (hash, images) = walk.end();
                        chain.write_u64(hash);
                        let bytes = length(element.len()) + BETWEEN;
                        outline.elements.push(Part { hash: chain.finish(), bytes, images });
                    }
                }
                "system" | "instructions" => {
                    outline.system.bytes += length(raw.len()) + BETWEEN;
                    system.blocks(raw)?;
                }
                "tools" => {}
                _ if COUNTED_ALIKE.contains(&name) => {}
                _ => (name, raw).hash(&mut frame),
            }
        }
        outline.frame = frame.finish();
        (outline.system.hash, outline.system.images) = system.end();
        Ok(outline)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX / 4)
}

/// Whether the provider may drop more of what it is sent than it drops when more follows: then a count says
/// nothing about the next.
fn drops_what_it_was_sent(fields: &Fields<'_>) -> bool {
    let truncates =
        fields.says("truncation") && fields.get::<String>("truncation").as_deref() != Some("disabled");
    let edits: Option<serde_json::Value> = fields.get("context_management");
    let only_thinking = |edits: &serde_json::Value| {
        let edits = edits["edits"].as_array();
        let kind = |edit: &serde_json::Value| {
            edit["type"].as_str().is_some_and(|kind| kind.starts_with("clear_thinking_"))
        };
        edits.is_some_and(|edits| edits.iter().all(kind))
    };
    truncates || (fields.says("context_management") && !edits.is_some_and(|edits| only_thinking(&edits)))
}
