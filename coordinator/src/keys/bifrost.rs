//! Virtual keys of a Bifrost, over its governance API: <https://docs.getbifrost.ai/features/governance/virtual-keys>.

use std::time::Duration;

use protocol::{
    Secret, TaskId, Usd,
    keys::{KeyUsage, MintKey},
    settings,
};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// How long it may take for any answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Over every attempt's end: a budget that began anew would be none.
const NEVER: &str = "1Y";
/// Keys of one search. A task has few attempts.
const FEW: &str = "100";

/// A client of its governance API.
#[derive(Clone)]
pub(super) struct Bifrost {
    settings: settings::Bifrost,
    client: reqwest::Client,
    /// What all names of this coordinator's keys begin with: others may keep keys there too.
    prefix: String,
}

/// A key as it is told.
#[derive(Deserialize)]
struct VirtualKey {
    id: String,
    name: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    is_active: bool,
    #[serde(default)]
    budgets: Vec<Budget>,
}

#[derive(Deserialize)]
struct Budget {
    #[serde(default)]
    current_usage: f64,
}

#[derive(Deserialize)]
struct One {
    virtual_key: VirtualKey,
}

#[derive(Deserialize)]
struct Many {
    #[serde(default)]
    virtual_keys: Vec<VirtualKey>,
}

impl VirtualKey {
    fn spent(&self) -> Usd {
        self.budgets.iter().map(|budget| usd(budget.current_usage)).fold(Usd::ZERO, Usd::saturating_add)
    }
}

fn value(key: &VirtualKey) -> Result<Secret, String> {
    match key.value.as_str() {
        "" => Err(format!("Bifrost does not tell the value of its key {}", key.name)),
        value => Ok(Secret::new(value)),
    }
}

/// Dollars as a floating-point number, which is all that it tells.
fn usd(dollars: f64) -> Usd {
    // What is no amount was not spent.
    format!("{:.9}", dollars.max(0.0)).parse().unwrap_or(Usd::ZERO)
}

