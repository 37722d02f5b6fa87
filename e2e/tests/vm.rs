//! Real vsock, in a VM by emulation: the relay between its families, host and guest.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails")]

use std::os::unix::net::UnixListener;

use e2e::{Disk, Place, Vm, kernel_folder};

/// Relays and others in the guest, each waited for until it listens.
const STARTING: &str = r#"
mkfifo /run/said
listening() { # listening PROGRAM ARGUMENTS...
    "/opt/code-workers/$@" >/run/said &
    read -r said </run/said
    echo "guest: $said"
}
relay() { listening code-workers-relay --listen "$1" --dial "$2" --mode 0666; }
"#;

#[test]
fn the_relay_speaks_vsock_on_either_end_and_on_both() {
    let Some(kernel) = kernel_folder() else { return };
    let place = Place::new();
    let programs = ["code-workers-relay", "e2e-guest"].map(|name| place.program(name));
    let disk = Disk::make(place.home(), &programs);
    // To itself: unix to vsock, vsock to vsock, vsock to unix. To the host: unix to vsock. From the host: vsock to unix.
    let script = format!(
        "{STARTING}
        listening e2e-guest far-end /run/far.sock
        relay vsock://any:7001 unix:///run/far.sock
        relay vsock://any:7002 vsock://1:7001
        relay unix:///run/loopback.sock vsock://1:7002
        relay unix:///run/host.sock vsock://2:7222
        guest=/opt/code-workers/e2e-guest
        $guest measure loopback /run/loopback.sock 20000000 && $guest close-half /run/loopback.sock || exit
        $guest measure 'to the host' /run/host.sock 100000000
        wait"
    );
    let own = place.home().join("vm");
    e2e::far_end(UnixListener::bind(Vm::host_port(&own, 7222)).unwrap());
    let mut vm = Vm::boot(&kernel, &disk, &own, &script, &[]);
    let loopback = vm.console().wait_for("guest: loopback:");
    let host = vm.console().wait_for("guest: to the host:");
    let from = e2e::measure(&mut vm.connect(7001), 20_000_000).unwrap();
    eprintln!("{loopback}\n{host}\nfrom the host: {from:?}");
}
