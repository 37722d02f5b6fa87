//! The real agent CLIs, which `test.sh` installs.

use std::path::PathBuf;

/// An agent CLI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// `opencode`
    Opencode,
    /// `claude`
    Claude,
    /// `codex`
    Codex,
}

impl Agent {
    /// Its file's name in `agents/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::Claude => "claude",
            Self::Codex => "codex",
        }
    }
}

/// The folder of installed agents (`CODE_WORKERS_AGENTS`): one npm prefix each.
///
/// `None` where they are not installed, which a scenario says and then skips; on CI that is an error.
#[must_use]
pub fn agents_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CODE_WORKERS_AGENTS").map(PathBuf::from);
    let found = folder.filter(|folder| folder.join("opencode/node_modules/.bin/opencode").exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CODE_WORKERS_AGENTS names no folder of agent CLIs");
        eprintln!("skipped: no agent CLIs; ./test.sh installs them and sets CODE_WORKERS_AGENTS");
    }
    found
}
