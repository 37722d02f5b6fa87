//! Policy and runsc joined into an OCI document.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, Spec,
};

use crate::policy::{self, Limits, Policy};
use crate::root_folder::made_up_beside;
use crate::runsc::{MemoryLimit, Runsc, WorkStore};

/// Address space that the agents' runtimes want, most of it never touched: with 4 GiB opencode starts and then dies
/// in the middle of a task, with 8 it ends it (measured; claude and codex end theirs with 16 too).
const LEAST_ADDRESS_SPACE: u64 = 16 << 30;

/// The OCI document of a sandbox whose root folder is at `root` on the host and whose `/work` is kept in
/// `store` (a folder of this sandbox alone).
///
/// # Errors
/// When the document's types refuse a value.
pub fn oci_spec(policy: &Policy, runsc: &Runsc, root: &Path, store: &Path) -> Result<Spec, OciSpecError> {
    let mut spec = Spec::default();
    let mut root_of = oci_spec::runtime::Root::default();
    root_of.set_path(root.to_owned()).set_readonly(Some(true));
    spec.set_root(Some(root_of))
        .set_hostname(Some(policy.hostname.clone()))
        .set_process(Some(process(policy, runsc)?))
        .set_mounts(Some(mounts(policy, runsc, root, store)))
        .set_linux(Some(linux()))
        .set_annotations((runsc.work == WorkStore::File).then(|| work_annotations(policy, store)));
    Ok(spec)
}

fn process(policy: &Policy, runsc: &Runsc) -> Result<Process, OciSpecError> {
    let program = text(policy.program.as_path());
    let environment = policy.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let mut process = Process::default();
    process
        .set_args(Some(std::iter::once(program).chain(policy.arguments.iter().cloned()).collect()))
        .set_env(Some(environment.collect()))
        .set_cwd("/".into())
        .set_no_new_privileges(Some(true))
        .set_capabilities(Some(capabilities()))
        .set_rlimits(Some(rlimits(&policy.limits, runsc)?));
    Ok(process)
}

fn capabilities() -> LinuxCapabilities {
    let few: HashSet<_> =
        [Capability::Setuid, Capability::Setgid, Capability::Kill, Capability::Chown].into_iter().collect();
    let mut all = LinuxCapabilities::default();
    all.set_bounding(Some(few.clone()))
        .set_effective(Some(few.clone()))
        .set_permitted(Some(few))
        .set_inheritable(None)
        .set_ambient(None);
    all
}

fn rlimits(limits: &Limits, runsc: &Runsc) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let mut all = vec![
        (PosixRlimitType::RlimitNproc, limits.processes),
        (PosixRlimitType::RlimitNofile, limits.open_files),
        (PosixRlimitType::RlimitFsize, limits.file_bytes),
        (PosixRlimitType::RlimitCore, 0),
    ];
    if runsc.memory == MemoryLimit::AddressSpace {
        all.push((PosixRlimitType::RlimitAs, limits.memory_bytes.max(LEAST_ADDRESS_SPACE)));
    }
    let rlimit = |(kind, most)| PosixRlimitBuilder::default().typ(kind).hard(most).soft(most).build();
    all.into_iter().map(rlimit).collect()
}

fn mounts(policy: &Policy, runsc: &Runsc, root: &Path, store: &Path) -> Vec<Mount> {
    let bind = |mount: &policy::Mount, mode: &str| {
        let options = ["rbind", mode, "nosuid", "nodev"];
        mount_at(mount.inside.as_path(), "bind", mount.host.as_path(), &options)
    };
    let tmp_size = format!("size={}", policy.tmp_bytes);
    let mut all = vec![
        mount_at(Path::new("/proc"), "proc", Path::new("proc"), &[]),
        mount_at(
            Path::new("/tmp"),
            "tmpfs",
            Path::new("tmpfs"),
            &["nosuid", "nodev", "mode=1777", &tmp_size],
        ),
    ];
    all.extend(policy.root.binds().iter().map(|mount| bind(mount, "ro")));
    if let policy::Root::Image(image) = &policy.root {
        let (ours, options) = (made_up_beside(root), ["rbind", "ro", "nosuid", "nodev"]);
        let before =
            |name: &String| mount_at(&Path::new("/etc").join(name), "bind", &ours.join(name), &options);
        all.extend(image.etc.iter().map(before));
    }
    all.extend(policy.read_only.iter().map(|mount| bind(mount, "ro")));
    all.extend(policy.shared.iter().map(|mount| bind(mount, "rw")));
    let work = policy.work.inside.as_path();
    let (size, owner) = (format!("size={}", policy.work.bytes), policy.work.owner);
    all.push(match runsc.work {
        // runsc finds the annotations of a mount by its source, and puts a tmpfs kept in a file there.
        WorkStore::File => mount_at(work, "bind", store, &["rw", "nosuid", "nodev"]),
        WorkStore::Memory => {
            let owner = [format!("uid={owner}"), format!("gid={owner}")];
            let options = ["nosuid", "nodev", "mode=0755", &size, &owner[0], &owner[1]];
            mount_at(work, "tmpfs", Path::new("tmpfs"), &options)
        }
    });
    all
}

fn mount_at(inside: &Path, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(inside.to_owned())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

fn work_annotations(policy: &Policy, store: &Path) -> HashMap<String, String> {
    let (bytes, owner) = (policy.work.bytes, policy.work.owner);
    let of_mount = [
        ("type", "tmpfs".to_owned()),
        ("share", "container".to_owned()),
        ("source", text(store)),
        ("options", format!("mode=0755,uid={owner},gid={owner},size={bytes}")),
    ];
    of_mount.map(|(key, value)| (format!("dev.gvisor.spec.mount.work.{key}"), value)).into()
}

fn linux() -> Linux {
    let namespace = |kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace
    };
    let kinds = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ];
    let mut linux = Linux::default();
    // gVisor brings its own kernel: the defaults of a Linux container (masked paths, devices, resources) say
    // nothing here.
    linux
        .set_namespaces(Some(kinds.map(namespace).into()))
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_devices(None)
        .set_resources(None);
    linux
}

/// Paths of a policy are UTF-8 by their types.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
pub(crate) mod tests;
