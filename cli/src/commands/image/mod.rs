//! `image`: root file systems that sandboxes can be given instead of the host's toolchain.

use std::{io, path::PathBuf};

use clap::Subcommand;
use protocol::ids::ImageName;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    terminal::{note, say},
};

mod docker;
mod store;
mod unpack;

use store::Store;

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build one from a Dockerfile, with Docker, and take it in under a name.
    Build {
        /// What it is called from now on, here and in Docker.
        name: ImageName,
        /// The folder whose files the Dockerfile may take.
        #[arg(default_value = ".")]
        context: PathBuf,
        /// The Dockerfile, instead of the one in that folder.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Take in a root file system: a tar, plain or gzipped, as `docker export` writes it.
    Import {
        /// What it is called from now on.
        name: ImageName,
        /// The tar, or - for standard input.
        tar: PathBuf,
    },
    /// List those that are here.
    List,
    /// Forget a name, and remove what no other name stands for.
    Remove {
        /// The name.
        name: ImageName,
    },
    /// Copy one of Docker's images into the Docker of another machine, such as a fortress's VM, over ssh.
    PushToVm {
        /// The image, as Docker knows it.
        name: String,
        /// The machine, as ssh knows it: `[USER@]HOST`.
        host: String,
    },
}

pub(crate) fn run(context: &Context, command: ImageCommand) -> Result<Exit, Failure> {
    let store = Store::of(&context.folders);
    match command {
        ImageCommand::Build { name, context, file } => {
            docker::build(&name, &context, file.as_deref())?;
            let path = docker::path_variable(&name)?;
            let digest = docker::export(&name, |tar| store.take_in(tar))?;
            store.name(&name, &digest, path)?;
            say(&format!("{name}  {digest}"))?;
        }
        ImageCommand::Import { name, tar } => {
            let digest = match tar.to_str() {
                Some("-") => store.take_in(&mut io::stdin().lock())?,
                _ => {
                    let mut file = std::fs::File::open(&tar)
                        .map_err(|error| store::failed(&tar.display().to_string(), &error))?;
                    store.take_in(&mut file)?
                }
            };
            store.name(&name, &digest, None)?;
            say(&format!("{name}  {digest}"))?;
        }
        ImageCommand::List => {
            for (name, image) in store.list()? {
                say(&format!("{name}  {}", image.digest))?;
            }
        }
        ImageCommand::Remove { name } => {
            let gone = store.remove(&name)?;
            say(&format!("{name} is removed"))?;
            if !gone {
                note("its files stay: another name stands for them, or a sandbox uses them");
            }
        }
        ImageCommand::PushToVm { name, host } => docker::push_to_vm(&name, &host)?,
    }
    Ok(Exit::Succeeded)
}
