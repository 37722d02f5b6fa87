//! The battery of attacks: every one is held by a sandbox, and succeeds in one without the line that holds it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use e2e::Place;
use serde_json::Value;

#[test]
fn no_attack_gets_out_and_each_would_without_its_line() {
    let place = Place::new();
    let mut attack = place.command("code-workers-attack");
    let output = attack.args(["host", "--json", "--weaken"]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let attacks = told["attacks"].as_array().unwrap();
    // What gVisor's own kernel holds takes another kernel to succeed.
    let can_fail = |attack: &Value| attack["weakened"]["broken"] == true || attack["held_by"] == "kernel";
    let is_good = |attack: &&Value| attack["held"] == true && can_fail(attack);
    let bad: Vec<_> = attacks.iter().filter(|attack| !is_good(attack)).collect();
    assert!(bad.is_empty() && output.status.success(), "{bad:#?}");
    assert!(attacks.len() >= 100, "{} attacks", attacks.len());
}
