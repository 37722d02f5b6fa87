//! What the blocks of a conversation may hold. A block that makes the provider fetch a URL is a way out, and
//! one that names what is stored there reads what was never sent.

use serde_json::value::RawValue;

use super::{BadBody, fields::Fields};

/// The fields of a request that hold blocks, in all APIs.
const CONVERSATION: &[&str] = &["messages", "input", "system", "instructions"];
/// The fields of a block that may hold blocks; an `input` or `arguments` is a tool's own, and not looked into.
const NESTED: &[&str] = &["content", "output"];
/// How deep blocks lie in blocks: a message's result's document's content's image is the fifth.
const DEPTH: usize = 8;

/// Counts the inline images of a request, whatever else its blocks hold being text.
///
/// # Errors
/// [`BadBody`], at the first block that does not pass.
pub(super) fn images(fields: &Fields<'_>) -> Result<u64, BadBody> {
    let mut images = 0;
    for raw in CONVERSATION.iter().filter_map(|name| fields.raw(name)) {
        blocks(raw, DEPTH, &mut images)?;
    }
    Ok(images)
}

fn malformed(error: &serde_json::Error) -> BadBody {
    BadBody::Malformed(format!("a block of the conversation: {error}"))
}

/// A list of blocks, or one. Strings and numbers hold nothing.
fn blocks(raw: &str, depth: usize, images: &mut u64) -> Result<(), BadBody> {
    if raw.starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(raw).map_err(|error| malformed(&error))?;
        return list.into_iter().try_for_each(|item| match item.get().starts_with('{') {
            true => block(item.get(), depth, images),
            false => Ok(()),
        });
    }
    if raw.starts_with('{') { block(raw, depth, images) } else { Ok(()) }
}

fn block(raw: &str, depth: usize, images: &mut u64) -> Result<(), BadBody> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(BadBody::Malformed("blocks lie too deep in blocks".to_owned()));
    };
    let block: Fields<'_> = serde_json::from_str(raw).map_err(|error| malformed(&error))?;
    let kind: Option<String> = block.get("type");
    // An item of Responses that has an id alone is a reference too.
    let bare = kind.is_none() && block.raw("role").is_none() && block.says("id");
    if kind.as_deref() == Some("item_reference") || bare {
        return Err(BadBody::Forbidden("item_reference"));
    }
    stored_or_file(&block)?;
    if let Some(file) = object(&block, "file")? {
        stored_or_file(&file)?;
    }
    if block.says("image_url") {
        let url: Option<String> = match object(&block, "image_url")? {
            Some(image) => image.get("url"),
            None => block.get("image_url"),
        };
        if !url.is_some_and(|url| url.starts_with("data:image/")) {
            return Err(BadBody::Forbidden("an image_url that is not a data:image/ URL"));
        }
        *images += 1;
    }
    if let Some(source) = object(&block, "source")? {
        inline(&source, depth, images)?;
    }
    NESTED.iter().filter_map(|name| block.raw(name)).try_for_each(|raw| blocks(raw, depth, images))
}

fn object<'a>(block: &'a Fields<'_>, name: &str) -> Result<Option<Fields<'a>>, BadBody> {
    let raw = block.raw(name).filter(|raw| raw.starts_with('{'));
    raw.map(serde_json::from_str).transpose().map_err(|error| malformed(&error))
}

/// Files are refused however they come: what one of many pages costs is not known before.
fn stored_or_file(fields: &Fields<'_>) -> Result<(), BadBody> {
    match ["file_id", "file_url", "file_data"].into_iter().find(|name| fields.says(name)) {
        Some(name) => Err(BadBody::Forbidden(name)),
        None => Ok(()),
    }
}

/// The source of Anthropic's images and documents.
fn inline(source: &Fields<'_>, depth: usize, images: &mut u64) -> Result<(), BadBody> {
    let kind: Option<String> = source.get("type");
    let media: Option<String> = source.get("media_type");
    stored_or_file(source)?;
    match kind.as_deref() {
        Some("text") => Ok(()),
        Some("content") => source.raw("content").map_or(Ok(()), |raw| blocks(raw, depth, images)),
        Some("base64") if media.is_some_and(|media| media.starts_with("image/")) => {
            *images += 1;
            Ok(())
        }
        Some("base64") => Err(BadBody::Forbidden("a base64 source that is not an image, such as a PDF")),
        _ => Err(BadBody::Forbidden("a source of another type than base64, text and content")),
    }
}
