use std::path::Path;

use super::oci_spec;
use crate::cgroup::Cgroups;
use crate::policy::{HostPath, InsidePath, Limits, Mount, Policy, Root, SandboxId, User, Work};
use crate::runsc::{Doors, MemoryLimit, Platform, Runsc, Version, WorkStore};
use crate::{HostToolchain, ImageRoot};

fn inside(path: &str) -> InsidePath {
    InsidePath::try_from(path).unwrap()
}

fn mount(host: &str, at: &str) -> Mount {
    Mount { host: HostPath::try_from(Path::new(host).to_owned()).unwrap(), inside: inside(at) }
}

pub(crate) fn policy() -> Policy {
    let toolchain = HostToolchain {
        links: vec![(inside("/bin"), "usr/bin".into())],
        binds: vec![mount("/usr", "/usr"), mount("/etc/alternatives", "/etc/alternatives")],
    };
    Policy {
        id: SandboxId::try_from("w-1".to_owned()).unwrap(),
        root: Root::HostToolchain(toolchain),
        read_only: vec![mount("/data/mirrors/demo.git", "/mirror.git")],
        shared: vec![mount("/run/me/doors", "/run/doors"), mount("/run/me/outbox", "/run/outbox")],
        work: Work {
            inside: inside("/work"),
            bytes: 10 << 30,
            owner: 1001,
            store: HostPath::try_from(Path::new("/data/sandboxes").to_owned()).unwrap(),
        },
        tmp_bytes: 1 << 30,
        limits: Limits {
            memory_bytes: 5 << 30,
            cpu_millis: 2000,
            processes: 1024,
            open_files: 4096,
            file_bytes: 10 << 30,
        },
        hostname: "sandbox".to_owned(),
        users: vec![User { name: "agent".to_owned(), id: 1001, home: inside("/work/home") }],
        loopback_names: vec!["skia".to_owned()],
        program: inside("/opt/bin/worker"),
        arguments: vec!["init".to_owned()],
        environment: vec![("PATH".to_owned(), "/usr/bin".to_owned())],
    }
}

fn new_runsc() -> Runsc {
    Runsc {
        program: "runsc".into(),
        version: Version("0.0~20240729.0".to_owned()),
        platform: Platform::Systrap,
        rootless: false,
        doors: Doors::HostUds,
        work: WorkStore::File,
        memory: MemoryLimit::Cgroup(Cgroups::V2 { parent: "/sys/fs/cgroup".into(), cpu: true }),
    }
}

fn old_runsc() -> Runsc {
    Runsc {
        version: Version("0.0~20220101.0".to_owned()),
        platform: Platform::Ptrace,
        doors: Doors::FsgoferHostUds,
        work: WorkStore::Memory,
        ..new_runsc()
    }
}

fn rootless(runsc: Runsc) -> Runsc {
    Runsc { rootless: true, memory: MemoryLimit::AddressSpace, ..runsc }
}

/// The document with its sets in order, and the arguments that go with it.
fn document(runsc: &Runsc) -> serde_json::Value {
    document_of(&policy(), runsc)
}

fn document_of(policy: &Policy, runsc: &Runsc) -> serde_json::Value {
    let root = Path::new("/run/me/sandbox/root");
    let spec = oci_spec(policy, runsc, root, Path::new("/data/sandboxes/w-1")).unwrap();
    let mut spec = serde_json::to_value(spec).unwrap();
    for set in ["bounding", "effective", "permitted"] {
        let set = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        set.sort_by_key(ToString::to_string);
    }
    let arguments: Vec<_> = runsc
        .arguments(Path::new("/run/me/sandbox/state"))
        .into_iter()
        .map(|argument| argument.into_string().unwrap())
        .collect();
    serde_json::json!({ "runsc": arguments, "spec": spec })
}

#[test]
fn as_root_with_a_new_runsc() {
    insta::assert_json_snapshot!(document(&new_runsc()));
}

#[test]
fn as_a_plain_user_with_a_new_runsc() {
    insta::assert_json_snapshot!(document(&rootless(new_runsc())));
}

#[test]
fn as_root_with_an_old_runsc() {
    insta::assert_json_snapshot!(document(&old_runsc()));
}

#[test]
fn as_a_plain_user_with_an_old_runsc() {
    insta::assert_json_snapshot!(document(&rootless(old_runsc())));
}

#[test]
fn with_an_image_instead_of_the_hosts_toolchain() {
    let image = ImageRoot {
        folder: HostPath::try_from(Path::new("/data/images/sha256-0/root").to_owned()).unwrap(),
        links: vec![(inside("/bin"), "usr/bin".into())],
        binds: ["etc", "usr"]
            .map(|name| mount(&format!("/data/images/sha256-0/root/{name}"), &format!("/{name}")))
            .into(),
        etc: vec!["passwd".to_owned(), "hosts".to_owned()],
    };
    let policy = Policy { root: Root::Image(image), ..policy() };
    insta::assert_json_snapshot!(document_of(&policy, &new_runsc())["spec"]["mounts"]);
}
