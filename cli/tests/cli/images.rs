//! Images: what comes in, and what a hostile tar cannot do.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use crate::support::Home;

/// One entry: its kind, its path, its mode, its text or what it links to.
type Item<'a> = (EntryType, &'a str, u32, &'a str);

/// A tar of these entries. Paths are written as they are, which the library's own way would refuse.
fn tar(items: &[Item]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, mode, text) in items {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let is_file = *kind == EntryType::Regular;
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(if is_file { text.len() as u64 } else { 0 });
        header.set_cksum();
        builder.append(&header, if is_file { text.as_bytes() } else { b"" }).unwrap();
    }
    builder.into_inner().unwrap()
}

fn plain() -> Vec<u8> {
    tar(&[
        (EntryType::Directory, "usr/", 0o755, ""),
        (EntryType::Directory, "usr/closed/", 0o555, ""),
        (EntryType::Regular, "usr/closed/file", 0o644, "text"),
        (EntryType::Regular, "usr/su", 0o4755, "#!"),
        (EntryType::Symlink, "bin", 0o777, "usr"),
        (EntryType::Char, "null", 0o666, ""),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// The folder of the one image that is there.
fn root(home: &Home) -> PathBuf {
    let folders = fs::read_dir(home.data().join("images")).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].join("root")
}

#[tokio::test]
async fn a_tar_is_unpacked_once_and_named_by_what_is_in_it() {
    let home = Home::new();
    let first = home.cli_with(&["image", "import", "one", "-"], &plain()).await.ok();
    let again = home.cli_with(&["image", "import", "two", "-"], &gzip(&plain())).await.ok();
    let digest = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(digest(&first), digest(&again), "the same file system, gzipped");
    assert_eq!(home.cli(&["image", "list"]).await.ok().lines().count(), 2);

    let root = root(&home);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("usr/closed"), mode("usr/closed/file"), mode("usr/su")), (0o555, 0o644, 0o755));
    assert_eq!(fs::read_to_string(root.join("usr/closed/file")).unwrap(), "text");
    assert!(!root.join("null").exists(), "a device");

    let kept = home.cli(&["image", "remove", "one"]).await;
    assert!(kept.err.contains("another name"), "{kept:?}");
    assert!(root.exists());
    let gone = home.cli(&["image", "remove", "two"]).await;
    assert!(!root.exists(), "{gone:?}");
    assert_eq!(home.cli(&["image", "remove", "two"]).await.code, Some(6));
}

#[tokio::test]
async fn nothing_is_written_outside_of_an_image() {
    let canary = |home: &Home| home.path().join("canary");
    let escapes = |outside: &str| {
        vec![
            tar(&[(EntryType::Regular, "../../../canary", 0o644, "x")]),
            tar(&[
                (EntryType::Symlink, "out", 0o777, outside),
                (EntryType::Regular, "out/canary", 0o644, "x"),
            ]),
            tar(&[
                (EntryType::Symlink, "out", 0o777, "../../.."),
                (EntryType::Regular, "out/canary", 0o644, "x"),
            ]),
            tar(&[
                (EntryType::Symlink, "out", 0o777, outside),
                (EntryType::Link, "hard", 0o644, "out/.config/code-workers/.env"),
            ]),
        ]
    };
    for number in 0..4 {
        let home = Home::new();
        let tar = escapes(home.path().to_str().unwrap()).swap_remove(number);
        let ran = home.cli_with(&["image", "import", "bad", "-"], &tar).await;
        assert_ne!(ran.code, Some(0), "{number}: {ran:?}");
        assert!(!canary(&home).exists(), "{number}");
        assert_eq!(fs::read_dir(home.data().join("images")).unwrap().count(), 0, "{number}: what is left");
    }
    // An absolute path is one inside.
    let home = Home::new();
    let path = format!("{}/canary", home.path().display());
    home.cli_with(&["image", "import", "odd", "-"], &tar(&[(EntryType::Regular, &path, 0o644, "x")]))
        .await
        .ok();
    assert!(!canary(&home).exists());
    assert!(root(&home).join(path.trim_start_matches('/')).exists());
}

#[tokio::test]
async fn what_is_no_root_file_system_is_refused_with_the_reason() {
    let home = Home::new();
    for (bytes, reason) in [
        (b"".to_vec(), "empty"),
        (
            b"not a tar, and rather longer than one header of it would be".repeat(20),
            "tar of a root file system",
        ),
        (plain()[..700].to_vec(), "tar of a root file system"),
        (gzip(&plain())[..60].to_vec(), "tar of a root file system"),
        (tar(&[(EntryType::Regular, "manifest.json", 0o644, "[]")]), "docker export"),
    ] {
        let ran = home.cli_with(&["image", "import", "bad", "-"], &bytes).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(reason), "{reason}: {ran:?}");
    }
    let ran = home.cli(&["image", "import", "bad", "/nowhere.tar"]).await;
    assert!(ran.err.contains("/nowhere.tar"), "{ran:?}");
    assert_eq!(fs::read_dir(home.data().join("images")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_a_killed_import_left_is_cleared_away_by_the_next() {
    let home = Home::new();
    let left = home.data().join("images/.unpacking-x/root/closed");
    fs::create_dir_all(&left).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o555)).unwrap();
    home.cli_with(&["image", "import", "one", "-"], &plain()).await.ok();
    assert!(!home.data().join("images/.unpacking-x").exists());
}

#[tokio::test]
async fn an_image_goes_to_a_machine_over_ssh() {
    let mut home = Home::new();
    let bin = home.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = |name: &str, text: &str| {
        fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("docker", r#"[ "$*" = "save worker:1" ] && echo image"#);
    program("ssh", r#"[ "$*" = "me@vm docker load" ] && cat >"$HOME/loaded""#);
    let path = format!("{}:{}", bin.display(), home.env["PATH"]);
    home.set("PATH", &path);
    home.cli(&["image", "push-to-vm", "worker:1", "me@vm"]).await.ok();
    assert_eq!(fs::read_to_string(home.path().join("loaded")).unwrap(), "image\n");
    let ran = home.cli(&["image", "push-to-vm", "worker:1", "other"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("ssh other docker load"), "{ran:?}");
    let ran = home.cli(&["image", "push-to-vm", "worker:1", "-oProxyCommand=touch x"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
}
