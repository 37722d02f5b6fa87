//! `{name}` in an agent file's texts.

/// What stands for the placeholders of one run.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// `{prompt}`
    pub prompt: String,
    /// `{prompt_file}`
    pub prompt_file: String,
    /// `{model}`: as the CLI wants it.
    pub model: String,
    /// `{model_name}`: without the provider.
    pub model_name: String,
    /// `{provider}`
    pub provider: String,
    /// `{gateway}`: `http://HOST:PORT`.
    pub gateway: String,
    /// `{home}`
    pub home: String,
    /// `{key}`: the virtual key.
    pub key: String,
}

/// Where a text stands, which decides what may stand in it and how values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An argument.
    Args,
    /// A variable of the environment.
    Env,
    /// The content of a file.
    File,
}

const NAMES: [&str; 8] =
    ["prompt", "prompt_file", "model", "model_name", "provider", "gateway", "home", "key"];

impl Values {
    fn get(&self, name: &str) -> Option<&str> {
        let values = [
            &self.prompt,
            &self.prompt_file,
            &self.model,
            &self.model_name,
            &self.provider,
            &self.gateway,
            &self.home,
            &self.key,
        ];
        NAMES.iter().zip(values).find(|(known, _)| **known == name).map(|(_, value)| value.as_str())
    }

    /// The text with its placeholders replaced, once: what stands in a value is never a placeholder.
    #[must_use]
    pub fn fill(&self, text: &str, place: Place) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next(rest) {
            filled.push_str(before);
            match self.get(name) {
                Some(value) if place == Place::File => filled.push_str(&escaped(value)),
                Some(value) => filled.push_str(value),
                None => filled.push_str(rest.get(before.len()..rest.len() - after.len()).unwrap_or_default()),
            }
            rest = after;
        }
        filled + rest
    }
}

/// Names that are not known, and a key where it must not stand.
pub(super) fn faults(text: &str, place: Place) -> Vec<String> {
    let (mut faults, mut rest) = (Vec::new(), text);
    while let Some((_, name, after)) = next(rest) {
        if !NAMES.contains(&name) {
            faults.push(format!("{{{name}}} is not a placeholder: there are {{{}}}", NAMES.join("} {")));
        } else if name == "key" && place != Place::Env {
            faults.push("{key} may stand in env alone: arguments and files can be read by others".to_owned());
        } else if name.starts_with("prompt") && place == Place::File {
            faults.push(format!("{{{name}}} may not stand in a file of the configuration"));
        }
        rest = after;
    }
    faults
}

/// The text before the next `{name}`, the name, and the text after. A brace before anything else is just a
/// brace: JSON is full of them.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices('{').find_map(|(at, _)| {
        let (name, after) = text.get(at + 1..)?.split_once('}')?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_name.then(|| (text.get(..at).unwrap_or_default(), name, after))
    })
}

fn escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_once_and_escaped_in_files() {
        let values = Values { prompt: "say {key} \"x\"".into(), key: "sk".into(), ..Values::default() };
        assert_eq!(values.fill("a {prompt} b", Place::Args), "a say {key} \"x\" b");
        assert_eq!(values.fill(r#"{"p":"{prompt}"}"#, Place::File), r#"{"p":"say {key} \"x\""}"#);
        assert_eq!(values.fill("{env:KEY} {} {", Place::File), "{env:KEY} {} {");
    }

    #[test]
    fn typing_errors_and_misplaced_keys_are_named() {
        assert!(faults("{modle}", Place::Args)[0].contains("modle"));
        assert!(faults("{key}", Place::Args)[0].contains("env"));
        assert!(faults("{key}", Place::Env).is_empty());
        assert_eq!(faults("{key}{prompt}", Place::File).len(), 2);
    }
}
