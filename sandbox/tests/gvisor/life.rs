//! Start, end, and what is left.

use std::fs;
use std::path::Path;

use sandbox::{Exit, Policy, Signal, StartError, destroy, start};

use crate::house::{House, everywhere, inside};

/// Nothing of a sandbox is there any more.
fn assert_nothing_is_left(house: &House, policy: &Policy) {
    let name = policy.id.as_str();
    assert!(!house.path("sandbox").exists());
    assert_eq!(fs::read_dir(house.path("store")).unwrap().count(), 0);
    let folder = house.path("sandbox");
    let folder = folder.to_str().unwrap();
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(folder));
    let runs = |pid: &Path| {
        let line = fs::read(pid.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("{folder}/"))
    };
    let running: Vec<_> =
        fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).filter(|pid| runs(pid)).collect();
    assert!(running.is_empty(), "{running:?}");
    assert_eq!(cgroups_named(Path::new("/sys/fs/cgroup"), name), 0);
}

fn cgroups_named(folder: &Path, name: &str) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let folders = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !path.is_symlink());
    folders.map(|path| usize::from(path.to_string_lossy().contains(name)) + cgroups_named(&path, name)).sum()
}

everywhere! {
    async fn exit_codes_and_signals_come_through(house: House) {
        let exits = [("exit 0", Exit::Code(0)), ("exit 7", Exit::Code(7)), ("exit 128", Exit::Code(128)), ("kill -9 $$", Exit::Signal(9))];
        for (script, exit) in exits {
            assert_eq!(house.run(script).await.exit, exit, "{script}");
        }
    }

    async fn pid_1_can_be_asked_to_end_and_be_ended(house: House) {
        // What is written to the shared folder is the sign that the trap is set.
        for (signal, exit) in [(Signal::Terminate, Exit::Code(3)), (Signal::Kill, Exit::Signal(9))] {
            let policy = house.policy("trap 'exit 3' TERM; mkfifo /tmp/never; echo > /run/outbox/ready; read < /tmp/never");
            let ready = house.appears("outbox/ready");
            let mut sandbox = house.start(&policy).await;
            ready.await;
            sandbox.signal(signal).await.unwrap();
            assert_eq!(sandbox.wait().await.unwrap(), exit);
            assert_eq!(sandbox.wait().await.unwrap(), exit, "asked again");
            destroy(&house.path("sandbox"), &policy.id, &house.runtime()).await.unwrap();
            fs::remove_file(house.path("outbox/ready")).unwrap();
        }
    }

    async fn a_running_sandbox_is_destroyed_whole_and_twice(house: House) {
        let policy = house.policy("sleep 1000 & echo > /run/outbox/ready; sleep 1000");
        let ready = house.appears("outbox/ready");
        let mut sandbox = house.start(&policy).await;
        ready.await;
        assert!(fs::read_dir(house.path("store")).unwrap().count() == 1);
        destroy(&house.path("sandbox"), &policy.id, &house.runtime()).await.unwrap();
        assert_eq!(sandbox.wait().await.unwrap(), Exit::Signal(9));
        assert_nothing_is_left(&house, &policy);
        destroy(&house.path("sandbox"), &policy.id, &house.runtime()).await.unwrap();
    }

    async fn a_half_made_sandbox_is_destroyed(house: House) {
        let mut policy = house.policy("exit 0");
        policy.read_only.push(sandbox::Mount { host: house.host("not-there"), inside: inside("/run/x") });
        let error = start(&policy, &house.runtime(), &house.path("sandbox")).await.unwrap_err();
        assert!(matches!(error, StartError::Prepare { .. }) && error.to_string().contains("not-there"), "{error}");
        destroy(&house.path("sandbox"), &policy.id, &house.runtime()).await.unwrap();
        assert_nothing_is_left(&house, &policy);
    }

    async fn a_program_that_is_not_there_is_told_with_runscs_reason(house: House) {
        let mut policy = house.policy("");
        policy.program = inside("/usr/bin/not-there");
        let ran = house.run_policy(&policy).await;
        assert!(matches!(&ran.exit, Exit::Failed(reason) if reason.contains("no such file")), "{:?}", ran.exit);
        assert_nothing_is_left(&house, &policy);
    }

    async fn what_is_printed_is_kept_to_a_bound_and_holds_nobody_up(house: House) {
        let ran = house.run("echo first; yes | head -c 3000000; echo last >&2").await;
        assert_eq!(ran.exit, Exit::Code(0));
        assert!(ran.console.starts_with("first\ny\ny\n"));
        assert_eq!(ran.console.len(), 1 << 20, "{:?}", &ran.console[ran.console.len().saturating_sub(200)..]);
    }

    async fn a_crash_of_runsc_at_its_start_is_tried_once_more(house: House) {
        let policy = house.policy("echo it runs");
        let crashing = house.wrapped_runsc("if [ ! -e crashed ]; then touch crashed state/half-made; kill -SEGV $$; fi");
        let mut sandbox = start(&policy, &crashing, &house.path("sandbox")).await.unwrap();
        assert_eq!(sandbox.wait().await.unwrap(), Exit::Code(0));
        assert!(house.path("sandbox/crashed").exists());
        destroy(&house.path("sandbox"), &policy.id, &house.runtime()).await.unwrap();
        let always = house.wrapped_runsc("kill -SEGV $$");
        let error = start(&policy, &always, &house.path("sandbox")).await.unwrap_err();
        assert!(matches!(error, StartError::Runsc(_)), "{error}");
        destroy(&house.path("sandbox"), &policy.id, &house.runtime()).await.unwrap();
        assert_nothing_is_left(&house, &policy);
    }
}
