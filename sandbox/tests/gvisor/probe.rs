//! A runsc that is not there, is none, or cannot start.

use std::path::Path;

use sandbox::{Platform, ProbeError, Runsc};

use crate::house::{House, everywhere};

everywhere! {
    async fn this_machines_runsc_tells_what_it_is(house: House) {
        assert_eq!(house.runsc.rootless(), !rustix::process::geteuid().is_root());
        assert_ne!(house.runsc.platform(), Platform::Other);
        assert!(house.runsc.version().to_string().contains("20"), "{}", house.runsc.version());
        assert!(std::fs::read_dir(house.path("scratch")).unwrap().next().is_none(), "the trial is cleared away");
    }

    async fn a_runsc_that_gives_up_is_told_with_its_reason(house: House) {
        let program = house.wrapper("case \"$*\" in *' run '*) echo 'no user namespaces here' >&2; exit 128;; esac");
        let error = Runsc::probe(&program, &house.path("scratch")).await.unwrap_err();
        assert!(matches!(error, ProbeError::CannotStart { .. }), "{error}");
        assert!(error.to_string().contains("no user namespaces here"), "{error}");
        assert!(error.to_string().contains("userns"), "the remedy: {error}");
    }
}

#[tokio::test]
async fn a_program_that_is_no_runsc_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let probe = async |program| Runsc::probe(Path::new(program), scratch.path()).await.unwrap_err();
    let error = probe("/not/there").await;
    assert!(
        matches!(error, ProbeError::Missing { .. }) && error.to_string().contains("apt-get install"),
        "{error}"
    );
    let error = probe("/bin/true").await;
    assert!(matches!(error, ProbeError::Unusable { .. }), "{error}");
}
