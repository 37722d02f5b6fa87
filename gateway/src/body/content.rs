//! What the blocks of a conversation may hold. A block that makes the provider fetch a URL is a way out, and
//! one that names what is stored there reads what was never sent.

use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};

use serde_json::value::RawValue;

use super::{BadBody, fields::Fields};
use crate::provider::Api;

/// The fields of a block that may hold blocks; an `input` or `arguments` is a tool's own, and not looked into.
const NESTED: &[&str] = &["content", "output"];
/// How deep blocks lie in blocks: a message's result's document's content's image is the fifth.
const DEPTH: usize = 8;

/// The elements of a conversation as they were sent; a string is one.
///
/// # Errors
/// [`BadBody`] where it is no list that can be read.
pub(super) fn elements(raw: &str) -> Result<Vec<&str>, BadBody> {
    if !raw.starts_with('[') {
        return Ok(if raw == "null" { Vec::new() } else { vec![raw] });
    }
    let list: Vec<&RawValue> = serde_json::from_str(raw).map_err(|error| malformed(&error))?;
    Ok(list.into_iter().map(RawValue::get).collect())
}

fn malformed(error: &serde_json::Error) -> BadBody {
    BadBody::Malformed(format!("a block of the conversation: {error}"))
}

/// Goes through blocks: refuses what does not pass, counts inline images, and hashes what the rest says. Cache
/// marks do not count, nor whether a text stands alone or as a block.
pub(super) struct Walk {
    api: Api,
    hasher: DefaultHasher,
    images: u64,
}

impl Walk {
    pub(super) fn new(api: Api, hashes: &RandomState) -> Self {
        Self { api, hasher: hashes.build_hasher(), images: 0 }
    }

    /// The hash and the images of all that was walked through.
    pub(super) fn end(self) -> (u64, u64) {
        (self.hasher.finish(), self.images)
    }

    /// A list of blocks, or one. Strings and numbers hold nothing.
    ///
    /// # Errors
    /// [`BadBody`], at the first block that does not pass.
    pub(super) fn blocks(&mut self, raw: &str) -> Result<(), BadBody> {
        self.list(raw, DEPTH)
    }

    fn list(&mut self, raw: &str, depth: usize) -> Result<(), BadBody> {
        let list = elements(raw)?;
        list.len().hash(&mut self.hasher);
        list.into_iter().try_for_each(|item| match item.as_bytes().first() {
            Some(b'{') => self.block(item, depth),
            // A list in a list is no block of any API.
            Some(b'[') => self.list(item, less(depth)?),
            _ => {
                self.text(item);
                Ok(())
            }
        })
    }

    fn text(&mut self, raw: &str) {
        ("text", raw).hash(&mut self.hasher);
    }

    fn block(&mut self, raw: &str, depth: usize) -> Result<(), BadBody> {
        let depth = less(depth)?;
        let block: Fields<'_> = serde_json::from_str(raw).map_err(|error| malformed(&error))?;
        self.check(&block, depth)?;
        let mut says = block.iter().filter(|(name, _)| *name != "cache_control");
        if let (Some(("text", text)), Some(("type", "\"text\"")), None)
        | (Some(("type", "\"text\"")), Some(("text", text)), None) =
            (says.next(), says.next(), says.next())
        {
            self.text(text);
            return Ok(());
        }
        for (name, value) in block.iter().filter(|(name, _)| *name != "cache_control") {
            name.hash(&mut self.hasher);
            if NESTED.contains(&name) { self.list(value, depth)? } else { value.hash(&mut self.hasher) }
        }
        self.hasher.write(b"end");
        Ok(())
    }

    /// Whether a block passes, but for those that are in it.
    fn check(&mut self, block: &Fields<'_>, depth: usize) -> Result<(), BadBody> {
        let kind: Option<String> = block.get("type");
        // An item of Responses that has an id alone is a reference too.
        let bare = kind.is_none() && block.raw("role").is_none() && block.says("id");
        if kind.as_deref() == Some("item_reference") || bare {
            return Err(BadBody::Forbidden("item_reference"));
        }
        closed_block(self.api, block, kind.as_deref().unwrap_or_default())?;
        stored_or_file(block)?;
        if let Some(file) = object(block, "file")? {
            stored_or_file(&file)?;
        }
        if block.says("image_url") {
            let url: Option<String> = match object(block, "image_url")? {
                Some(image) => image.get("url"),
                None => block.get("image_url"),
            };
            if !url.is_some_and(|url| url.starts_with("data:image/")) {
                return Err(BadBody::Forbidden("an image_url that is not a data:image/ URL"));
            }
            self.images += 1;
        }
        match object(block, "source")? {
            Some(source) => self.source(&source, depth),
            None => Ok(()),
        }
    }

    /// The source of Anthropic's images and documents.
    fn source(&mut self, source: &Fields<'_>, depth: usize) -> Result<(), BadBody> {
        let kind: Option<String> = source.get("type");
        let media: Option<String> = source.get("media_type");
        stored_or_file(source)?;
        match kind.as_deref() {
            Some("text") => Ok(()),
            Some("content") => source.raw("content").map_or(Ok(()), |raw| self.list(raw, depth)),
            Some("base64") if media.is_some_and(|media| media.starts_with("image/")) => {
                self.images += 1;
                Ok(())
            }
            Some("base64") => Err(BadBody::Forbidden("a base64 source that is not an image, such as a PDF")),
            _ => Err(BadBody::Forbidden("a source of another type than base64, text and content")),
        }
    }
}

fn less(depth: usize) -> Result<usize, BadBody> {
    depth.checked_sub(1).ok_or_else(|| BadBody::Malformed("blocks lie too deep in blocks".to_owned()))
}

fn object<'a>(block: &'a Fields<'_>, name: &str) -> Result<Option<Fields<'a>>, BadBody> {
    let raw = block.raw(name).filter(|raw| raw.starts_with('{'));
    raw.map(serde_json::from_str).transpose().map_err(|error| malformed(&error))
}

/// Blocks that carry tools, that something else than the agent runs, or whose cost is not in their bytes.
fn closed_block(api: Api, block: &Fields<'_>, kind: &str) -> Result<(), BadBody> {
    if kind.starts_with("mcp_") {
        return Err(BadBody::Forbidden("a block of an MCP server that the provider calls"));
    }
    if kind == "input_audio" || block.says("audio") {
        return Err(BadBody::Forbidden("audio"));
    }
    let off = object(block, "citations")?.is_some_and(|citations| !citations.says("enabled"));
    if block.says("citations") && !off {
        return Err(BadBody::Forbidden("citations"));
    }
    let url = |name: &str| name.ends_with("_url") && !matches!(name, "image_url" | "file_url");
    if block.iter().any(|(name, _)| url(name) && block.says(name)) {
        return Err(BadBody::Forbidden("a URL that the provider would fetch"));
    }
    let tools = block.raw("tools").filter(|_| block.says("tools"));
    match tools
        .map(|tools| super::tools::run_elsewhere(api, tools))
        .transpose()
        .map_err(BadBody::Malformed)?
    {
        Some(true) => Err(BadBody::Forbidden("a tool in the conversation that the provider would run")),
        _ => Ok(()),
    }
}

/// Files are refused however they come: what one of many pages costs is not known before.
fn stored_or_file(fields: &Fields<'_>) -> Result<(), BadBody> {
    match ["file_id", "file_url", "file_data", "container_id"].into_iter().find(|name| fields.says(name)) {
        Some(name) => Err(BadBody::Forbidden(name)),
        None => Ok(()),
    }
}
