use super::{Key, Settings, Sources};
use crate::Usd;
use std::net::SocketAddr;

fn settings(environment: &[(&str, &str)], dot_env: &str, file: &str) -> Settings {
    Settings::new(Sources {
        environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        credentials: Vec::new(),
        dot_env: vec![(".env".into(), dot_env.to_owned())],
        file: Some(("config.toml".into(), file.to_owned())),
    })
}

#[test]
fn environment_over_dot_env_over_file_over_default() {
    let file = "coordinator.bind = '127.0.0.1:3'";
    let bind =
        |mut s: Settings| s.or::<SocketAddr>(&Key::COORDINATOR_BIND, ([127, 0, 0, 1], 4).into()).port();
    assert_eq!(
        bind(settings(&[("COORDINATOR_BIND", "127.0.0.1:1")], "COORDINATOR_BIND=127.0.0.1:2", file)),
        1
    );
    assert_eq!(bind(settings(&[], "COORDINATOR_BIND='127.0.0.1:2'", file)), 2);
    assert_eq!(bind(settings(&[("COORDINATOR_BIND", "")], "", file)), 3);
    assert_eq!(bind(settings(&[("COORDINATOR_BIND", "")], "COORDINATOR_BIND=127.0.0.1:2", file)), 2);
    assert_eq!(bind(settings(&[], "", "")), 4);
}

#[test]
fn a_credential_stands_between_the_environment_and_dot_env() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("FORTRESS_API_KEY"), "of the service\n").unwrap();
    std::fs::write(place.path().join("ANTHROPIC_API_KEY"), "").unwrap();
    let key = |name: &str, environment: &[(&str, &str)]| {
        let sources = Sources {
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            credentials: super::credentials(place.path()).unwrap(),
            dot_env: vec![("/h/.env".into(), "FORTRESS_API_KEY=of-the-file\nANTHROPIC_API_KEY=a".to_owned())],
            file: None,
        };
        Settings::new(sources).variable(name).unwrap()
    };
    assert_eq!(key("FORTRESS_API_KEY", &[]), "of the service");
    assert_eq!(key("FORTRESS_API_KEY", &[("FORTRESS_API_KEY", "e")]), "e");
    // An empty one is none, so that a unit can name a key that is not there yet.
    assert_eq!(key("ANTHROPIC_API_KEY", &[]), "a");
    assert!(super::credentials(&place.path().join("none")).is_err());
}

#[test]
fn every_fault_is_named_at_once_and_no_key_is_shown() {
    let file = "coordinator.bind = 'x'\ntask.budget_usd = 'y'\nnonsense = 1\n[sandbox]\nmemory_gb = 2\ntoolchains = 'z'";
    let mut s = settings(&[], "FORTRESS_API_KEY=a secret\n", file);
    s.optional::<SocketAddr>(&Key::COORDINATOR_BIND);
    s.optional::<Usd>(&Key::TASK_BUDGET);
    s.list(&Key::SANDBOX_TOOLCHAINS);
    let told = s.finish(()).unwrap_err().to_string();
    let wanted =
        ["coordinator.bind", "task.budget_usd", "nonsense", "sandbox.memory_gb", "toolchains", "entry 1"];
    for fault in wanted {
        assert!(told.contains(fault), "{fault} in {told}");
    }
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn a_broken_file_is_a_fault_with_its_place() {
    let told = settings(&[], "", "a = [1\nb").finish(()).unwrap_err().to_string();
    assert!(told.contains("config.toml") && told.contains("line"), "{told}");
}

#[test]
fn tables_of_the_users_own_names_pass() {
    let s = settings(&[], "", "[price.'my/model']\ninput_usd = '1'");
    assert!(s.table("price").unwrap().contains_key("my/model"));
    assert!(s.finish(()).is_ok());
}

#[test]
fn a_working_folder_may_not_choose_what_is_run_or_where_keys_go() {
    for away in [
        "CODE_WORKERS_RUNSC=./x",
        "CODE_WORKERS_AGENT_FILES=/tmp",
        "CODE_WORKERS_SANDBOX=docker",
        "CODE_WORKERS_IMAGE=another",
        "COORDINATOR_URL=http://192.0.2.1:80",
        "ANTHROPIC_UPSTREAM_URL=https://example.org",
        "OPENAI_UPSTREAM_URL=http://127.0.0.1.example.org",
    ] {
        let told = settings(&[], away, "").finish(()).unwrap_err().to_string();
        assert!(told.contains(away.split('=').next().unwrap()), "{told}");
    }
    for here in [
        "FORTRESS_API_KEY=k",
        "COORDINATOR_URL=unix:///run/x.sock",
        "COORDINATOR_URL=http://127.0.0.1:7222",
        "ANTHROPIC_UPSTREAM_URL=http://localhost:1/v1",
        "OPENAI_UPSTREAM_URL=http://[::1]:1",
    ] {
        assert!(settings(&[], here, "").finish(()).is_ok(), "{here}");
    }
}
