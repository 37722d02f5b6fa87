//! Every setting there is. `docs/configuration.md` is checked against this list.

/// A setting: its variable, its name in the configuration file, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its environment variable.
    pub env: Option<&'static str>,
    /// Its dotted name in `config.toml`; `x.*` is a table whose names are the user's.
    pub file: Option<&'static str>,
    /// Whether its value must not be shown.
    pub secret: bool,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $env:expr, $file:expr $(, $secret:ident)?;)+) => {
        $($(#[$doc])* pub const $name: Key = Key { env: $env, file: $file, secret: settings!(@ $($secret)?) };)+
        /// All of them.
        pub const ALL: &[Self] = &[$(Self::$name),+];
    };
    (@ secret) => { true };
    (@) => { false };
}

/// Names of the settings.
impl Key {
    settings! {
        /// The owner's key: opens the owner's side of the coordinator.
        OWNER_KEY = Some("FORTRESS_API_KEY"), None, secret;
        /// Where the coordinator listens for its owner. Loopback only.
        COORDINATOR_BIND = Some("COORDINATOR_BIND"), Some("coordinator.bind");
        /// Where clients find the coordinator: `http://HOST:PORT` or `unix:///PATH`.
        COORDINATOR_URL = Some("COORDINATOR_URL"), Some("coordinator.url");
        /// Where the gateway listens. Loopback only.
        GATEWAY_BIND = Some("GATEWAY_BIND"), Some("gateway.bind");
        /// Anthropic's API, or one that speaks it.
        ANTHROPIC_URL = Some("ANTHROPIC_UPSTREAM_URL"), Some("upstream.anthropic.base_url");
        /// The variable that holds its key.
        ANTHROPIC_KEY_ENV = None, Some("upstream.anthropic.api_key_env");
        /// The file that holds its key, instead of a variable.
        ANTHROPIC_KEY_FILE = None, Some("upstream.anthropic.api_key_file");
        /// Others that are tried, in their order, when the first cannot be reached.
        ANTHROPIC_MORE = None, Some("upstream.anthropic.more");
        /// OpenAI's API, or one that speaks it.
        OPENAI_URL = Some("OPENAI_UPSTREAM_URL"), Some("upstream.openai.base_url");
        /// The variable that holds its key.
        OPENAI_KEY_ENV = None, Some("upstream.openai.api_key_env");
        /// The file that holds its key, instead of a variable.
        OPENAI_KEY_FILE = None, Some("upstream.openai.api_key_file");
        /// Others that are tried, in their order, when the first cannot be reached.
        OPENAI_MORE = None, Some("upstream.openai.more");
        /// Anthropic's key, unless `upstream.anthropic.api_key_env` names another variable.
        ANTHROPIC_KEY = Some("ANTHROPIC_API_KEY"), None, secret;
        /// OpenAI's key, unless `upstream.openai.api_key_env` names another variable.
        OPENAI_KEY = Some("OPENAI_API_KEY"), None, secret;
        /// Who makes the keys of tasks: `builtin`, `bifrost` or `env`.
        KEY_SOURCE = Some("CODE_WORKERS_KEY_SOURCE"), Some("key_source");
        /// Where a Bifrost listens. Loopback only.
        BIFROST_URL = None, Some("bifrost.url");
        /// The user of its governance API.
        BIFROST_USER = None, Some("bifrost.user");
        /// That user's password. Only the coordinator reads it.
        BIFROST_PASSWORD = Some("BIFROST_PASSWORD"), None, secret;
        /// The providers that keys may use, as Bifrost names them.
        BIFROST_PROVIDERS = None, Some("bifrost.providers");
        /// A bearer token for Anthropic's API, where there is no key.
        ANTHROPIC_TOKEN = Some("ANTHROPIC_AUTH_TOKEN"), None, secret;
        /// Prices of models that the bundled table lacks, or has wrong: USD for a million tokens.
        PRICES = None, Some("price.*");
        /// What all may spend on a day (UTC) where the owner has set nothing: decimal USD.
        DAY_BUDGET = Some("CODE_WORKERS_DAY_BUDGET_USD"), Some("budget.day_usd");
        /// What a repository may spend on a day where the owner has set nothing.
        REPO_DAY_BUDGET = Some("CODE_WORKERS_REPO_DAY_BUDGET_USD"), Some("budget.repo_day_usd");
        /// What a task may spend where it does not say: decimal USD.
        TASK_BUDGET = Some("CODE_WORKERS_TASK_BUDGET_USD"), Some("task.budget_usd");
        /// Requests in any minute of one attempt's key.
        TASK_REQUESTS = None, Some("task.requests_per_minute");
        /// Tokens in any minute of one attempt's key, in and out.
        TASK_TOKENS = None, Some("task.tokens_per_minute");
        /// Requests at once of one attempt's key.
        TASK_CONCURRENT = None, Some("task.concurrent_requests");
        /// Models that tasks may ask, `*` standing for anything.
        TASK_MODELS = None, Some("task.models");
        /// The agent of tasks that name none.
        TASK_AGENT = Some("CODE_WORKERS_AGENT"), Some("task.agent");
        /// Tasks of all queues that may be leased or running at once; 0 for as many as there are workers.
        MAX_RUNNING = Some("CODE_WORKERS_MAX_RUNNING"), Some("limits.max_running");
        /// Days that an ended task is kept; 0 for ever.
        KEEP_TASKS = None, Some("retention.tasks_days");
        /// Days that an ended task's output is kept; 0 for as long as the task.
        KEEP_OUTPUT = None, Some("retention.output_days");
        /// Days that an ended task's artifacts are kept; 0 for as long as the task.
        KEEP_ARTIFACTS = None, Some("retention.artifacts_days");
        /// Seconds that tasks may still run after a launcher was told to stop.
        DRAIN = Some("CODE_WORKERS_DRAIN_S"), Some("launcher.drain_s");
        /// How sandboxes are stood up: `gvisor`, `docker`, `fortress`, `none`.
        SANDBOX_KIND = Some("CODE_WORKERS_SANDBOX"), Some("sandbox.kind");
        /// The root file system of sandboxes: an image's name.
        SANDBOX_IMAGE = Some("CODE_WORKERS_IMAGE"), Some("sandbox.image");
        /// What Docker's daemon calls its runsc.
        DOCKER_RUNTIME = None, Some("docker.runtime");
        /// The internal network of Docker that sandboxes join, where they have one.
        DOCKER_NETWORK = None, Some("docker.network");
        /// The launcher of an AI Fortress, where it is not `~/bin/agent`.
        FORTRESS_AGENT = None, Some("fortress.agent");
        /// The runsc binary, where it is not the one on PATH.
        RUNSC = Some("CODE_WORKERS_RUNSC"), Some("sandbox.runsc");
        /// MiB of memory of one sandbox.
        SANDBOX_MEMORY = None, Some("sandbox.memory_mb");
        /// MiB of `/work` in one sandbox.
        SANDBOX_WORK = None, Some("sandbox.work_mb");
        /// Files and folders in `/work` of one sandbox.
        SANDBOX_FILES = None, Some("sandbox.work_files");
        /// MiB of `/tmp` in one sandbox; it counts as memory.
        SANDBOX_TMP = None, Some("sandbox.tmp_mb");
        /// MiB of a program's output that are kept as its log.
        SANDBOX_OUTPUT = None, Some("sandbox.output_mb");
        /// Processes and threads of the agent.
        SANDBOX_PROCESSES = None, Some("sandbox.processes");
        /// Host folders that are mounted read-only at the same path, such as a toolchain in a home folder.
        SANDBOX_TOOLCHAINS = None, Some("sandbox.toolchains");
        /// Of one repository: `caches`, host folders that its sandboxes read.
        REPO = None, Some("repo.*");
        /// A folder of agent files that stand before the built-in ones.
        AGENT_FILES = Some("CODE_WORKERS_AGENT_FILES"), Some("agents.files");
        /// `json` for logs that machines read.
        LOG_FORMAT = Some("LOG_FORMAT"), None;
    }
}
