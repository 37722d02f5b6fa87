//! `provider/model` → what the CLI wants.

use serde::Deserialize;

/// Which models an agent takes, and how it wants them named.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRules {
    /// Used where the task names none: `provider/model`.
    default: String,
    /// The providers that it can be used with.
    providers: Vec<String>,
    /// What `{model}` is.
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// `provider/model`
    Full,
    /// `model`
    Name,
}

/// A model that an agent takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// As the CLI wants it.
    pub cli: String,
    /// Its provider.
    pub provider: String,
    /// Without its provider.
    pub name: String,
}

/// A model that an agent does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this agent has no use for {asked:?}: name a model of {providers}, such as {default}")]
pub struct ModelError {
    asked: String,
    providers: String,
    default: String,
}

impl ModelRules {
    /// What a task's model is for this agent. A name without a `/` is one of the default's provider.
    ///
    /// # Errors
    /// [`ModelError`], for another provider's.
    pub fn model(&self, asked: Option<&str>) -> Result<Model, ModelError> {
        let asked = asked.unwrap_or(&self.default);
        let own = self.default.split_once('/').map_or("", |(provider, _)| provider);
        let (provider, name) = asked.split_once('/').unwrap_or((own, asked));
        if name.is_empty() || !self.providers.iter().any(|known| known == provider) {
            return Err(ModelError {
                asked: asked.to_owned(),
                providers: self.providers.join(" or "),
                default: self.default.clone(),
            });
        }
        let cli = match self.form {
            Form::Full => format!("{provider}/{name}"),
            Form::Name => name.to_owned(),
        };
        Ok(Model { cli, provider: provider.to_owned(), name: name.to_owned() })
    }

    pub(super) fn faults(&self) -> Vec<String> {
        let good = self.default.contains('/') && self.model(None).is_ok();
        if good {
            Vec::new()
        } else {
            vec![format!("model.default: {:?} is not PROVIDER/MODEL of model.providers", self.default)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_as_the_cli_wants_them() {
        let rules = |form| ModelRules {
            default: "anthropic/claude-sonnet-4-5".into(),
            providers: vec!["anthropic".into(), "openai".into()],
            form,
        };
        assert_eq!(rules(Form::Full).model(None).unwrap().cli, "anthropic/claude-sonnet-4-5");
        let codex = rules(Form::Name).model(Some("openai/gpt-5.1-codex")).unwrap();
        assert_eq!((codex.cli.as_str(), codex.provider.as_str()), ("gpt-5.1-codex", "openai"));
        assert_eq!(
            rules(Form::Full).model(Some("claude-opus-4-5")).unwrap().cli,
            "anthropic/claude-opus-4-5"
        );
        assert!(rules(Form::Full).model(Some("mistral/x")).unwrap_err().to_string().contains("mistral/x"));
    }
}
