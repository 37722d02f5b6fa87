//! Everything of ours that runs inside a sandbox, in one static program of several modes: PID 1 (`init`), the
//! worker (`work`), and helpers that it starts to act as the agent's user (`as-user`, `kill-user`,
//! `list-files`, `count-files`, `count-open`).
//!
//! The worker leases one task, checks out its base, runs the agent, commits what the agent left, reports, and
//! ends: one sandbox, one task. It listens nowhere and never holds a real key. What the agent leaves behind is
//! hostile: the worker (user 0) opens none of it by itself. Programs that run as the agent's user read it, and
//! the worker reads their pipes.

pub mod agent_file;
pub(crate) mod agent_user;
pub(crate) mod around;
pub mod artifacts;
pub mod attempt;
pub(crate) mod below;
pub mod command_line;
pub mod control;
pub mod events;
pub mod exit;
pub mod fortress;
pub mod git;
pub mod guard;
pub mod heartbeat;
pub mod helper;
pub(crate) mod home;
pub mod init;
pub mod launch;
pub mod lease;
pub mod log;
pub mod messages;
pub mod outbox;
pub mod output;
pub mod places;
pub(crate) mod privileges;
pub mod report;
pub mod run;
pub mod verdict;
pub mod work;
