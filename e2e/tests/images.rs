//! Sandboxes whose root is an image.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use e2e::{Image, Place, tar_of_programs};

/// Runs a script as an `exec` task of `sample`.
fn exec(place: &Place, script: &str) -> String {
    let ran = place.cli(&["send", "--wait", "--id", "t", "--exec", "sample", "--", "sh", "-c", script]);
    assert_eq!(ran.code, 0, "{}", place.cli(&["logs", "t"]).out);
    ran.out
}

/// The host's programs and a few files of an image's own, in a tar.
fn tar(place: &Place) -> String {
    let root = place.home().join("root");
    fs::create_dir_all(&root).unwrap();
    let mut programs = tar_of_programs();
    let extract = ["--extract", "--directory", root.to_str().unwrap(), "--file", "-"];
    assert!(
        Command::new("tar").args(extract).stdin(programs.stdout.take().unwrap()).status().unwrap().success()
    );
    assert!(programs.wait().unwrap().success());
    for (path, text) in [
        ("etc/passwd", "root:x:0:0::/:/bin/sh\nimages-own:x:7:7::/:/bin/sh\n"),
        ("etc/of-the-image", "its own\n"),
        ("run/of-the-image", "not seen\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let tar = place.home().join("image.tar");
    let create = ["--create", "--directory", root.to_str().unwrap(), "--file", tar.to_str().unwrap(), "."];
    assert!(Command::new("tar").args(create).status().unwrap().success());
    tar.to_str().unwrap().to_owned()
}

#[test]
fn a_task_runs_in_an_imported_image_that_it_cannot_change() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("hello.txt", "it is here\n")]);
    let refused = place.cli(&["run-worker", "sample", "--image", "mine"]);
    assert_eq!(refused.code, 64);
    assert!(refused.err.contains("code-workers image build mine"), "{refused:?}");

    place.cli(&["image", "import", "mine", &tar(&place)]).ok();
    place.launch(&["sample", "--image", "mine"]).wait_for("1 sandbox waits for sample");
    let seen = exec(
        &place,
        "cat hello.txt /etc/of-the-image; id -u; grep -c agent /etc/passwd; grep -c images-own /etc/passwd; \
         grep -c skia /etc/hosts; ls /run; command -v python3 || echo no python; \
         touch /etc/of-the-image /usr/new 2>/dev/null || echo read-only",
    );
    let wanted = "it is here its own 1001 1 0 1 code-workers no python read-only";
    assert!(seen.split_whitespace().eq(wanted.split(' ')), "{seen}");

    let kept = place.cli(&["image", "remove", "mine"]);
    assert!(kept.err.contains("a sandbox uses them"), "{kept:?}");
}

#[test]
fn an_image_built_from_a_dockerfile_says_where_its_programs_are() {
    let Some(base) = Image::with_docker() else { return };
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("hello.txt", "it is here\n")]);
    let context = place.home().join("context");
    fs::create_dir_all(&context).unwrap();
    let write = |name: &str, text: &str| fs::write(context.join(name), text).unwrap();
    write("greet", "#!/bin/sh\necho built\n");
    let text = format!(
        "FROM {}\nCOPY greet /opt/tools/greet\nENV PATH=/opt/tools:/usr/local/bin:/usr/bin:/bin\n",
        base.name()
    );
    write("Dockerfile.mine", &text);
    // The builder that every Docker has.
    place.set("DOCKER_BUILDKIT", "0");
    make_executable(&context.join("greet"));
    let name = format!("cw-test-{}", std::process::id());
    let file = context.join("Dockerfile.mine");
    let built =
        place.cli(&["image", "build", &name, context.to_str().unwrap(), "--file", file.to_str().unwrap()]);
    let _ = Command::new("docker").args(["image", "rm", "--force", &name]).stdout(Stdio::null()).status();
    built.ok();
    place.launch(&["sample", "--image", &name]).wait_for("1 sandbox waits for sample");
    assert_eq!(exec(&place, "greet").trim(), "built");
}

fn make_executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}
