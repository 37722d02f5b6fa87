use super::{field, run_arguments, shim_arguments};
use crate::docker::{Docker, Joined, Network, Shim};
use crate::policy::Root;
use crate::spec::tests::policy;

fn docker() -> Docker {
    Docker {
        program: "docker".into(),
        runtime: "runsc".to_owned(),
        image: "worker:1".to_owned(),
        without_cgroups: false,
        network: Network::None,
    }
}

#[test]
fn a_container_with_its_doors_mounted() {
    let policy = crate::Policy { root: Root::OfRuntime, ..policy() };
    insta::assert_json_snapshot!(run_arguments(&policy, &docker(), &Vec::new()));
}

#[test]
fn a_container_on_a_network_with_its_doors_beside_it() {
    let policy = crate::Policy { root: Root::OfRuntime, ..policy() };
    let shim = Shim { alias: "skia".to_owned(), port: 7222, door: "coordinator.sock".to_owned() };
    let joined = Joined {
        name: "sandbox_net".to_owned(),
        relay: std::path::PathBuf::from("/opt/relay").try_into().unwrap(),
        doors: "/run/doors".try_into().unwrap(),
        shims: vec![shim.clone()],
    };
    let docker = Docker { network: Network::Joined(joined.clone()), ..docker() };
    let addresses = vec![("skia".to_owned(), "172.18.0.2".to_owned())];
    insta::assert_json_snapshot!(serde_json::json!({
        "shim": shim_arguments(&policy, &docker, &joined, &shim),
        "sandbox": run_arguments(&policy, &docker, &addresses),
    }));
}

#[test]
fn a_folder_with_a_comma_is_one_field() {
    assert_eq!(field("source=/a,readonly"), "\"source=/a,readonly\"");
    assert_eq!(field("source=/a\"b"), "\"source=/a\"\"b\"");
    assert_eq!(field("source=/a b"), "source=/a b");
}
