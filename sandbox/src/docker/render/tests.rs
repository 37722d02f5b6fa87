use super::{field, run_arguments};
use crate::docker::Docker;
use crate::policy::Root;
use crate::spec::tests::policy;

fn docker() -> Docker {
    Docker {
        program: "docker".into(),
        runtime: "runsc".to_owned(),
        image: "worker:1".to_owned(),
        without_cgroups: false,
    }
}

#[test]
fn a_container_with_its_doors_mounted() {
    let policy = crate::Policy { root: Root::OfRuntime, ..policy() };
    insta::assert_json_snapshot!(run_arguments(&policy, &docker()));
}

#[test]
fn a_folder_with_a_comma_is_one_field() {
    assert_eq!(field("source=/a,readonly"), "\"source=/a,readonly\"");
    assert_eq!(field("source=/a\"b"), "\"source=/a\"\"b\"");
    assert_eq!(field("source=/a b"), "source=/a b");
}