impl Bifrost {
    /// A client with this coordinator's id. Nothing is connected yet.
    pub(super) fn new(settings: settings::Bifrost, id: &str) -> Result<Self, String> {
        let client = reqwest::Client::builder().timeout(ANSWER).no_proxy().build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { settings, client, prefix: format!("code-workers-{id}/") })
    }

    /// The key of an attempt: the one that is there, or a new one.
    pub(super) async fn mint(&self, wanted: &MintKey) -> Result<Secret, String> {
        let name = self.name(&wanted.task, wanted.attempt);
        let keys = self.of_task(&wanted.task).await?;
        if let Some(key) = keys.iter().find(|key| key.name == name) {
            if !key.is_active {
                // Swept while its task waited again: an attempt that has ended is never given a key.
                self.set_active(key, true).await?;
            }
            return value(key);
        }
        let spent = keys.iter().map(VirtualKey::spent).fold(Usd::ZERO, Usd::saturating_add);
        let left = wanted.budget_usd.saturating_sub(spent);
        let made: One = self.call(Method::POST, "", &[], Some(self.request(&name, left, wanted)?)).await?;
        value(&made.virtual_key)
    }

    fn request(&self, name: &str, budget: Usd, wanted: &MintKey) -> Result<Value, String> {
        let dollars: f64 = budget.to_string().parse().map_err(|error| format!("{budget}: {error}"))?;
        let limits = &wanted.limits;
        let models = if limits.models.is_empty() { vec!["*".to_owned()] } else { limits.models.clone() };
        let providers = self.settings.providers.iter();
        let providers: Vec<_> = providers
            .map(|provider| json!({"provider": provider, "weight": 1.0, "allowed_models": models, "key_ids": ["*"]}))
            .collect();
        let mut body = json!({
            "name": name,
            "description": format!("{} of {}, by code-workers", wanted.task, wanted.queue),
            "provider_configs": providers,
            "budgets": [{"max_limit": dollars, "reset_duration": NEVER}],
            "is_active": true,
            "expires_at": wanted.expires_at,
        });
        let mut rates = json!({});
        if let Some(requests) = limits.requests_per_minute {
            rates["request_max_limit"] = requests.into();
            rates["request_reset_duration"] = "1m".into();
        }
        if let Some(tokens) = limits.tokens_per_minute {
            rates["token_max_limit"] = tokens.into();
            rates["token_reset_duration"] = "1m".into();
        }
        if rates != json!({}) {
            body["rate_limit"] = rates;
        }
        Ok(body)
    }

    /// Makes an attempt's key inactive, and tells what all keys of the task have spent.
    pub(super) async fn revoke(&self, task: &TaskId, attempt: u32) -> Result<KeyUsage, String> {
        let name = self.name(task, attempt);
        let keys = self.of_task(task).await?;
        for key in keys.iter().filter(|key| key.name == name && key.is_active) {
            self.set_active(key, false).await?;
        }
        let spent_usd = keys.iter().map(VirtualKey::spent).fold(Usd::ZERO, Usd::saturating_add);
        Ok(KeyUsage { spent_usd, ..KeyUsage::default() })
    }

    /// Makes this coordinator's keys inactive whose attempt `lives` does not know.
    pub(super) async fn sweep(&self, lives: impl Fn(&TaskId, u32) -> bool) -> Result<(), String> {
        let keys: Many = self.call(Method::GET, "", &[], None).await?;
        for key in keys.virtual_keys.iter().filter(|key| key.is_active) {
            if let Some((task, attempt)) = self.attempt(&key.name)
                && !lives(&task, attempt)
            {
                tracing::warn!(%task, attempt, "a key of Bifrost's was left over");
                self.set_active(key, false).await?;
            }
        }
        Ok(())
    }

    async fn set_active(&self, key: &VirtualKey, active: bool) -> Result<(), String> {
        let body = Some(json!({"is_active": active}));
        self.call::<Value>(Method::PUT, &format!("/{}", key.id), &[], body).await.map(|_| ())
    }

    fn name(&self, task: &TaskId, attempt: u32) -> String {
        format!("{}{task}/{attempt}", self.prefix)
    }

    fn attempt(&self, name: &str) -> Option<(TaskId, u32)> {
        let (task, attempt) = name.strip_prefix(&self.prefix)?.rsplit_once('/')?;
        Some((task.parse().ok()?, attempt.parse().ok()?))
    }

    async fn of_task(&self, task: &TaskId) -> Result<Vec<VirtualKey>, String> {
        let search = format!("{}{task}/", self.prefix);
        let query = [("search", search.as_str()), ("limit", FEW)];
        let mut keys: Many = self.call(Method::GET, "", &query, None).await?;
        keys.virtual_keys.retain(|key| self.attempt(&key.name).is_some_and(|(of, _)| of == *task));
        Ok(keys.virtual_keys)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<T, String> {
        let at = self.settings.address;
        let url = format!("http://{at}/api/governance/virtual-keys{path}");
        let password = self.settings.password.as_ref().map(Secret::expose);
        let mut request =
            self.client.request(method, url).basic_auth(&self.settings.user, password).query(query);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| {
            let why = if error.is_timeout() { "it does not answer" } else { "it cannot be reached" };
            format!("Bifrost at {at}: {why}: see that it runs, and that bifrost.url is right")
        })?;
        match answer.status() {
            status if status.is_success() => {
                answer.json().await.map_err(|_| format!("Bifrost at {at} answered with what is no key"))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(format!(
                "Bifrost at {at} refused bifrost.user and BIFROST_PASSWORD: see that they are right"
            )),
            status => {
                let told: String = answer.text().await.unwrap_or_default().chars().take(300).collect();
                Err(format!("Bifrost at {at} answered {status}: {told}"))
            }
        }
    }
}
