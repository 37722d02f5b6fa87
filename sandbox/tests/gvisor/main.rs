//! Real sandboxes, as root and as a plain user.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and a skip is said"
)]

mod house;

use house::{House, everywhere};
use sandbox::Exit;

everywhere! {
    async fn exit_codes_and_signals_come_through(house: House) {
        for (script, exit) in [("exit 0", Exit::Code(0)), ("exit 7", Exit::Code(7)), ("kill -9 $$", Exit::Signal(9))] {
            assert_eq!(house.run(script).await.exit, exit, "{script}");
        }
    }

    async fn there_is_no_way_out_on_the_network(house: House) {
        let ran = house.run(
            "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '
             timeout 5 bash -c 'echo > /dev/tcp/1.1.1.1/80' 2>&1; echo tcp $?
             perl -e 'socket(my $s, 40, 1, 0) or print \"vsock $!\\n\"'",
        ).await;
        let lines: Vec<_> = ran.console.lines().collect();
        assert_eq!(lines[0], "lo", "{}", ran.console);
        assert!(ran.console.contains("No route to host") && ran.console.contains("tcp 1"), "{}", ran.console);
        assert!(ran.console.contains("vsock Address family not supported"), "{}", ran.console);
    }
}
