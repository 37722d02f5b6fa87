//! The disk of a VM: a small Linux of this machine's own programs.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// Where our programs are in the VM.
const OURS: &str = "opt/code-workers";

/// Folders that administration's programs are in, where a plain user's PATH lacks them.
const SYSTEM: &str = "/usr/local/sbin:/usr/sbin:/sbin:/bin";

/// A file that holds an ext4.
pub struct Disk(PathBuf);

impl Disk {
    /// Makes one in `folder`: a shell and its tools, git, runsc, and these programs of ours in `/opt/code-workers`.
    #[must_use]
    pub fn make(folder: &Path, ours: &[PathBuf]) -> Self {
        let (tree, image) = (folder.join("tree"), folder.join("disk.img"));
        for path in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "proc", "sys", "dev", "run", "tmp"]
        {
            fs::create_dir_all(tree.join(path)).unwrap();
        }
        for path in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(path), tree.join(path)).unwrap();
        }
        fs::create_dir_all(tree.join(OURS)).unwrap();
        for program in ["busybox", "git", "runsc"] {
            add_program(&tree, program, &Path::new("usr/bin").join(program));
        }
        for tool in run("busybox", &["--list"], &[]).lines().filter(|tool| *tool != "busybox") {
            symlink("/usr/bin/busybox", tree.join("usr/bin").join(tool)).unwrap();
        }
        for program in ours {
            fs::copy(program, tree.join(OURS).join(program.file_name().unwrap())).unwrap();
        }
        fs::write(&image, "").unwrap();
        run("truncate", &["--size", "1G"], &[&image]);
        // No journal: nobody will want this disk after a crash.
        run("mke2fs", &["-q", "-t", "ext4", "-O", "^has_journal", "-d"], &[&tree, &image]);
        fs::remove_dir_all(tree).unwrap();
        Self(image)
    }

    pub(super) fn image(&self) -> &Path {
        &self.0
    }
}

/// Copies a program of this machine, and the libraries that it is linked to, into a tree.
pub(super) fn add_program(tree: &Path, name: &str, target: &Path) {
    let program = there(name);
    fs::copy(&program, tree.join(target)).unwrap();
    // A static program is told by an error.
    let libraries = Command::new("ldd").arg(&program).output().unwrap().stdout;
    for library in
        String::from_utf8(libraries).unwrap().split_whitespace().filter(|word| word.starts_with('/'))
    {
        let target = tree.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(library, target).unwrap();
    }
}

pub(super) fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a program that must succeed; its output.
pub(super) fn run(program: &str, options: &[&str], paths: &[&Path]) -> String {
    let output = Command::new(there(program)).args(options).args(paths).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found =
        env::split_paths(&path).chain(env::split_paths(SYSTEM)).map(|folder| folder.join(program));
    found.find(|path| path.is_file())
}

fn there(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| panic!("{program} is not installed; ./test.sh does it"))
}
