//! The coordinator's configuration, parsed whole before anything binds.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
};

use jiff::{SignedDuration, Timestamp};
use protocol::{
    Secret, Usd,
    folders::Folders,
    keys::KeyLimits,
    settings::{Faults, Key, KeySource, Settings, Sources},
};

/// What a task may spend unless it, or the configuration, says: 5 USD.
const TASK_BUDGET: Usd = Usd::from_nanos(5_000_000_000);

/// What the coordinator is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Opens the owner's side.
    pub owner_key: Secret,
    /// The owner's TCP address; loopback.
    pub bind: SocketAddr,
    /// Where everything lies.
    pub folders: Folders,
    /// What a task may spend where it does not say.
    pub task_budget: Usd,
    /// What else limits the keys of tasks.
    pub key_limits: KeyLimits,
    /// Who makes the keys of tasks.
    pub key_source: KeySource,
    /// Tasks of all queues that may be leased or running at once; 0 for no limit.
    pub max_running: u32,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// Logs for machines.
    pub json_logs: bool,
}

/// How long what has ended is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Tasks, with all that belongs to them.
    pub tasks: Days,
    /// Output; with the task at the latest.
    pub output: Days,
    /// Artifacts; with the task at the latest.
    pub artifacts: Days,
}

/// A number of days; 0 for ever.
#[derive(Debug, Clone, Copy)]
pub struct Days(pub u32);

impl Days {
    /// What ended up to this time has been kept for long enough; `None`: nothing has.
    #[must_use]
    pub fn before(self, now: Timestamp) -> Option<Timestamp> {
        let span = SignedDuration::from_hours(24 * i64::from(self.0));
        (self.0 > 0).then(|| now.checked_sub(span).unwrap_or(Timestamp::MIN))
    }
}

impl Config {
    /// Understands the sources.
    ///
    /// # Errors
    /// Every fault at once, each with its remedy.
    pub fn parse(sources: Sources, folders: Folders) -> Result<Self, Faults> {
        let mut settings = Settings::new(sources);
        let owner_key = settings.optional::<Secret>(&Key::OWNER_KEY).unwrap_or_else(|| {
            settings.fault(
                "FORTRESS_API_KEY is not set: it is the owner's key. `code-workers up` makes one; or put \
                 FORTRESS_API_KEY=<32 random hex digits> into .env beside the configuration file",
            );
            Secret::new("")
        });
        if !owner_key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            settings
                .fault("FORTRESS_API_KEY: use visible ASCII characters only, since it travels in a header");
        }
        let bind = settings.coordinator_bind();
        let task_budget = settings.or(&Key::TASK_BUDGET, TASK_BUDGET);
        let key_source = settings.key_source();
        if matches!(&key_source, KeySource::Bifrost(bifrost) if bifrost.password.is_none()) {
            settings.fault(
                "BIFROST_PASSWORD is not set: it is the password of bifrost.user; put it into the environment, into \
                 .env beside the configuration file, or into the service's credentials",
            );
        }
        let key_limits = key_limits(&mut settings, &key_source);
        let max_running = settings.or(&Key::MAX_RUNNING, 0);
        let mut days = |key, usual: u32| Days(settings.or(key, usual));
        let retention = Retention {
            tasks: days(&Key::KEEP_TASKS, 90),
            output: days(&Key::KEEP_OUTPUT, 30),
            artifacts: days(&Key::KEEP_ARTIFACTS, 30),
        };
        let json_logs = settings.json_logs();
        settings.finish(Self {
            owner_key,
            bind,
            folders,
            task_budget,
            key_limits,
            key_source,
            max_running,
            retention,
            json_logs,
        })
    }
}

fn key_limits(settings: &mut Settings, source: &KeySource) -> KeyLimits {
    let limits = KeyLimits {
        requests_per_minute: settings.optional::<NonZeroU32>(&Key::TASK_REQUESTS).map(NonZeroU32::get),
        tokens_per_minute: settings.optional::<NonZeroU64>(&Key::TASK_TOKENS).map(NonZeroU64::get),
        concurrent: settings.optional::<NonZeroU32>(&Key::TASK_CONCURRENT).map(NonZeroU32::get),
        models: settings.list(&Key::TASK_MODELS),
    };
    let beyond = limits.concurrent.is_some() || limits.models.iter().any(|model| model.contains('*'));
    if matches!(source, KeySource::Bifrost(_)) && beyond {
        settings.fault("key_source = \"bifrost\" knows no task.concurrent_requests, and no * in task.models");
    }
    if *source == KeySource::Env && limits != KeyLimits::default() {
        settings.fault("key_source = \"env\": limits in [task] have no use for keys that are not made here");
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::Config;
    use protocol::{folders::Folders, settings::Sources};
    use std::collections::BTreeMap;

    fn parse(pairs: &[(&str, &str)]) -> Result<Config, protocol::settings::Faults> {
        let environment: BTreeMap<_, _> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let folders = Folders::from_env(&[("HOME".to_owned(), "/h".to_owned())].into()).unwrap();
        Config::parse(Sources { environment, ..Sources::default() }, folders)
    }

    #[test]
    fn a_key_is_all_it_needs() {
        let config = parse(&[("FORTRESS_API_KEY", "k")]).unwrap();
        assert_eq!(config.bind.to_string(), "127.0.0.1:7222");
        assert_eq!(config.task_budget.to_string(), "5.00");
        assert!(!config.json_logs);
    }

    #[test]
    fn limits_that_a_gateway_does_not_know_are_faults() {
        let file = |text: &str| {
            let environment = [("FORTRESS_API_KEY", "k"), ("BIFROST_PASSWORD", "p")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()));
            let folders = Folders::from_env(&[("HOME".to_owned(), "/h".to_owned())].into()).unwrap();
            let file = Some(("config.toml".into(), text.to_owned()));
            Config::parse(Sources { environment: environment.into(), file, ..Sources::default() }, folders)
        };
        let limits = "[task]\nrequests_per_minute = 30\ntokens_per_minute = 9\nmodels = ['claude-*']";
        let config = file(limits).unwrap();
        assert_eq!((config.key_limits.requests_per_minute, config.key_limits.concurrent), (Some(30), None));
        assert_eq!(config.key_limits.models, ["claude-*"]);
        for text in [
            format!("key_source = 'env'\n{limits}"),
            format!("key_source = 'bifrost'\n{limits}\n[bifrost]\nurl = 'http://127.0.0.1:1'"),
            "[task]\nconcurrent_requests = 0".to_owned(),
        ] {
            assert!(file(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_fault_is_named_and_no_key_shown() {
        let faults = parse(&[("COORDINATOR_BIND", "0.0.0.0:7222"), ("CODE_WORKERS_TASK_BUDGET_USD", "x")]);
        let text = faults.unwrap_err().to_string();
        for name in ["FORTRESS_API_KEY", "COORDINATOR_BIND", "CODE_WORKERS_TASK_BUDGET_USD"] {
            assert!(text.contains(name), "{name} in {text}");
        }
        let text = parse(&[("FORTRESS_API_KEY", "se cret")]).unwrap_err().to_string();
        assert!(text.contains("visible ASCII") && !text.contains("se cret"), "{text}");
    }
}
