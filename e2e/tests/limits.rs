//! Agents that use up what they are given: it is theirs alone that is full, the limit is named, and what they did
//! before comes back.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use e2e::Place;
use serde_json::{Value, json};

/// A place whose agent is a script of the repository that runs its prompt in bash, in small sandboxes.
fn place() -> Place {
    let mut place = Place::new();
    place.agent_file(
        "scripted",
        "program = \"./agent.sh\"\nargs = [\"{prompt}\"]\nprompt = \"argument\"\n\n[model]\n\
         default = \"anthropic/claude-sonnet-4-5\"\nproviders = [\"anthropic\"]\nform = \"name\"\n\n[install]\n\
         hint = \"it stands in the repository\"\n",
    );
    place.configure("[sandbox]\nwork_mb = 64\nmemory_mb = 1024\nprocesses = 64\nwork_files = 5000\n");
    place.model("[[turn]]\ntext = 'unused'");
    place.up();
    place.repo("sample", &[("agent.sh", "#!/bin/bash\neval \"$1\"\n"), ("a.txt", "one\n")]);
    place.launch(&["sample", "--agent", "scripted"]);
    place
}

/// Sends a script that first changes a file, and takes the task when it has ended.
fn run(place: &Place, id: &str, script: &str, more: &[&str]) -> Value {
    let script = format!("echo more >> a.txt\n{script}");
    let mut args = vec!["send", "--wait", "--id", id];
    args.extend(more);
    args.extend(["sample", &script]);
    let _ = place.cli(&args);
    let task = place.task(id);
    assert!(place.cli(&["diff", id]).ok().contains("+more"), "partial work comes back: {task:#}");
    task
}

fn assert_limits(place: &Place, task: &Value, limits: &[&str]) {
    assert_eq!(task["result"]["limits"], json!(limits), "{task:#}");
    let said = place.cli(&["poll", task["id"].as_str().unwrap()]).out;
    assert!(said.contains(&format!("limits: {}\n", limits.join(", "))), "{said}");
}

#[test]
fn a_memory_bomb_ends_its_agent_and_not_its_sandbox() {
    let place = place();
    // One that eats alone, and eight beside each other.
    let eat = "x = []\nwhile True: x.append(bytearray(8 << 20))";
    let many = format!("for i in 1 2 3 4 5 6 7 8; do python3 -c '{eat}' & done; wait; sleep 1000");
    for (id, script) in [("one", format!("python3 -c '{eat}'; sleep 1000")), ("eight", many)] {
        let task = run(&place, id, &script, &[]);
        let reason = task["reason"].as_str().unwrap();
        assert!(reason.starts_with("limit_memory: "), "{task:#}");
        assert_eq!(task["attempt"], 1, "{task:#}");
        assert_limits(&place, &task, &["memory"]);
    }
}

#[test]
fn a_fork_bomb_gets_no_more_processes_than_it_may_have() {
    let place = place();
    let bomb = "b() { b | b & }; for i in 1 2 3 4 5 6 7 8 9; do b; done 2> /dev/null; sleep 1000";
    let task = run(&place, "bomb", bomb, &["--timeout", "5"]);
    assert_eq!(task["state"], "timed_out", "{task:#}");
    assert_limits(&place, &task, &["processes", "time"]);
}

#[test]
fn a_hundred_gigabytes_and_a_million_files_meet_the_end_of_work() {
    let mut place = place();
    let task = run(&place, "bytes", "head -c 100000000000 /dev/zero > big; sleep 1; rm big; exit 9", &[]);
    assert_eq!(task["result"]["exit_code"], 9, "ENOSPC, not a full host: {task:#}");
    assert_limits(&place, &task, &["disk"]);
    let files = "mkdir many; python3 -c 'for i in range(1000000): open(f\"many/{i}\", \"w\").close()'";
    let task = run(&place, "files", files, &[]);
    assert!(task["reason"].as_str().unwrap().starts_with("limit_files: "), "{task:#}");
    assert_limits(&place, &task, &["files"]);
    let launcher = place.launchers().first_mut().unwrap();
    assert!(!launcher.told().contains("warning"), "{}", launcher.told());
}

#[test]
fn a_flood_of_output_that_is_more_than_a_file_may_have_ends_nobody() {
    let place = place();
    let task = run(&place, "flood", "head -c 80000000 /dev/zero | tr '\\0' 'x' | fold -w 60000; exit 9", &[]);
    assert_eq!((&task["result"]["exit_code"], &task["attempt"]), (&json!(9), &json!(1)), "{task:#}");
    assert_limits(&place, &task, &["output"]);
}

#[test]
fn descriptors_run_out_for_the_agent_alone() {
    let place = place();
    // Long enough to be seen; one that has most of them is not at the limit.
    for (id, most, said, limits) in [
        ("all", 1 << 20, "True Too many open files", &["open_files"][..]),
        ("many", 12_000, "True enough", &[]),
    ] {
        let open = format!(
            "python3 -c '\nimport os, time\nfds, why = [], \"enough\"\ntry:\n    while len(fds) < {most}: \
             fds.append(os.open(\"/dev/null\", 0))\nexcept OSError as error: why = error.strerror\n\
             print(len(fds) > 1000, why)\ntime.sleep(4)'"
        );
        let task = run(&place, id, &open, &[]);
        assert_eq!(task["state"], "succeeded", "{task:#}");
        assert!(task["result"]["log_tail"].as_str().unwrap().contains(said), "{task:#}");
        assert_eq!(task["result"]["limits"].as_array().map_or(0, Vec::len), limits.len(), "{task:#}");
        if !limits.is_empty() {
            assert_limits(&place, &task, limits);
        }
    }
}

#[test]
fn one_that_keeps_every_processor_busy_is_timed_out() {
    let place = place();
    let busy = "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait";
    let task = run(&place, "busy", busy, &["--timeout", "3"]);
    assert_eq!(task["state"], "timed_out", "{task:#}");
    assert_limits(&place, &task, &["time"]);
}

#[test]
fn a_cache_is_read_by_its_own_repository_and_written_by_nobody() {
    let mut place = Place::new();
    let cache = place.home().join("wheels");
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(cache.join("a.whl"), "wheel\n").unwrap();
    let there = cache.display();
    place.configure(&format!("[repo.one]\ncaches = [\"{there}:/caches/wheels\"]\n"));
    place.model("[[turn]]\ntext = 'unused'");
    place.up();
    let script = "cat /caches/wheels/a.whl; touch /caches/wheels/b; echo x >> /caches/wheels/a.whl; true";
    let mut said = Vec::new();
    for name in ["one", "two"] {
        place.repo(name, &[("a.txt", "a\n")]);
        place.launch(&[name]).wait_for("waits for");
        let ran = place.cli(&["send", "--wait", "--exec", name, "--", "sh", "-c", script]);
        said.push((ran.code, ran.out.matches("wheel\n").count(), ran.out));
    }
    assert_eq!((said[0].0, said[0].1), (0, 1), "{said:?}");
    assert_eq!((said[1].0, said[1].1), (0, 0), "{said:?}");
    assert_eq!(std::fs::read_to_string(cache.join("a.whl")).unwrap(), "wheel\n");
    assert!(!cache.join("b").exists());
}
