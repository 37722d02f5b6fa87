//! Where a sandbox meets its limits.

use sandbox::Exit;

use crate::house::{AS_AGENT, House, everywhere};

everywhere! {
    async fn work_belongs_to_the_agent_and_ends_at_its_size(house: House) {
        let ran = house.run(&format!(
            "{AS_AGENT} bash -c 'cd /work && echo a > a && chmod 700 a && git init -q repo && git -C repo status -s
               dd if=/dev/zero of=big bs=1M count=20 2>&1 | tail -n +3 | head -1; stat -c %s big; rm big
               dd if=/dev/zero of=/tmp/big bs=1M count=20 2>&1' | grep -o 'No space.*\\|^[0-9]*$'
             stat -c '%u %a' /work; ls -l /work/a 2> /dev/null | cut -c1-10"
        )).await;
        let lines: Vec<_> = ran.console.lines().collect();
        let &[size, no_space, owner, mode] = lines.as_slice() else { unreachable!("{}", ran.console) };
        assert!((7 << 20..=8 << 20).contains(&size.parse::<u32>().unwrap()), "{}", ran.console);
        assert_eq!((no_space, owner, mode), ("No space left on device", "1001 755", "-rwx------"));
    }

    async fn processes_files_and_their_sizes_are_bounded(house: House) {
        let mut policy = house.policy(&format!(
            "ulimit -n; ulimit -c
             {AS_AGENT} perl -e 'my $n = 0; while (defined(my $p = fork)) {{ $p or exec \"sleep 100\"; $n++ }}
               print \"$!\n\"; $n <= 20 or print \"$n\n\"; kill 9, -1'
             {AS_AGENT} perl -e '$SIG{{XFSZ}} = \"IGNORE\"; open F, \">/work/big\"; syswrite F, \"x\" x 1048576; syswrite F, \"x\" or print \"$!\n\"'"
        ));
        policy.limits.file_bytes = 1 << 20;
        policy.limits.processes = 20;
        let ran = house.run_policy(&policy).await;
        assert_eq!(ran.console, "200\n0\nResource temporarily unavailable\nFile too large\n");
    }

    async fn memory_is_bounded(house: House) {
        let mut policy = house.policy("perl -e 'my $x = \"x\" x (600 << 20); print length $x'");
        let whole = house.runsc.warnings().is_empty();
        if !whole {
            // Each process alone, and never under 16 GiB of addresses.
            policy.arguments[1] = "perl -e 'my $x = \"x\" x (20 << 30); print length $x'".to_owned();
        }
        let ran = house.run_policy(&policy).await;
        if whole {
            assert_eq!(ran.exit, Exit::OutOfMemory, "{}", ran.console);
        } else {
            assert!(ran.console.contains("Out of memory"), "{:?} {}", ran.exit, ran.console);
        }
    }
}
