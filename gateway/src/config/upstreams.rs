//! Where models are, and the keys for them.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use http::Uri;
use protocol::{
    Secret,
    settings::{Key, Settings},
};

use crate::{
    provider::Provider,
    upstream::{Credential, Upstream, Upstreams},
};

/// The names of one provider's settings.
struct Names {
    url: Key,
    key_env: Key,
    key_file: Key,
    key: Key,
    more: Key,
    default_url: &'static str,
}

const ANTHROPIC: Names = Names {
    url: Key::ANTHROPIC_URL,
    key_env: Key::ANTHROPIC_KEY_ENV,
    key_file: Key::ANTHROPIC_KEY_FILE,
    key: Key::ANTHROPIC_KEY,
    more: Key::ANTHROPIC_MORE,
    default_url: "https://api.anthropic.com",
};
const OPENAI: Names = Names {
    url: Key::OPENAI_URL,
    key_env: Key::OPENAI_KEY_ENV,
    key_file: Key::OPENAI_KEY_FILE,
    key: Key::OPENAI_KEY,
    more: Key::OPENAI_MORE,
    default_url: "https://api.openai.com",
};

/// The upstreams of a provider, in the order in which they are tried.
pub(super) fn read(settings: &mut Settings, provider: Provider) -> Upstreams {
    let names = match provider {
        Provider::Anthropic => ANTHROPIC,
        Provider::OpenAi => OPENAI,
    };
    let said = settings.or(&names.url, names.default_url.to_owned());
    let base_url = base_url(&said).unwrap_or_else(|why| {
        let (env, file) = (names.url.env.unwrap_or_default(), names.url.file.unwrap_or_default());
        settings.fault(format!("{env} or {file}: {why}"));
        names.default_url.to_owned()
    });
    let key_name = settings.or(&names.key_env, names.key.env.unwrap_or_default().to_owned());
    let file: Option<String> = settings.optional(&names.key_file);
    let mut credential = credential(settings, &key_name, file.as_deref(), false);
    let token_name = Key::ANTHROPIC_TOKEN.env.unwrap_or_default();
    if provider == Provider::Anthropic && credential.is_none() && settings.variable(token_name).is_some() {
        credential = self::credential(settings, token_name, None, true);
    }
    let key_name = file.unwrap_or(key_name);
    let first = Upstream { provider, base_url, credential, key_name };
    let more = more(settings, provider, &names);
    Upstreams::new(first, more)
}

fn more(settings: &mut Settings, provider: Provider, names: &Names) -> Vec<Upstream> {
    let name = names.more.file.unwrap_or_default();
    let entries = settings.tables(&names.more);
    let mut upstreams = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        match one_more(settings, provider, names, entry) {
            Ok(upstream) => upstreams.push(upstream),
            Err(why) => settings.fault(format!("[[{name}]], number {}: {why}", at + 1)),
        }
    }
    upstreams
}

fn one_more(
    settings: &mut Settings,
    provider: Provider,
    names: &Names,
    entry: &toml::Table,
) -> Result<Upstream, String> {
    const KNOWN: [&str; 4] = ["base_url", "api_key_env", "api_key_file", "bearer"];
    if let Some(unknown) = entry.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(format!("{unknown} is not one of {}", KNOWN.join(", ")));
    }
    let text = |name: &str| match entry.get(name) {
        None => Ok(None),
        Some(toml::Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{name} is not a string")),
    };
    let base_url = base_url(&text("base_url")?.unwrap_or_else(|| names.default_url.to_owned()))?;
    let bearer = match entry.get("bearer") {
        None => false,
        Some(said) => said.as_bool().ok_or("bearer is not true or false")?,
    };
    let (variable, file) = (text("api_key_env")?, text("api_key_file")?);
    let key_name = file.clone().or_else(|| variable.clone()).unwrap_or_default();
    let credential = credential(settings, &variable.unwrap_or_default(), file.as_deref(), bearer);
    let upstream = Upstream { provider, base_url, credential, key_name };
    if upstream.is_usable() {
        Ok(upstream)
    } else if upstream.key_name.is_empty() {
        Err("it has neither api_key_env nor api_key_file".to_owned())
    } else {
        Err(format!("{} holds no key", upstream.key_name))
    }
}

/// The key of a file, or else of a variable.
fn credential(
    settings: &mut Settings,
    variable: &str,
    file: Option<&str>,
    bearer: bool,
) -> Option<Credential> {
    let (name, key) = match file {
        Some(path) => (path, key_file(Path::new(path)).map_err(|why| settings.fault(why)).ok()),
        None => (variable, settings.variable(variable)),
    };
    let key = key?;
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        settings.fault(format!(
            "{name}: is not usable as a key: it is empty, or holds spaces or control characters"
        ));
        return None;
    }
    let key = Secret::new(key);
    Some(if bearer { Credential::Bearer(key) } else { Credential::ApiKey(key) })
}

/// A file's key, if nobody but its owner may read it.
fn key_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!("api_key_file: {shown} is not an absolute path"));
    }
    let unreadable = |error| format!("api_key_file: {shown} cannot be read: {error}");
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(format!("api_key_file: {shown} is no file"));
    }
    if about.mode() & 0o077 != 0 {
        return Err(format!("api_key_file: others may read {shown}: chmod 600 it"));
    }
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(unreadable)
}

/// A base URL without its end: clients write it with `/v1` or without.
fn base_url(said: &str) -> Result<String, String> {
    let base = said.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
    let uri: Uri = base.parse().map_err(|error| format!("{said:?} is not a URL: {error}"))?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().is_some_and(|at| !at.host().is_empty() && !at.as_str().contains('@'));
    if !known || !host || uri.query().is_some() {
        return Err(format!("{said:?} is not of the form http://HOST[:PORT][/PATH] or https://…"));
    }
    Ok(base.to_owned())
}
