//! A virtual machine with a vsock of its own, by emulation: the machine's own vsock is never touched.

mod disk;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

pub use disk::Disk;

use crate::{files::wait_for_file, process::Process};

/// The modules that the VM's devices need, in the order in which they build on one another.
const MODULES: [&str; 10] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    "vsock_loopback",
];

/// Memory of the VM.
const MEMORY: &str = "1536M";

/// The guest's context id. The host's is 2, as always.
const GUEST: u32 = 42;

/// A folder with `vmlinuz` and `modules/*.ko` (`CODE_WORKERS_VM`), which `test.sh` fills, where a VM can run.
///
/// `None` where it cannot, which a scenario says and then skips; on CI that is an error.
#[must_use]
pub fn kernel_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CODE_WORKERS_VM").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.join("vmlinuz").exists());
    let programs = ["qemu-system-x86_64", "vhost-device-vsock", "busybox", "cpio", "mke2fs"];
    let found = folder.filter(|_| programs.iter().all(|program| disk::find(program).is_some()));
    if found.is_none() {
        let needed =
            format!("a VM needs {programs:?}, and a kernel in the folder that CODE_WORKERS_VM names");
        assert!(std::env::var_os("CI").is_none(), "{needed}");
        eprintln!("skipped: {needed}; ./test.sh brings all of it");
    }
    found
}

/// A VM that runs. It ends with its handle, and its disk keeps nothing.
pub struct Vm {
    // Fields drop in this order: the machine before its device.
    machine: Process,
    _vsock: Process,
    sockets: PathBuf,
}

impl Vm {
    /// Boots a VM that does one job: a script for its shell, run beside the files of `job`, which it sees
    /// as `/run/job`. What it needs itself is written to the folder `own`.
    #[must_use]
    pub fn boot(kernel: &Path, disk: &Disk, own: &Path, script: &str, job: &[(&str, String)]) -> Self {
        fs::create_dir_all(own).unwrap();
        let first = initramfs(kernel, own, script, job);
        let (device, sockets) = (own.join("device"), own.join("vsock"));
        let mut vsock = Command::new("vhost-device-vsock");
        let guest = format!("guest-cid={GUEST},socket={},uds-path={}", device.display(), sockets.display());
        let vsock = Process::start("vhost-device-vsock", vsock.args(["--vm", &guest]));
        wait_for_file(&device);
        let mut machine = Command::new("qemu-system-x86_64");
        machine
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY, "-nodefaults"])
            .args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")])
            .args(["-machine", "q35,memory-backend=memory", "-display", "none", "-serial", "stdio"])
            .args(["-chardev", &format!("socket,id=vsock,path={}", device.display())])
            .args(["-device", "vhost-user-vsock-pci,chardev=vsock", "-no-reboot"])
            .args(["-drive", &format!("file={},if=virtio,format=raw,snapshot=on", disk.image().display())])
            .args(["-append", "console=ttyS0 quiet panic=-1", "-initrd"])
            .arg(first)
            .arg("-kernel")
            .arg(kernel.join("vmlinuz"));
        let mut machine = Process::start("vm", &mut machine);
        machine.wait_for("guest: up");
        Self { machine, _vsock: vsock, sockets }
    }

    /// What it says on its console.
    pub fn console(&mut self) -> &mut Process {
        &mut self.machine
    }

    /// The unix socket at which a connection of the guest's to a port of the host arrives, for whoever listens there
    /// (Firecracker and Cloud Hypervisor do the same). `own` is the VM's folder, which is made.
    #[must_use]
    pub fn host_port(own: &Path, port: u32) -> PathBuf {
        fs::create_dir_all(own).unwrap();
        own.join(format!("vsock_{port}"))
    }

    /// Connects to a port that the guest listens on.
    #[must_use]
    pub fn connect(&self, port: u32) -> UnixStream {
        let mut stream = UnixStream::connect(&self.sockets).unwrap();
        writeln!(stream, "CONNECT {port}").unwrap();
        let mut answer = String::new();
        // One byte at a time: what comes after the line is not ours.
        BufReader::with_capacity(1, &stream).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("OK "), "the guest's port {port}: {answer:?}");
        stream
    }
}

/// The archive that the kernel unpacks: busybox, the modules, and the job.
fn initramfs(kernel: &Path, own: &Path, script: &str, job: &[(&str, String)]) -> PathBuf {
    let tree = own.join("initramfs");
    for folder in ["bin", "modules", "disk", "dev", "job"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    disk::add_program(&tree, "busybox", Path::new("bin/busybox"));
    for module in MODULES {
        let file = Path::new("modules").join(format!("{module}.ko"));
        // A kernel that has it built in has no file.
        if kernel.join(&file).exists() {
            fs::copy(kernel.join(&file), tree.join(&file)).unwrap();
        }
    }
    let init = include_str!("initramfs.sh").replace("$MODULES", &MODULES.join(" "));
    disk::write_executable(&tree.join("init"), &init);
    let scripts = [("start.sh", include_str!("start.sh")), ("job.sh", script)];
    let files = job.iter().map(|(name, text)| (*name, text.as_str()));
    for (name, text) in scripts.into_iter().chain(files) {
        disk::write_executable(&tree.join("job").join(name), text);
    }
    let archive = own.join("initramfs.cpio");
    disk::run(
        "sh",
        &["-c", "cd \"$1\" && find . | cpio -o -H newc --quiet >\"$2\"", "sh"],
        &[&tree, &archive],
    );
    fs::remove_dir_all(tree).unwrap();
    archive
}
