//! A request's body: read once, and changed only where it must be.

use std::hash::RandomState;

use bytes::Bytes;

use crate::{
    account::Ask,
    prices::ModelPrice,
    provider::{Api, Provider},
};

mod content;
pub mod fields;
pub mod outline;
pub mod rules;
mod tools;

use fields::Fields;
use outline::Outline;

/// Tokens of output that an answer needs to be of use.
pub const OUTPUT_FLOOR: u64 = 256;
/// Tokens of output where a client sets no bound: enough for any turn of an agent, and within what the
/// models of the day allow, but for those of [`OUTPUT_CAPS`].
const OUTPUT_DEFAULT: u64 = 32_000;
/// Models, by the beginnings of their names, that refuse a larger bound (<https://platform.openai.com/docs/models>).
const OUTPUT_CAPS: &[(&str, u64)] = &[("gpt-3.5", 4_096), ("gpt-4-", 4_096), ("gpt-4o", 16_384)];
/// Tokens of thinking below which Anthropic takes no budget
/// (<https://platform.claude.com/docs/en/build-with-claude/extended-thinking>).
const THINKING_LEAST: u64 = 1_024;
/// Characters that are told of the name of what was taken out.
pub const NAME_SHOWN: usize = 64;
/// Tokens of an image at most, however few its bytes are: 4,784 for Anthropic's models of the highest resolution,
/// 1,600 for the others (<https://platform.claude.com/docs/en/build-with-claude/vision>).
const IMAGE_TOKENS_ANTHROPIC: u64 = 4_784;
/// The same of OpenAI's: 2,833 and 5,667 for each of 8 tiles with the dearest, gpt-4o-mini
/// (<https://platform.openai.com/docs/guides/images-vision>).
const IMAGE_TOKENS_OPENAI: u64 = 2_833 + 8 * 5_667;

/// Why a body is not sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadBody {
    /// It cannot be read: what is wrong.
    Malformed(String),
    /// It asks for something that does not pass: the field.
    Forbidden(&'static str),
}

/// A body that may be sent on, once its output is bounded.
#[derive(Debug)]
pub struct Request<'a> {
    /// The route that it came by.
    pub api: Api,
    sent: &'a Bytes,
    fields: Fields<'a>,
    changed: bool,
    /// What goes in.
    pub outline: Outline,
    /// The model that it asks for.
    pub model: String,
    /// Whether it wants a stream.
    pub stream: bool,
    /// Whether usage was asked of a Chat stream for our sake only, so that its chunk is to be dropped.
    pub usage_is_ours: bool,
    /// Tools and fields that were taken out.
    pub removed: Vec<String>,
}

impl<'a> Request<'a> {
    /// Reads a body, and takes out what does not pass.
    ///
    /// # Errors
    /// [`BadBody`].
    pub fn read(api: Api, sent: &'a Bytes, hashes: &RandomState) -> Result<Self, BadBody> {
        let malformed = |why: String| BadBody::Malformed(why);
        let mut fields = Fields::read(sent).map_err(|error| malformed(error.to_string()))?;
        let model: String =
            fields.get("model").ok_or_else(|| malformed("model is not a string".to_owned()))?;
        let mut tools = tools::strip(api, &mut fields, hashes).map_err(malformed)?;
        let mut removed = std::mem::take(&mut tools.removed);
        removed.extend(closed_fields(api, &mut fields)?);
        if api == Api::Chat && fields.get::<u64>("n").is_some_and(|n| n > 1) {
            return Err(BadBody::Forbidden("n"));
        }
        let outline = Outline::read(api, &fields, sent.len(), &tools, hashes)?;
        let stream = fields.get("stream").unwrap_or(false);
        let stored = is_stored(api, &fields);
        if stored {
            fields.set("store", &false).map_err(|error| malformed(error.to_string()))?;
        }
        let changed = !removed.is_empty() || stored;
        let mut request =
            Self { api, sent, fields, changed, outline, model, stream, usage_is_ours: false, removed };
        request.ask_for_usage().map_err(|error| malformed(error.to_string()))?;
        Ok(request)
    }

    fn ask_for_usage(&mut self) -> Result<(), serde_json::Error> {
        if self.api != Api::Chat || !self.stream {
            return Ok(());
        }
        let options =
            self.fields.raw("stream_options").filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
        let mut options: Fields<'_> = serde_json::from_str(&options)?;
        if options.get("include_usage") != Some(true) {
            options.set("include_usage", &true)?;
            self.fields.set("stream_options", &options)?;
            self.usage_is_ours = true;
            self.changed = true;
        }
        Ok(())
    }

    /// The field that bounds the output, and what it says.
    fn output_field(&self) -> (&'static str, Option<u64>) {
        let bound = |name| self.fields.get::<u64>(name);
        match self.api {
            Api::Messages | Api::CountTokens => ("max_tokens", bound("max_tokens")),
            Api::Responses => ("max_output_tokens", bound("max_output_tokens")),
            Api::Chat if bound("max_completion_tokens").is_none() && bound("max_tokens").is_some() => {
                ("max_tokens", bound("max_tokens"))
            }
            Api::Chat => ("max_completion_tokens", bound("max_completion_tokens")),
        }
    }

