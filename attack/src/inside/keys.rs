//! Ways to a key.

use std::{fs, io, path::Path};

use protocol::inside::{MIRROR, OUTBOX, RELAY_UID, WORKER_CONFIG};
use rustix::{
    io::Errno,
    process::{Pid, Uid, test_kill_process},
};

use super::{
    files::marks_below,
    kernel::into_namespace_of,
    syscall::{Argument::Number, Call, refused},
};

use crate::{
    attack::{Attack, Category::Keys, Finding},
    line::Line,
    target::Target,
};

const fn attack(name: &'static str, line: Line, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Keys, tries, line, act }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack("token-file", Line::FolderModes, "the file with the worker's token", |_| {
        Finding::of(fs::read(WORKER_CONFIG), "the token is read")
    }),
    attack("outbox", Line::FolderModes, "the outbox, which holds the lease", |_| {
        Finding::of(fs::read_dir(OUTBOX), "the outbox is listed")
    }),
    attack("environments", Line::CleanEnvironment, "a key in the environment of any process", |target| {
        search(target, "environ")
    }),
    attack("command-lines", Line::CleanArguments, "a key in the arguments of any process", |target| {
        search(target, "cmdline")
    }),
    attack(
        "mirror-credentials",
        Line::CleanMirror,
        "the address and password that the mirror is fetched with",
        |target| Finding::none_of(&marks_below(target, Path::new(MIRROR)), "credential"),
    ),
    attack("readable-files", Line::CleanMirror, "a key in any file that can be read", |target| {
        let tops = [
            "/run",
            "/etc",
            "/tmp",
            "/opt/code-workers/agents",
            "/mirror.git",
            "/work",
            "/var",
            "/dev/shm",
            "/srv",
        ];
        let found: Vec<_> = tops.iter().flat_map(|top| marks_below(target, Path::new(top))).collect();
        Finding::none_of(&found, "key")
    }),
    attack("worker-memory", Line::Capabilities, "the worker's memory, through /proc", |_| {
        each_other_user(|pid| Finding::of(read_memory(pid), &format!("the memory of {pid} is read")))
    }),
    attack("worker-trace", Line::Capabilities, "tracing the worker", |_| each_other_user(trace)),
    attack("worker-files", Line::Capabilities, "the worker's root and open files, through /proc", |_| {
        each_other_user(open_files)
    }),
    attack("worker-namespace", Line::Capabilities, "the worker's namespaces", |_| {
        each_other_user(|pid| {
            Finding::of(into_namespace_of(pid), &format!("in the mount namespace of {pid}"))
        })
    }),
    attack("worker-signal", Line::AgentUser, "ending init, worker or relay", |_| {
        each_other_user(|pid| {
            // The empty signal: the same permission, and nobody is hurt where the wall is down.
            let number = pid.parse().ok().and_then(Pid::from_raw);
            let sent = number.ok_or(Errno::SRCH).and_then(test_kill_process);
            Finding::of(sent, &format!("{pid} can be signalled"))
        })
    }),
    attack("become-root", Line::AgentUser, "becoming user 0, or another", |_| {
        // In threads, which alone become somebody else.
        let tried = [Uid::from_raw(RELAY_UID), Uid::ROOT].map(|uid| {
            let became = std::thread::spawn(move || rustix::thread::set_thread_uid(uid)).join();
            became.unwrap_or(Err(Errno::AGAIN))
        });
        Finding::all(tried.map(|became| Finding::of(became, "it is another user")))
    }),
    attack("core-dump", Line::CoreLimit, "a core dump, with what the process knew", |_| core_limit()),
];

/// For each process of another user; a wall that nobody stands behind is none.
fn each_other_user(act: impl Fn(&str) -> Finding) -> Finding {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::getuid().as_raw();
    // To root, the others are the worker's.
    let is_other =
        |pid: &String| fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| own == 0 || meta.uid() != own);
    Finding::all(processes().into_iter().filter(is_other).map(|pid| act(&pid)))
}

fn open_files(pid: &str) -> Finding {
    let open = |path: String| {
        let link = fs::read_link(&path).map(|to| to.display().to_string()).unwrap_or_default();
        let opened = fs::read_dir(&path).map(drop).or_else(|_| fs::File::open(&path).map(drop));
        // What everybody may open is no gain; the standard input is nothing.
        let opened = opened.map_err(|error| error.to_string()).and_then(|()| {
            let of_proc = link == "/proc" || (link.starts_with("/proc/") && link.ends_with("/status"));
            let anybodys = link.starts_with("/dev/") || of_proc || path.ends_with("/fd/0");
            if anybodys { Err(format!("{link} is anybody's")) } else { Ok(()) }
        });
        Finding::of(opened, &format!("{path} ({link}) is opened"))
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let files = files.map(|file| file.path().display().to_string());
    Finding::all(["root", "cwd"].map(|name| format!("/proc/{pid}/{name}")).into_iter().chain(files).map(open))
}

/// PTRACE_SEIZE, with which it goes on running.
fn trace(pid: &str) -> Finding {
    let arguments = [0x4206, pid.parse().unwrap_or_default(), 0, 0].map(Number).into();
    refused(&Call { x86_64: 101, aarch64: 117, arguments }, &format!("{pid} is traced"))
}

fn core_limit() -> Finding {
    match rustix::process::getrlimit(rustix::process::Resource::Core).maximum {
        Some(0) => Finding::Held("no core is ever dumped".to_owned()),
        other => Finding::Broken(format!("cores of up to {other:?} bytes")),
    }
}

/// The numbers of all processes but this one.
pub(crate) fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && *name != own).collect()
}

fn search(target: &Target, file: &str) -> Finding {
    let found: Vec<_> = processes()
        .iter()
        .map(|pid| Path::new("/proc").join(pid).join(file))
        .filter(|path| fs::read(path).is_ok_and(|text| target.found_in(&text).is_some()))
        .map(|path| path.display().to_string())
        .collect();
    Finding::none_of(&found, "key")
}

fn read_memory(pid: &str) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let start = maps.split('-').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let start = start.ok_or_else(|| io::Error::other("no map of its memory"))?;
    fs::File::open(format!("/proc/{pid}/mem"))?.read_at(&mut [0; 16], start)
}
