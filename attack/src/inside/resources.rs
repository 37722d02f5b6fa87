//! Ways to take so much that nothing is left for the others. The place's sandboxes are small, so that their limits are
//! met soon.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use crate::{
    attack::{Attack, Category::Resources, Finding},
    line::Line,
    target::Target,
};

/// What the place's sandboxes may have: its `config.toml`.
pub(crate) const SMALL: &str = "[sandbox]\nmemory_mb = 768\nwork_mb = 64\nwork_files = 5000\ntmp_mb = 64\nprocesses = 100\noutput_mb = 1\n";
/// Seconds that a task may run that is to run over.
pub(crate) const SHORT: &str = "3";

/// Over [`SMALL`]'s processes.
const MANY: usize = 150;
/// Over what one process may open.
const MANY_FILES: usize = 20_000;
/// Over [`SMALL`]'s rooms.
const MUCH: usize = 160 << 20;

/// What [`SMALL`] has of output, and far over that: little, since what is kept is searched for keys.
pub(crate) const OUTPUT: u64 = 1 << 20;
const MUCH_OUTPUT: usize = 8 << 20;

/// Over [`SMALL`]'s memory, and less than the cgroup behind has.
const MUCH_MEMORY: usize = 900 << 20;
/// Over [`SMALL`]'s files.
const MANY_IN_WORK: usize = 6000;
/// Longer than it takes the worker to look at the memory, and to count files.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
const COUNTED_WITHIN: Duration = Duration::from_secs(8);
/// Longer than [`SHORT`].
const OVER_WITHIN: Duration = Duration::from_secs(6);

const fn attack(name: &'static str, line: Line, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Resources, tries, line, act }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack("fork-bomb", Line::Processes, "more processes than anybody needs", |_| processes()),
    attack("thread-bomb", Line::Processes, "the same with threads", |_| threads()),
    attack("open-files", Line::OpenFiles, "more open files than anybody needs", |_| {
        let files: io::Result<Vec<_>> = (0..MANY_FILES).map(|_| File::open("/dev/null")).collect();
        Finding::of(files, &format!("{MANY_FILES} files are open"))
    }),
    attack("huge-file", Line::FileSize, "one file of 100 GB", |_| {
        // In a child: who is over the limit is ended by a signal.
        let made = Command::new("truncate").args(["-s", "100G", "/work/attack-huge"]).output();
        let _ = fs::remove_file("/work/attack-huge");
        match made {
            Ok(made) if made.status.success() => Finding::Broken("it is there".to_owned()),
            Ok(made) => Finding::Held(made.status.to_string()),
            Err(error) => Finding::NotApplicable(format!("truncate: {error}")),
        }
    }),
    attack("full-work", Line::WorkSize, "the host's disk, through /work", |_| filled("/work")),
    attack("full-tmp", Line::TmpSize, "the host's memory, through /tmp", |_| filled("/tmp")),
    attack("memory-bomb", Line::Memory, "all memory that there is", |_| {
        let mut eaten = Vec::new();
        while eaten.len() << 23 < MUCH_MEMORY {
            eaten.push(vec![0x5a_u8; 8 << 20]);
        }
        outlive(SEEN_WITHIN, &format!("{} MiB are eaten", eaten.len() * 8))
    }),
    attack("file-flood", Line::WorkFiles, "more files than a disk has inodes", |_| {
        let folder = Path::new(protocol::inside::WORK).join(".git/attack-files");
        let made = fs::create_dir_all(&folder).and_then(|()| {
            (0..MANY_IN_WORK).try_for_each(|n| File::create(folder.join(n.to_string())).map(drop))
        });
        match made {
            Ok(()) => outlive(COUNTED_WITHIN, &format!("{MANY_IN_WORK} files are there")),
            Err(error) => Finding::Held(error.to_string()),
        }
    }),
    attack("output-flood", Line::Output, "the host's disk, through all that it says", |_| flooded()),
    attack("overrun", Line::RunTime, "running on when the time is over", |_| {
        outlive(OVER_WITHIN, "it still runs")
    }),
    attack("zombies", Line::Reaping, "children that nobody waits for", |_| zombies()),
];

/// Who is alive after this was not ended.
fn outlive(time: Duration, gain: &str) -> Finding {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    Finding::Broken(gain.to_owned())
}

fn processes() -> Finding {
    let spawn = || Command::new("sleep").arg("60").stdin(Stdio::null()).spawn();
    let mut children: Vec<Child> = Vec::new();
    let failed = loop {
        match spawn() {
            Ok(child) if children.len() < MANY => children.push(child),
            Ok(child) => {
                children.push(child);
                break None;
            }
            Err(error) => break Some(error),
        }
    };
    let count = children.len();
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    failed.map_or_else(
        || Finding::Broken(format!("{count} processes run")),
        |error| Finding::Held(format!("{error} after {count}")),
    )
}

fn threads() -> Finding {
    let mut held = Vec::new();
    for _ in 0..MANY {
        let (end, ended) = channel::<()>();
        let spawned = std::thread::Builder::new().stack_size(64 << 10).spawn(move || ended.recv());
        match spawned {
            Ok(thread) => held.push((end, thread)),
            Err(error) => return Finding::Held(format!("{error} after {}", held.len())),
        }
    }
    Finding::Broken(format!("{} threads run", held.len()))
}

/// In files that are each well within their own limit.
fn filled(folder: &str) -> Finding {
    let block = vec![0x5a; 1 << 20];
    let paths: Vec<_> =
        (0..MUCH >> 23).map(|number| Path::new(folder).join(format!("attack-{number}"))).collect();
    let write = |path: &Path| -> io::Result<()> {
        let mut file = File::create(path)?;
        (0..8).try_for_each(|_| file.write_all(&block))
    };
    let written = paths.iter().try_for_each(|path| write(path));
    for path in &paths {
        let _ = fs::remove_file(path);
    }
    Finding::of(written, &format!("{MUCH} bytes are written"))
}

/// What came of it is on the host's disk, and judged there.
fn flooded() -> Finding {
    let mut line = vec![b'x'; 64 << 10];
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let written = (0..MUCH_OUTPUT / line.len()).try_for_each(|_| out.write_all(&line));
    match written {
        Ok(()) => Finding::Held(format!("{} MiB are said", MUCH_OUTPUT >> 20)),
        Err(error) => Finding::NotApplicable(format!("nobody listens: {error}")),
    }
}

/// How long init may take to bury the dead.
const BURIED_WITHIN: Duration = Duration::from_secs(5);

fn zombies() -> Finding {
    for _ in 0..20 {
        let _ = Command::new("sh").args(["-c", "true & exec true"]).status();
    }
    let begun = Instant::now();
    loop {
        let left = dead();
        if left == 0 {
            return Finding::Held("all were buried".to_owned());
        }
        if begun.elapsed() > BURIED_WITHIN {
            return Finding::Broken(format!("{left} are left"));
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn dead() -> usize {
    let status = |pid: &String| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    super::keys::processes().iter().map(status).filter(|status| status.contains("\nState:\tZ")).count()
}
