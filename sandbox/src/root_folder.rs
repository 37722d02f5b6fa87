//! Builds the folder that becomes `/`: mount points, links and a made-up `/etc`.
//!
//! It is ours because runsc makes missing mount points in the root on the host, which must neither happen to
//! the host's `/` nor fail for a plain user.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::policy::{InsidePath, Mount, Policy, Root};

/// The files of `/etc` that are made up: nothing of the host's users and names is seen inside.
pub(crate) const MADE_UP: [&str; 6] =
    ["passwd", "group", "hosts", "hostname", "resolv.conf", "nsswitch.conf"];

/// Where the made-up files are that stand before an image's own, beside the root folder.
pub(crate) fn made_up_beside(root: &Path) -> PathBuf {
    root.with_file_name("etc")
}

/// Makes `root` (which must not be there yet) ready for `policy`.
pub(crate) fn build(root: &Path, policy: &Policy) -> io::Result<()> {
    make_folder(root)?;
    for name in ["proc", "sys", "dev", "tmp", "etc"] {
        make_folder(&root.join(name))?;
    }
    make_folder(&policy.work.inside.below(root))?;
    for mount in policy.root.binds() {
        make_mount_point(root, mount)?;
    }
    for mount in policy.read_only.iter().chain(&policy.shared) {
        let of_image = match &policy.root {
            Root::Image(image) => image.mount_point(&mount.inside, is_folder(mount)?)?,
            Root::HostToolchain(_) | Root::OfRuntime => false,
        };
        if !of_image {
            make_mount_point(root, mount)?;
        }
    }
    for (link, target) in policy.root.links() {
        symlink(target, link.below(root))?;
    }
    write_etc(root, policy)
}

/// Into the root folder; where an image's `/etc` is mounted there, beside it.
fn write_etc(root: &Path, policy: &Policy) -> io::Result<()> {
    let folder = match &policy.root {
        Root::Image(image) if !image.etc.is_empty() => {
            for name in &image.etc {
                let inside =
                    InsidePath::try_from(format!("/etc/{name}").as_str()).map_err(io::Error::other)?;
                image.mount_point(&inside, false)?;
            }
            made_up_beside(root)
        }
        _ => root.join("etc"),
    };
    make_folder(&folder)?;
    made_up_etc(policy).iter().zip(MADE_UP).try_for_each(|(text, name)| write_file(&folder.join(name), text))
}

fn is_folder(mount: &Mount) -> io::Result<bool> {
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", mount.host.as_path().display()))
    };
    Ok(fs::metadata(mount.host.as_path()).map_err(told)?.is_dir())
}

/// Below a mounted host folder no mount point can be made: it must be there already.
fn make_mount_point(root: &Path, mount: &Mount) -> io::Result<()> {
    let point = mount.inside.below(root);
    if is_folder(mount)? {
        return make_folder(&point);
    }
    if let Some(parent) = point.parent() {
        make_folder(parent)?;
    }
    write_file(&point, "")
}

/// Folders that every user inside can pass, whatever the umask of who starts the sandbox.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
        make_folder(parent)?;
    }
    DirBuilder::new().mode(0o755).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// The texts of [`MADE_UP`], in its order.
fn made_up_etc(policy: &Policy) -> [String; MADE_UP.len()] {
    let mut passwd = String::from("root:x:0:0:root:/:/bin/sh\n");
    let mut group = String::from("root:x:0:\n");
    for user in &policy.users {
        let (name, id, home) = (&user.name, user.id, user.home.as_path().display());
        // Writing to a String cannot fail.
        let _ = writeln!(passwd, "{name}:x:{id}:{id}::{home}:/bin/sh");
        let _ = writeln!(group, "{name}:x:{id}:");
    }
    // The host's files are often owned by users that are not in this list; inside they are nobody's.
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    group.push_str("nogroup:x:65534:\n");
    let mut names = vec!["localhost", policy.hostname.as_str()];
    names.extend(policy.loopback_names.iter().map(String::as_str));
    let hosts = format!("127.0.0.1 {}\n::1 localhost\n", names.join(" "));
    let nsswitch = "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n";
    // There is no name server to ask, and a resolver without this file asks 127.0.0.1 and waits.
    let resolv = "options timeout:1 attempts:1\n".to_owned();
    [passwd, group, hosts, format!("{}\n", policy.hostname), resolv, nsswitch.to_owned()]
}
