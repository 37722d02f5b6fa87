//! A base as a bundle: all of its history, and nothing beside.

#![allow(clippy::unwrap_used, reason = "tests' own helpers too")]

mod common;

use common::{Place, git, helper};
use repository::{BASE_REF, Code};

#[tokio::test]
async fn a_bundle_holds_the_base_with_its_history_and_nothing_else() {
    for format in ["sha1", "sha256"] {
        let place = Place::with_format(format);
        let base = common::head(&place.source);
        git(&place.source, &["tag", "-a", "-m", "a tag", "v1"]);
        let later = place.commit(&place.source, "later", "not yet\n");
        place.mirrored().await;
        let bundle = place.path("base.bundle");
        let size = helper().bundle(&place.mirror, &base, &bundle).await.unwrap();
        assert_eq!(std::fs::metadata(&bundle).unwrap().len(), size);
        let heads = git(place.folder.path(), &["bundle", "list-heads", bundle.to_str().unwrap()]);
        assert_eq!(heads, format!("{base} {BASE_REF}"));

        let clone = place.path("clone");
        let from = [bundle.to_str().unwrap(), clone.to_str().unwrap()];
        git(place.folder.path(), &["clone", "-q", "-b", "base", from[0], from[1]]);
        assert_eq!(git(&clone, &["log", "--format=%s"]), "sub/b\na");
        assert!(clone.join("sub/b").is_file());
        git(&clone, &["fsck", "--strict"]);
        let objects = git(&clone, &["cat-file", "--batch-check", "--batch-all-objects"]);
        assert!(!objects.contains(later.as_str()), "{objects}");
        // The mirror is as it was.
        assert!(!git(&place.mirror, &["for-each-ref"]).contains(BASE_REF));
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_and_leaves_no_bundle_that_passes() {
    let place = Place::new();
    let base = common::head(&place.source);
    let bundle = place.path("base.bundle");
    let missing = helper().bundle(&place.mirror, &base, &bundle).await.unwrap_err();
    assert_eq!(missing.code, Code::MirrorMissing);
    place.mirrored().await;
    let other = "1".repeat(40).parse().unwrap();
    let unknown = helper().bundle(&place.mirror, &other, &bundle).await.unwrap_err();
    assert_eq!(unknown.code, Code::BaseUnresolvable, "{unknown}");
    assert!(!bundle.exists());
    let elsewhere = place.path("nowhere/base.bundle");
    let unwritable = helper().bundle(&place.mirror, &base, &elsewhere).await.unwrap_err();
    assert!(unwritable.message.contains("cannot write"), "{unwritable}");
}
