//! The real agent CLIs, each writing a file through a recorded tool call, also one that was recorded from another.
//!
//! `CODE_WORKERS_AGENTS` names the folder that holds them, as one npm prefix each
//! (`claude/node_modules/.bin/claude`) or as programs side by side. What is absent is named and skipped; when
//! `CI` is `true` it is an error.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use recorded_model::log::RequestLog;
use serde_json::json;
use support::{Model, Recorder, lines, soon};
use tempfile::TempDir;
use tokio::process::Command;

const PROMPT: &str = "Write hello.txt.";

/// A place in which an agent works, with a model that makes it write `hello.txt`.
struct Stage {
    folder: TempDir,
    model: Model,
    agent: PathBuf,
}

impl Stage {
    async fn set(agent: &str) -> Option<Self> {
        let agent = find(agent)?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let log = RequestLog::open(&folder.path().join("log"), false).unwrap();
        let model = Model::start_with(&turns(&folder.path().join("work")), log).await;
        Some(Self { folder, model, agent })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.agent);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.path("home"));
        command.current_dir(self.path("work")).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Puts a recorder before the model, and tells its file.
    async fn record(&mut self) -> PathBuf {
        let file = self.path("recorded.toml");
        self.model.url = Recorder::start(&file, &self.model.url).await.url;
        file
    }

    /// Puts a model that plays this file in the model's place, and takes back what was done.
    async fn play_instead(&mut self, file: &Path) {
        fs::remove_file(self.path("work/hello.txt")).unwrap();
        fs::remove_file(self.path("log")).unwrap();
        let log = RequestLog::open(&self.path("log"), false).unwrap();
        self.model = Model::start_with(&fs::read_to_string(file).unwrap(), log).await;
    }

    /// Runs the agent to its end: it exits 0, has written the file, and tells the last words.
    async fn play(&self, mut command: Command, route: &str) {
        let output = soon(command.output()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}\n{complained}");
        assert_eq!(fs::read_to_string(self.path("work/hello.txt")).unwrap(), "hello\n", "{told}");
        assert!(told.contains("The file is there."), "{told}");
        let requests = lines(&self.path("log"));
        assert!(requests.iter().filter(|request| request["route"] == route).count() >= 2, "{requests:?}");
    }
}

fn find(agent: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CODE_WORKERS_AGENTS").map(PathBuf::from);
    let found = folder.and_then(|folder| {
        let places = [folder.join(agent), folder.join(agent).join("node_modules/.bin").join(agent)];
        places.into_iter().find(|path| path.is_file())
    });
    if found.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CODE_WORKERS_AGENTS names no folder with {agent}"
        );
        eprintln!("skipped: {agent} is not in the folder that CODE_WORKERS_AGENTS names");
    }
    found
}

fn turns(work: &Path) -> String {
    let path = work.join("hello.txt");
    let path = path.display();
    format!(
        r#"
        [[turn]]
        text = "I will write the file."
        usage = {{ input = 1200, output = 80 }}
        [[turn.tool]]
        name = "Write"
        input = {{ file_path = "{path}", content = "hello\n" }}
        [[turn.tool.or]]
        name = "write"
        input = {{ filePath = "{path}", content = "hello\n" }}
        [[turn.tool.or]]
        name = "bash"
        input = {{ command = "echo hello > hello.txt", description = "Write the file" }}
        [[turn.tool.or]]
        name = "exec_command"
        input = {{ cmd = "echo hello > hello.txt" }}

        [[turn]]
        text = "The file is there."
        usage = {{ input = 1400, output = 12 }}
        "#
    )
}

fn claude(stage: &Stage) -> Command {
    let mut command = stage.command();
    command
        .env("ANTHROPIC_BASE_URL", &stage.model.url)
        .env("ANTHROPIC_API_KEY", "sk-recorded")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("IS_SANDBOX", "1")
        .args(["-p", PROMPT, "--model", "claude-sonnet-4-5", "--output-format", "stream-json", "--verbose"])
        .args(["--dangerously-skip-permissions", "--disallowedTools", "WebSearch,WebFetch"]);
    command
}

#[tokio::test]
async fn claude_code_and_what_is_recorded_of_it() {
    let Some(mut stage) = Stage::set("claude").await else { return };
    let file = stage.record().await;
    stage.play(claude(&stage), "/v1/messages").await;
    stage.play_instead(&file).await;
    stage.play(claude(&stage), "/v1/messages").await;
}

fn codex_for(stage: &Stage) -> Command {
    let home = stage.path("home/.codex");
    fs::create_dir_all(&home).unwrap();
    let config = format!(
        r#"
        model = "gpt-5.1-codex"
        model_provider = "gw"
        approval_policy = "never"
        sandbox_mode = "danger-full-access"
        web_search = "disabled"
        [model_providers.gw]
        name = "gw"
        base_url = "{}/v1"
        env_key = "GW_API_KEY"
        wire_api = "responses"
        request_max_retries = 0
        stream_max_retries = 0
        "#,
        stage.model.url
    );
    fs::write(home.join("config.toml"), config).unwrap();
    let mut command = stage.command();
    command.env("GW_API_KEY", "sk-recorded").args(["exec", "--json", "--skip-git-repo-check", PROMPT]);
    command
}

#[tokio::test]
async fn codex_and_what_is_recorded_of_it() {
    let Some(mut stage) = Stage::set("codex").await else { return };
    let file = stage.record().await;
    stage.play(codex_for(&stage), "/v1/responses").await;
    stage.play_instead(&file).await;
    stage.play(codex_for(&stage), "/v1/responses").await;
}

/// Plays opencode with one of its providers, which has these options and models.
async fn opencode(provider: &str, model: &str, small: &str, extra: serde_json::Value, route: &str) {
    let Some(stage) = Stage::set("opencode").await else { return };
    let mut settings =
        json!({"options": {"baseURL": format!("{}/v1", stage.model.url), "apiKey": "sk-recorded"}});
    settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let config = json!({
        "autoupdate": false, "share": "disabled", "permission": "allow", "enabled_providers": [provider],
        "model": format!("{provider}/{model}"), "small_model": format!("{provider}/{small}"),
        "provider": {provider: settings},
    });
    fs::write(stage.path("opencode.json"), config.to_string()).unwrap();
    let mut command = stage.command();
    command
        .env("OPENCODE_CONFIG", stage.path("opencode.json"))
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .env("OPENCODE_DISABLE_LSP_DOWNLOAD", "1")
        .args(["run", "--format", "json", PROMPT]);
    stage.play(command, route).await;
}

#[tokio::test]
async fn opencode_over_messages() {
    opencode("anthropic", "claude-sonnet-4-5", "claude-haiku-4-5", json!({}), "/v1/messages").await;
}

#[tokio::test]
async fn opencode_over_responses() {
    opencode("openai", "gpt-5", "gpt-5-mini", json!({}), "/v1/responses").await;
}

#[tokio::test]
async fn opencode_over_chat_completions() {
    let extra = json!({"npm": "@ai-sdk/openai-compatible", "models": {"big": {}, "small": {}}});
    opencode("gw", "big", "small", extra, "/v1/chat/completions").await;
}
