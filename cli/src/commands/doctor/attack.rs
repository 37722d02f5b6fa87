//! `doctor --attack`: hands over to the program that attacks.

use std::{os::unix::process::CommandExt, process::Command};

use crate::{
    failure::{Exit, Failure},
    programs,
};

/// Attacks from inside sandboxes of its own, in a place of its own.
const PROGRAM: &str = "code-workers-attack";

pub(super) fn run(json: bool, image: Option<&str>) -> Result<Exit, Failure> {
    let program = programs::find(PROGRAM)?;
    let json = json.then_some("--json");
    // Comes back only with an error.
    let image = image.into_iter().flat_map(|image| ["--image", image]);
    let error = Command::new(&program).arg("host").args(json).args(image).exec();
    Err(Failure::new(Exit::Failed, format!("{} cannot be started: {error}", program.display())))
}
