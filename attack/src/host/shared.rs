//! What processes of the host's kernel share: some is made that no sandbox may find, and what sandboxes leave is looked
//! for.

use anyhow::Context as _;

use super::attempt::Findings;
use crate::{
    attack::Finding,
    inside::{ipc::KINDS, syscall::NO_CALLER},
    target::Shared,
};

/// One of each kind; they go with their holder.
pub(super) struct OnTheHost(Shared);

impl OnTheHost {
    /// Under keys that nobody else has.
    pub(super) fn make() -> anyhow::Result<Self> {
        let id = super::place::unique()?;
        let hosts = i32::from_str_radix(id.get(..7).unwrap_or_default(), 16)?;
        let made = Self(Shared { hosts, left: hosts + 1 });
        for kind in KINDS {
            kind.make(hosts).context(NO_CALLER)?.with_context(|| format!("no {} for it", kind.name()))?;
        }
        Ok(made)
    }

    /// Where they are.
    pub(super) fn keys(&self) -> Shared {
        self.0
    }
}

impl Drop for OnTheHost {
    fn drop(&mut self) {
        for kind in KINDS {
            let _ = kind.remove(self.0.hosts);
            let _ = kind.remove(self.0.left);
        }
    }
}

/// Whether a sandbox's own is there when it is gone.
pub(super) fn judge(shared: Shared, findings: &mut Findings) {
    for kind in KINDS {
        if let Some(finding @ Finding::Held(_)) = findings.get_mut(kind.name())
            && let Some(Ok(_)) = kind.find(shared.left)
        {
            *finding = Finding::Broken("it is left on the host".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_and_goes_with_the_place() {
        let on_host = OnTheHost::make().unwrap();
        let Shared { hosts, left } = on_host.keys();
        let held = || KINDS.map(|kind| (kind.name().to_owned(), Finding::Held(String::new()))).into();
        let mut findings: Findings = held();
        judge(on_host.keys(), &mut findings);
        assert_eq!(findings, held());
        for kind in KINDS {
            assert!(kind.find(hosts).unwrap().is_ok(), "{kind:?}");
            kind.make(left).unwrap().unwrap();
        }
        judge(on_host.keys(), &mut findings);
        assert!(findings.values().all(|finding| matches!(finding, Finding::Broken(_))), "{findings:?}");
        drop(on_host);
        for kind in KINDS {
            assert!(kind.find(hosts).unwrap().is_err() && kind.find(left).unwrap().is_err(), "{kind:?}");
        }
    }
}
