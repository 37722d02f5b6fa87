//! A Docker with gVisor, which `test.sh` installs, and an image made of this host's own programs.

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
};

/// A root file system of this host's own programs, as a tar on the child's standard output.
///
/// # Panics
/// When the host lacks one.
#[must_use]
pub fn tar_of_programs() -> Child {
    // Where scripts look for them, whatever PATH says.
    let mut files = BTreeSet::from(["/bin/sh", "/bin/bash"].map(str::to_owned));
    for program in PROGRAMS {
        let path = ask("sh", &["-c", "command -v \"$0\"", program]).unwrap().trim().to_owned();
        // `/lib/x/libc.so.6` and the loader: all that stands there as a path.
        let libraries = ask("ldd", &[&path]).unwrap();
        files.extend(libraries.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
        files.insert(path);
    }
    // Links are followed: the image has the files where their names say.
    Command::new("tar")
        .args(["--create", "--dereference", "--hard-dereference", "--directory", "/", "--file", "-"])
        .args(files.iter().map(|file| file.trim_start_matches('/')))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// An image in Docker that goes with its holder.
pub struct Image {
    name: String,
}

/// What is in the image, with the libraries that it needs: what a worker needs, and what the scenarios run.
const PROGRAMS: [&str; 20] = [
    "sh",
    "bash",
    "git",
    "git-upload-pack",
    "cat",
    "env",
    "id",
    "ls",
    "sleep",
    "touch",
    "mkdir",
    "rm",
    "grep",
    "sed",
    "tr",
    "perl",
    "unshare",
    "truncate",
    "chmod",
    "ln",
];

impl Image {
    /// Makes the image; `None`, and said, where there is no Docker with a runsc. On CI that is an error.
    #[must_use]
    pub fn with_docker() -> Option<Self> {
        Self::with_runtime("runsc")
    }

    /// The same where Docker has to have this runtime.
    #[must_use]
    pub fn with_runtime(runtime: &str) -> Option<Self> {
        let runtimes = ask("docker", &["info", "--format", "{{json .Runtimes}}"]).unwrap_or_default();
        if !runtimes.contains(&format!("\"{runtime}\"")) {
            assert!(std::env::var_os("CI").is_none(), "there is no Docker with a runtime {runtime}");
            eprintln!(
                "skipped: no Docker with a runtime {runtime} (docs/configuration.md says how it gets one)"
            );
            return None;
        }
        let name = format!("code-workers-test:{}-{}", std::process::id(), fastrand::u32(..));
        let mut tar = tar_of_programs();
        let imported = Command::new("docker")
            .args(["import", "-", &name])
            .stdin(tar.stdout.take().unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(tar.wait().unwrap().success() && imported.success());
        Some(Self { name })
    }

    /// What Docker calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its containers, running or not.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("ancestor={}", self.name);
        let names = ask("docker", &["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]).unwrap();
        names.lines().map(str::to_owned).collect()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = ask("docker", &["image", "rm", "--force", &self.name]);
    }
}

/// What a program prints, if it succeeds.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
