//! `code-workers keys` and `budget` with the real gateway.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use e2e::Place;
use serde_json::Value;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_owner_makes_and_revokes_keys_of_their_own() {
    let place = Place::with_model("[[turn]]\ntext = 'unused'");
    assert_eq!(lines(&place.cli(&["keys", "list", "--json"]).ok()), [] as [Value; 0]);
    let mint = ["keys", "mint", "mine", "--budget", "2.50", "--expires", "12h", "--model", "claude-*"];
    let key = place.cli(&mint).ok();
    assert!(key.starts_with("sk-cw-") && key.lines().count() == 1, "{key}");
    assert_eq!(
        place.cli(&["keys", "mint", "mine", "--budget", "2.50"]).ok(),
        key,
        "the same name, the same key"
    );
    let shown: Value = serde_json::from_str(&place.cli(&["keys", "show", "mine", "--json"]).ok()).unwrap();
    assert_eq!(
        (&shown["id"], &shown["budget_usd"], &shown["state"]),
        (&"mine".into(), &"2.50".into(), &"active".into())
    );
    assert!(!place.cli(&["keys", "show", "mine"]).ok().contains(key.trim()), "it is shown once");
    assert!(place.cli(&["keys", "revoke", "mine"]).ok().contains("mine is revoked"));
    let listed = place.cli(&["keys", "list"]).ok();
    assert!(listed.lines().any(|line| line.starts_with("mine") && line.contains("revoked")), "{listed}");
    for unknown in ["yours", "t/1"] {
        for verb in ["show", "revoke"] {
            let ran = place.cli(&["keys", verb, unknown]);
            assert_eq!(ran.code, 6, "{ran:?}");
            assert!(ran.err.contains("keys list"), "{ran:?}");
        }
    }
}

#[test]
fn limits_are_set_and_lifted_for_good() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a.txt", "a\n")]);
    assert!(place.cli(&["budget", "set", "day", "50"]).ok().starts_with("day may spend 50.00 USD a day"));
    place.cli(&["budget", "set", "repo", "sample", "10"]).ok();
    place.down();
    let ran = place.cli(&["budget"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.err.contains("the gateway is not running"), "{ran:?}");
    place.up();
    let limits = |place: &Place| {
        let accounts = lines(&place.cli(&["budget", "--json"]).ok());
        let limit =
            |name: &str| accounts.iter().find(|account| account["account"] == name)?["limit_usd"].as_str();
        (limit("day").map(str::to_owned), limit("repo:sample").map(str::to_owned))
    };
    assert_eq!(limits(&place), (Some("50.00".to_owned()), Some("10.00".to_owned())));
    assert!(place.cli(&["budget"]).ok().contains("repo:sample"));
    assert!(place.cli(&["budget", "set", "day", "none"]).ok().contains("has no limit"));
    assert_eq!(limits(&place).0, None);
    let ran = place.cli(&["budget", "set", "task", "unheard-of", "1"]);
    assert_eq!(ran.code, 6, "{ran:?}");
}

#[test]
fn another_gateways_keys_are_not_ours_to_tell() {
    let place = Place::new();
    place.configure("key_source = 'env'");
    for args in [&["keys", "list"][..], &["budget"]] {
        let ran = place.cli(args);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(ran.err.contains("key_source"), "{ran:?}");
    }
}
