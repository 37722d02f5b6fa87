//! A sandbox that is a process of this host: what its end, its signals and its remains are.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, kill_process};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::start::{Exit, Files, LAST_WORDS, Signal, StartError, code};
use crate::{console, destroy};

/// The variable by which what belongs to a sandbox is found again: the sandbox's folder.
const MARK: &str = "CODE_WORKERS_SANDBOX_FOLDER";

/// What is to be run.
pub(crate) struct Line {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Nothing else is in its environment.
    pub(crate) environment: Vec<(String, OsString)>,
}

/// A process that was started by this one, in a group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    console: JoinHandle<io::Result<()>>,
}

/// Starts it in `folder`, which is there.
pub(crate) fn start(line: &Line, folder: &Path) -> Result<Process, StartError> {
    let prepare = |why| StartError::Prepare { folder: folder.to_owned(), why };
    let (reader, writer) = io::pipe().map_err(prepare)?;
    let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(prepare)?;
    let child = Command::new(&line.program)
        .args(&line.arguments)
        .env_clear()
        .envs(line.environment.iter().map(|(name, value)| (name, value)))
        .env(MARK, folder)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(prepare)?)
        .stderr(writer)
        .spawn()
        .map_err(|why| StartError::Spawn { program: line.program.clone(), why })?;
    if let Some(leader) = child.id() {
        remember_group(folder, leader.cast_signed()).map_err(prepare)?;
    }
    let target = Files(folder).console();
    Ok(Process { child, console: tokio::spawn(async move { console::keep(reader, &target).await }) })
}

impl Process {
    /// Waits until it has ended. May be called again: it answers the same.
    pub(crate) async fn wait(&mut self) -> io::Result<Exit> {
        let status = self.child.wait().await?;
        if !self.console.is_finished() {
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.console).await;
        }
        Ok(match code(status) {
            code @ 0..=128 => Exit::Code(code),
            code => Exit::Signal(code - 128),
        })
    }

    /// SIGTERM for the process, which knows what to do with what it started; SIGKILL for all that is below it.
    pub(crate) async fn signal(&self, signal: Signal, folder: &Path) -> io::Result<()> {
        if signal == Signal::Kill {
            destroy::end_processes(folder).await;
            return Ok(());
        }
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or_else(gone)?;
        kill_process(pid, rustix::process::Signal::TERM).map_err(io::Error::from)
    }
}

/// The processes of this sandbox: those that bear its mark or are in its group, and all below them.
pub(crate) fn of(folder: &Path) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: HashMap<i32, Stat> = processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, Stat::of(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .collect();
    let group = fs::read_to_string(group_file(folder)).ok().and_then(|text| living_group(&text, &all));
    let is_own = |pid: i32, stat: &Stat| group == Some(stat.group) || is_marked(pid, folder);
    let own: HashSet<i32> =
        all.iter().filter(|(pid, stat)| is_own(**pid, stat)).map(|(pid, _)| *pid).collect();
    let is_below = |pid: i32| {
        // As many steps as there are processes: the list is not of one moment, and may hold a circle.
        let parents = std::iter::successors(Some(pid), |pid| all.get(pid).map(|stat| stat.parent));
        parents.take(all.len()).any(|pid| own.contains(&pid))
    };
    if own.is_empty() { Vec::new() } else { all.keys().copied().filter(|pid| is_below(*pid)).collect() }
}

fn is_marked(pid: i32, folder: &Path) -> bool {
    let mut mark = format!("{MARK}=").into_bytes();
    mark.extend(OsString::from(folder).into_vec());
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark)
}

/// Says which group it is, and since when, so that its number is not taken for another's.
fn group_file(folder: &Path) -> PathBuf {
    folder.join("group")
}

fn remember_group(folder: &Path, leader: i32) -> io::Result<()> {
    let started = fs::read_to_string(format!("/proc/{leader}/stat")).ok().and_then(|text| Stat::of(&text));
    // One that has ended already leaves nothing to find.
    started.map_or(Ok(()), |stat| fs::write(group_file(folder), format!("{leader} {}", stat.started)))
}

/// The group, unless its number is another's by now: while one of a group lives, its number is given to nobody.
fn living_group(text: &str, all: &HashMap<i32, Stat>) -> Option<i32> {
    let (leader, started) = text.split_once(' ')?;
    let leader = leader.parse().ok()?;
    all.get(&leader).is_none_or(|stat| stat.started == started).then_some(leader)
}

/// What proc_pid_stat(5) says.
struct Stat {
    parent: i32,
    group: i32,
    started: String,
}

impl Stat {
    /// The name, which stands before all else in parentheses, may hold anything. `None` for what has ended.
    fn of(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<_> = after_name.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse().ok();
        let ended = matches!(*fields.first()?, "Z" | "X");
        (!ended).then_some(Self {
            parent: number(1)?,
            group: number(2)?,
            started: (*fields.get(19)?).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_sandboxs_processes_is_found_whatever_it_has_done_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (mut said, writer) = io::pipe().unwrap();
        // The shell has lost the mark and is in a session of its own; what it starts has neither.
        let script = "setsid env -i sh -c 'env -i setsid sleep 1000 & echo; wait' & wait";
        let line = Line {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
        };
        let mut child = std::process::Command::new(&line.program);
        child.args(&line.arguments).env("PATH", "/usr/bin:/bin").env(MARK, folder.path()).stdout(writer);
        let mut child = child.spawn().unwrap();
        io::Read::read_exact(&mut said, &mut [0]).unwrap();
        let found = of(folder.path());
        assert!(found.len() >= 3 && found.contains(&child.id().cast_signed()), "{found:?}");
        crate::leftovers::end(folder.path(), &found);
        child.wait().unwrap();
        assert!(of(folder.path()).is_empty());
    }

    #[test]
    fn a_groups_number_that_was_given_to_another_is_not_taken_for_it() {
        let stat = |started: &str| Stat { parent: 1, group: 7, started: started.to_owned() };
        assert_eq!(living_group("7 100", &HashMap::from([(7, stat("100"))])), Some(7));
        assert_eq!(
            living_group("7 100", &HashMap::from([(8, stat("101"))])),
            Some(7),
            "its leader has ended"
        );
        assert_eq!(living_group("7 100", &HashMap::from([(7, stat("200"))])), None);
    }
}
