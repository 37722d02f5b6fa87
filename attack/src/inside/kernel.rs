//! Ways into the kernel of the host, and around its fences.

use std::{fs, io, path::Path};

use rustix::{
    fs::{CWD, FileType, Mode, makedev, mknodat},
    mount::{MountFlags, mount},
    process::{chroot, pivot_root},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::syscall::{
    Argument::{self, Bytes, Number},
    Call, refused,
};
use crate::{
    attack::{Attack, Category::Files, Finding},
    line::Line,
    target::Target,
};

const fn fence(name: &'static str, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Files, tries, line: Line::Capabilities, act }
}

const fn kernel(name: &'static str, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Files, tries, line: Line::Kernel, act }
}

fn call<const N: usize>(x86_64: u16, aarch64: u16, arguments: [Argument; N]) -> Call {
    Call { x86_64, aarch64, arguments: arguments.into() }
}

pub(crate) const ATTACKS: &[Attack] = &[
    fence("mount-tmpfs", "mounting a file system", |_| mounted("tmpfs", "tmpfs")),
    fence("mount-proc", "mounting a proc of its own", |_| mounted("proc", "proc")),
    fence("mount-cgroup", "mounting cgroups, whose release_agent the host would run", |_| {
        Finding::all(["cgroup", "cgroup2"].map(|kind| {
            past_permission(
                &mount(kind, "/tmp", kind, MountFlags::empty(), None),
                "the mount is not forbidden",
            )
        }))
    }),
    fence("bind-mount", "a bind mount over what is read-only", |_| {
        let point = point("bind");
        let made = point.and_then(|point| Ok(rustix::mount::mount_bind("/tmp", &*point)?));
        Finding::of(made, "mounted")
    }),
    fence("chroot", "a root of its own", |_| Finding::of(chroot("/"), "chroot is allowed")),
    fence("pivot-root", "another root for all", |_| {
        past_permission(&pivot_root("/nowhere", "/nowhere"), "pivot_root listens")
    }),
    fence("mount-namespace", "a mount namespace of its own", |_| unshared(UnshareFlags::NEWNS)),
    fence("network-namespace", "a network namespace of its own", |_| unshared(UnshareFlags::NEWNET)),
    Attack {
        line: Line::ReadOnly,
        ..fence("user-namespace", "root in a user namespace, to write what is read-only", |_| {
            user_namespace()
        })
    },
    kernel("make-device", "a device node of its own, for the host's disk and memory", |_| make_device()),
    fence("host-name", "another name for the machine", |_| {
        Finding::of(rustix::system::sethostname(b"attacked"), "the name is changed")
    }),
    fence("capabilities", "any capability at all", |_| capabilities()),
    kernel("module-load", "loading a kernel module", |_| {
        refused(&call(175, 105, [Bytes(b"\x7fELF"), Number(64), Bytes(b"")]), "the module loader listens")
    }),
    kernel("kexec", "another kernel for the host", |_| {
        refused(&call(246, 104, [Number(0), Number(0), Number(0), Number(0)]), "kexec listens")
    }),
    kernel("bpf", "a program in the kernel", |_| {
        // BPF_MAP_CREATE of an array of one entry.
        const MAP: &[u8] = &[2, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0];
        refused(&call(321, 280, [Number(0), Bytes(MAP), Number(64)]), "a map is made")
    }),
    kernel("perf-events", "watching the host's processors", |_| {
        // PERF_TYPE_SOFTWARE, of 112 bytes, for all processes on processor 0.
        const EVENT: &[u8] = &[1, 0, 0, 0, 112, 0, 0, 0];
        let watch = [Bytes(EVENT), Number(-1), Number(0), Number(-1), Number(0)];
        refused(&call(298, 241, watch), "processor 0 is watched")
    }),
    kernel("userfaultfd", "faults handled by itself, with which races are won", |_| {
        refused(&call(323, 282, [Number(0)]), "a descriptor is given")
    }),
    kernel("io-uring", "a ring of io_uring", |_| {
        refused(&call(425, 425, [Number(4), Bytes(b"")]), "a ring is given")
    }),
    kernel("keyring", "a key in the keyring of its user, which all containers of a kernel share", |_| {
        // KEY_SPEC_USER_KEYRING
        let key = [Bytes(b"user"), Bytes(b"attack"), Bytes(b"x"), Number(1), Number(-4)];
        refused(&call(248, 217, key), "a key is kept")
    }),
    kernel("open-by-handle", "a file of the host by its number, around all mounts", |_| {
        // The handle of inode 2, the root of most file systems, from the current folder's mount.
        const HANDLE: &[u8] = &[8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        refused(&call(304, 265, [Number(-100), Bytes(HANDLE), Number(0)]), "handles are opened")
    }),
    kernel("set-clock", "the host's clock", |_| {
        // CLOCK_REALTIME with a nanosecond that does not exist: whoever may is told EINVAL.
        const WHEN: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0];
        refused(&call(227, 112, [Number(0), Bytes(WHEN)]), "the clock may be set")
    }),
    kernel("reboot", "the keys that restart the machine", |_| {
        // LINUX_REBOOT_CMD_CAD_OFF: changes nothing but what Ctrl-Alt-Delete does.
        refused(
            &call(169, 142, [Number(0xfee1_dead), Number(672_274_793), Number(0), Number(0)]),
            "reboot listens",
        )
    }),
    kernel("fanotify", "watching every file of a mount", |_| {
        refused(&call(300, 262, [Number(0), Number(0)]), "a watch is given")
    }),
    kernel("core-pattern", "the program that the host's kernel starts for a core dump", |_| {
        writable(&["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper"])
    }),
    kernel("sysctl", "the kernel's own settings", |_| {
        writable(&[
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/kernel/yama/ptrace_scope",
            "/proc/sys/net/ipv4/conf/all/route_localnet",
            "/proc/sys/fs/binfmt_misc/register",
        ])
    }),
    kernel("sysrq", "the key that stops the host at once", |_| writable(&["/proc/sysrq-trigger"])),
    kernel("kernel-log", "the host kernel's messages", |_| readable(&["/dev/kmsg", "/proc/kmsg"])),
    kernel("kernel-memory", "the memory of the host and its kernel", |_| {
        readable(&["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"])
    }),
    kernel("disks", "the host's disks", |_| readable(&DISKS)),
    kernel("cgroup-files", "the host's cgroups", |_| {
        writable(&[
            "/sys/fs/cgroup/cgroup.procs",
            "/sys/fs/cgroup/memory/cgroup.procs",
            "/sys/fs/cgroup/release_agent",
        ])
    }),
];

const DISKS: [&str; 8] = [
    "/dev/vda",
    "/dev/sda",
    "/dev/xvda",
    "/dev/nvme0n1",
    "/dev/dm-0",
    "/dev/loop0",
    "/dev/md0",
    "/dev/mmcblk0",
];

/// Held by EPERM alone: any other error comes after the permission was given.
fn past_permission<T>(tried: &rustix::io::Result<T>, gain: &str) -> Finding {
    match tried {
        Err(error) if *error == rustix::io::Errno::PERM => Finding::Held(error.to_string()),
        Err(error) => Finding::Broken(format!("{gain}: {error}")),
        Ok(_) => Finding::Broken(gain.to_owned()),
    }
}

fn point(name: &str) -> io::Result<String> {
    let path = format!("/tmp/attack-{name}");
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn mounted(kind: &str, source: &str) -> Finding {
    let made = point(kind).and_then(|point| Ok(mount(source, &*point, kind, MountFlags::empty(), None)?));
    Finding::of(made, &format!("{kind} is mounted"))
}

/// In a thread of its own, which takes its namespace with it.
#[expect(deprecated, reason = "unsafe is what unshares memory; these are namespaces")]
fn unshared(kind: UnshareFlags) -> Finding {
    let tried = std::thread::spawn(move || rustix::thread::unshare(kind | UnshareFlags::FS)).join();
    tried.map_or_else(
        |_| Finding::NotApplicable("no thread".to_owned()),
        |tried| Finding::of(tried, "it is given"),
    )
}

/// Through `unshare`, because a program with threads gets no user namespace.
fn user_namespace() -> Finding {
    let script = "mount -o remount,rw,bind /mirror.git; touch /mirror.git/attacked-by-namespace";
    let arguments = ["--user", "--map-root-user", "--mount", "sh", "-c", script];
    match std::process::Command::new("unshare").args(arguments).output() {
        Ok(output) if output.status.success() => Finding::Broken("the mirror is written".to_owned()),
        Ok(output) => Finding::Held(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Finding::NotApplicable(format!("unshare: {error}")),
    }
}

/// Making one is nothing; what it opens is.
fn make_device() -> Finding {
    let node = |name: &str, kind, major, minor| {
        let path = Path::new("/tmp").join(name);
        let made = mknodat(CWD, &path, kind, Mode::RUSR | Mode::WUSR, makedev(major, minor));
        let opened = made.map_err(io::Error::from).and_then(|()| fs::File::open(&path));
        let _ = fs::remove_file(&path);
        Finding::of(opened, &format!("{name} is opened"))
    };
    Finding::all([
        node("attack-sda", FileType::BlockDevice, 8, 0),
        node("attack-vda", FileType::BlockDevice, 254, 0),
        node("attack-mem", FileType::CharacterDevice, 1, 1),
        node("attack-kmsg", FileType::CharacterDevice, 1, 11),
    ])
}

fn capabilities() -> Finding {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        return Finding::NotApplicable("/proc/self/status cannot be read".to_owned());
    };
    let has: Vec<_> = ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"]
        .iter()
        .filter_map(|name| Some((name, status.lines().find_map(|line| line.strip_prefix(name))?.trim())))
        .filter(|(_, bits)| bits.bytes().any(|bit| bit != b'0'))
        .map(|(name, bits)| format!("{name} {bits}"))
        .collect();
    Finding::none_of(&has, "capability")
}

/// The ways of another process's namespaces.
pub(super) fn into_namespace_of(pid: &str) -> io::Result<()> {
    let file = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    use std::os::fd::AsFd as _;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount))?;
    Ok(())
}

/// Opening alone is what is forbidden; nothing is written.
fn writable(paths: &[&str]) -> Finding {
    opened(paths, |path| fs::OpenOptions::new().write(true).open(path))
}

fn readable(paths: &[&str]) -> Finding {
    opened(paths, |path| fs::File::open(path))
}

fn opened(paths: &[&str], open: impl Fn(&str) -> io::Result<fs::File>) -> Finding {
    Finding::all(paths.iter().map(|path| Finding::of(open(path), &format!("{path} is opened"))))
}