    /// The most tokens that an image of it can be.
    #[must_use]
    pub fn image_tokens(&self) -> u64 {
        match self.api.provider() {
            Provider::Anthropic => IMAGE_TOKENS_ANTHROPIC,
            Provider::OpenAi => IMAGE_TOKENS_OPENAI,
        }
    }

    /// What it may need at most, where no more than `input_bound` tokens go in.
    #[must_use]
    pub fn ask(&self, price: &ModelPrice, input_bound: u64) -> Ask {
        let cap = OUTPUT_CAPS.iter().find(|(prefix, _)| self.model.starts_with(prefix));
        let default = cap.map_or(OUTPUT_DEFAULT, |(_, cap)| *cap);
        let mut rates = price.dearest_up_to(input_bound);
        if self.api.provider() == Provider::Anthropic && !self.may_ask_for_the_long_cache() {
            rates.cache_write_1h = rates.cache_write_5m;
        }
        Ask {
            input_bound,
            output_wanted: self.output_field().1.unwrap_or(default),
            output_floor: OUTPUT_FLOOR + self.thinking_budget().map_or(0, |_| THINKING_LEAST),
            rates,
        }
    }

    /// Whether `"ttl": "1h"` may stand anywhere, in whatever way it is written.
    fn may_ask_for_the_long_cache(&self) -> bool {
        ["\"1h\"", "\\u0031", "\\u0068"]
            .iter()
            .any(|written| memchr::memmem::find(self.sent, written.as_bytes()).is_some())
    }

    /// Anthropic's budget for thinking, which must be less than `max_tokens`.
    fn thinking_budget(&self) -> Option<u64> {
        let thinking: serde_json::Value = self.fields.get("thinking")?;
        thinking["budget_tokens"].as_u64()
    }

    /// Lowers the budget for thinking, so that there is room for an answer beside it.
    fn bound_thinking(&mut self, output_tokens: u64) -> Result<(), serde_json::Error> {
        let Some(raw) = self.fields.raw("thinking").map(str::to_owned) else { return Ok(()) };
        let mut thinking: Fields<'_> = serde_json::from_str(&raw)?;
        thinking.set("budget_tokens", &output_tokens.saturating_sub(OUTPUT_FLOOR).max(THINKING_LEAST))?;
        self.fields.set("thinking", &thinking)
    }

    /// The body to send on, with its output bounded.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn bounded(mut self, output_tokens: u64) -> Result<Bytes, serde_json::Error> {
        let (name, said) = self.output_field();
        if said != Some(output_tokens) {
            self.fields.set(name, &output_tokens)?;
            self.changed = true;
            if self.thinking_budget().is_some_and(|budget| budget >= output_tokens) {
                self.bound_thinking(output_tokens)?;
            }
        }
        self.unbounded()
    }

    /// The body to send on, where nothing is charged for it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn unbounded(self) -> Result<Bytes, serde_json::Error> {
        if self.changed { serde_json::to_vec(&self.fields).map(Bytes::from) } else { Ok(self.sent.clone()) }
    }
}

/// Takes out the fields that do not pass, and names them.
fn closed_fields(api: Api, fields: &mut Fields<'_>) -> Result<Vec<String>, BadBody> {
    let rules = rules::fields(api);
    if let Some(name) = rules.refuse.iter().find(|name| fields.says(name)) {
        return Err(BadBody::Forbidden(name));
    }
    let says_nothing =
        |name: &str| !fields.says(name) && (rules.remove.contains(&name) || rules.refuse.contains(&name));
    let passes = |name: &str| match name {
        // All edits that there are only drop what they name; one that the model writes anew costs another answer.
        "context_management" if api.provider() == Provider::Anthropic => only_clears(fields),
        _ => rules.pass.contains(&name) || says_nothing(name),
    };
    let closed: Vec<String> =
        fields.iter().map(|(name, _)| name).filter(|name| !passes(name)).map(str::to_owned).collect();
    closed.iter().for_each(|name| fields.remove(name));
    Ok(closed.into_iter().map(|name| name.chars().take(NAME_SHOWN).collect()).collect())
}

fn only_clears(fields: &Fields<'_>) -> bool {
    let management: serde_json::Value = fields.get("context_management").unwrap_or_default();
    let clears =
        |edit: &serde_json::Value| edit["type"].as_str().is_some_and(|kind| kind.starts_with("clear_"));
    management["edits"].as_array().is_none_or(|edits| edits.iter().all(clears))
}

/// Whether the provider would keep the answer. Responses does where nothing is said.
fn is_stored(api: Api, fields: &Fields<'_>) -> bool {
    match (api, fields.raw("store")) {
        (Api::Responses, said) => said != Some("false"),
        (Api::Chat, Some(said)) => !matches!(said, "false" | "null"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
