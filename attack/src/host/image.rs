//! An image for Docker, of this machine's own programs (what a worker and the attacks need), and a network.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::inside::resources::SMALL;

/// What the attacks run, of which a machine has some.
const PROGRAMS: [&str; 25] = [
    "sh",
    "bash",
    "git",
    "git-upload-pack",
    "cat",
    "cp",
    "env",
    "grep",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "rm",
    "sed",
    "sleep",
    "touch",
    "tr",
    "truncate",
    "chmod",
    "unshare",
    "perl",
    "sha256sum",
    "head",
];
/// Names at which scripts look for them, whatever PATH says.
const AT_LEAST: [&str; 2] = ["/bin/sh", "/bin/bash"];

/// Goes with its holder.
pub(super) struct Image(String);

impl Image {
    /// Says why there is none where Docker is not there or has no runtime of this name.
    pub(super) fn make(runtime: &str) -> anyhow::Result<Self> {
        let runtimes = output("docker", &["info", "--format", "{{json .Runtimes}}"])?;
        let has = runtimes.contains(&format!("\"{runtime}\""));
        anyhow::ensure!(has, "Docker has no runtime {runtime:?}");
        let mut files: BTreeSet<_> = AT_LEAST.map(str::to_owned).into();
        for program in PROGRAMS {
            let Ok(path) = output("sh", &["-c", "command -v \"$0\"", program]) else { continue };
            // A path a library; for what is linked to none, nothing.
            let libraries = output("ldd", &[path.trim()]).unwrap_or_default();
            let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
            files.extend(paths.map(str::to_owned));
            files.insert(path.trim().to_owned());
        }
        let mut tar = Command::new("tar");
        tar.args(["--create", "--dereference", "--hard-dereference", "--directory", "/", "--file", "-"]);
        tar.args(files.iter().map(|file| file.trim_start_matches('/')));
        let mut tar = tar.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("tar")?;
        let image = Self(format!("code-workers-attack:{}", super::place::unique()?));
        let mut import = Command::new("docker");
        import.args(["import", "-", &image.0]).stdin(tar.stdout.take().context("tar has no output")?);
        let imported = import.stdout(Stdio::null()).status()?;
        anyhow::ensure!(tar.wait()?.success() && imported.success(), "an image of this machine's programs");
        Ok(image)
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = output("docker", &["image", "rm", "--force", &self.0]);
    }
}

/// A network without a way out; it goes with its holder.
pub(super) struct Network {
    pub(super) name: String,
    /// The configuration of a launcher that joins it.
    pub(super) config: PathBuf,
    _folder: TempDir,
}

impl Network {
    /// For sandboxes of this runtime.
    pub(super) fn make(runtime: &str) -> anyhow::Result<Self> {
        let runtimes = output("docker", &["info", "--format", "{{json .Runtimes}}"])?;
        anyhow::ensure!(runtimes.contains(&format!("\"{runtime}\"")), "Docker has no runtime {runtime:?}");
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.toml");
        std::fs::write(&config, format!("{SMALL}[docker]\nruntime = '{runtime}'\n"))?;
        let name = format!("code-workers-attack-{}", super::place::unique()?);
        output("docker", &["network", "create", "--internal", &name])?;
        Ok(Self { name, config, _folder: folder })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = output("docker", &["network", "rm", &self.name]);
    }
}

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let ran = super::place::run(Command::new(program).args(arguments))?;
    anyhow::ensure!(ran.ok, "{program}: {}", ran.err.trim());
    Ok(ran.out)
}
