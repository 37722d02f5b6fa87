//! What the kernel lets a plain user do.

use std::fs;

use super::check::Check;

/// Sandboxes of a plain user need user namespaces.
pub(super) fn user_namespaces() -> Check {
    const NAME: &str = "user namespaces";
    if rustix::process::geteuid().is_root() {
        return Check::skipped(NAME, "root needs none");
    }
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        text.trim().parse::<u64>().ok().map(|value| (name.to_owned(), value))
    };
    let names = [
        ("kernel.unprivileged_userns_clone", 1),
        ("user.max_user_namespaces", 1),
        ("kernel.apparmor_restrict_unprivileged_userns", 0),
    ];
    let wrong: Vec<_> = names
        .into_iter()
        .filter_map(|(name, wanted)| {
            let (name, value) = read(name)?;
            let fits = if wanted == 0 { value == 0 } else { value >= wanted };
            (!fits).then(|| format!("{name}={value}"))
        })
        .collect();
    if wrong.is_empty() {
        return Check::ok(NAME, "a plain user may make them");
    }
    Check::failed(
        NAME,
        wrong.join(", "),
        "as root: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 \
         user.max_user_namespaces=10000 (and write it to /etc/sysctl.d); or run the launcher as root",
    )
}
