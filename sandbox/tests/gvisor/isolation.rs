//! What cannot be seen or done inside, and what can.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use sandbox::{Exit, Mount};

use crate::house::{AS_AGENT, House, everywhere, inside};

everywhere! {
    async fn there_is_no_way_out_on_the_network(house: House) {
        let ran = house.run(
            "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '
             timeout 5 bash -c 'echo > /dev/tcp/1.1.1.1/80' 2>&1; echo tcp $?
             perl -e 'socket(my $s, 40, 1, 0) or print \"vsock $!\\n\"'",
        ).await;
        assert_eq!(ran.console.lines().next(), Some("lo"), "{}", ran.console);
        assert!(ran.console.contains("No route to host") && ran.console.contains("tcp 1"), "{}", ran.console);
        assert!(ran.console.contains("vsock Address family not supported"), "{}", ran.console);
    }

    async fn loopback_works_and_the_doors_have_names(house: House) {
        let ran = house.run(
            "getent hosts skia sandbox
             perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") or die $!;
               my $c = IO::Socket::INET->new(PeerAddr => \"skia\", PeerPort => $l->sockport) or die $!; print \"met\\n\"'",
        ).await;
        assert_eq!(ran.console.matches("127.0.0.1").count(), 2, "{}", ran.console);
        assert!(ran.console.ends_with("met\n"), "{}", ran.console);
    }

    async fn nothing_of_the_host_is_there_but_its_toolchain(house: House) {
        let ran = house.run(
            "ls / | tr '\\n' ' '; echo
             for gone in /home /root /var /srv /boot /etc/shadow /etc/ssl/private /etc/npmrc /run/docker.sock; do
               test -e $gone && echo there is $gone; done
             for file in /x /usr/x /etc/x /run/x; do echo > $file && echo wrote $file; done 2>/dev/null
             cut -d: -f1,3 /etc/passwd | tr '\\n' ' '; echo; awk 'BEGIN { print \"awk\" }'; git --version",
        ).await;
        let lines: Vec<_> = ran.console.lines().collect();
        let (top, rest) = lines.split_first().unwrap();
        let top: Vec<_> = top.split_whitespace().filter(|name| !name.starts_with("lib")).collect();
        assert_eq!(top, ["bin", "dev", "etc", "proc", "run", "sbin", "sys", "tmp", "usr", "work"]);
        assert_eq!(rest[0], "root:0 agent:1001 nobody:65534 ", "{}", ran.console);
        assert!(rest[1] == "awk" && rest[2].starts_with("git version"), "{}", ran.console);
    }

    async fn pid_1_has_four_capabilities_and_the_agent_none(house: House) {
        let ran = house.run(&format!("grep CapEff /proc/1/status; {AS_AGENT} grep CapEff /proc/self/status")).await;
        // SETUID, SETGID, KILL, CHOWN: bits 7, 6, 5, 0 of capability(7).
        assert_eq!(ran.console, "CapEff:\t00000000000000e1\nCapEff:\t0000000000000000\n");
    }

    async fn a_door_can_be_met_by_the_agent_also_when_it_is_made_anew(house: House) {
        let door = house.path("doors/coordinator.sock");
        let listen = || {
            let listener = UnixListener::bind(&door).unwrap();
            fs::set_permissions(&door, fs::Permissions::from_mode(0o666)).unwrap();
            listener
        };
        let listener = listen();
        let meet = "perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(\"/run/doors/coordinator.sock\") or exit 1; print <$s>'";
        let script = format!(
            "{AS_AGENT} {meet}; {AS_AGENT} rm -f /run/doors/coordinator.sock 2>/dev/null || echo kept
             until {AS_AGENT} {meet}; do :; done"
        );
        let policy = house.policy(&script);
        let answers = std::thread::spawn(move || {
            listener.accept().unwrap().0.write_all(b"first\n").unwrap();
            drop(listener);
            fs::remove_file(&door).unwrap();
            let listener = UnixListener::bind(&door).unwrap();
            fs::set_permissions(&door, fs::Permissions::from_mode(0o666)).unwrap();
            listener.accept().unwrap().0.write_all(b"second\n").unwrap();
        });
        let ran = house.run_policy(&policy).await;
        answers.join().unwrap();
        assert_eq!(ran.console, "first\nkept\nsecond\n");
    }

    async fn the_outbox_is_the_workers_alone(house: House) {
        let ran = house.run(&format!(
            "echo mine > /run/outbox/report && mv /run/outbox/report /run/outbox/report.json
             {AS_AGENT} cat /run/outbox/report.json 2>&1; {AS_AGENT} touch /run/outbox/forged 2>&1"
        )).await;
        assert_eq!(ran.console.matches("Permission denied").count(), 2, "{}", ran.console);
        assert_eq!(fs::read_to_string(house.path("outbox/report.json")).unwrap(), "mine\n");
        assert_eq!(fs::read_dir(house.path("outbox")).unwrap().count(), 1);
    }

    async fn a_mounted_secret_is_read_by_pid_1_alone_and_written_by_none(house: House) {
        let secret = house.path("secret");
        fs::write(&secret, "token\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let mut policy = house.policy(&format!(
            "cat /run/secret; {AS_AGENT} cat /run/secret 2>&1; echo x 2>&1 > /run/secret"
        ));
        policy.read_only.push(Mount { host: house.host("secret"), inside: inside("/run/secret") });
        let ran = house.run_policy(&policy).await;
        assert!(ran.console.starts_with("token\n"), "{}", ran.console);
        assert!(ran.console.contains("Permission denied") && ran.console.contains("Read-only"), "{}", ran.console);
        assert_eq!(fs::read_to_string(secret).unwrap(), "token\n");
    }

    async fn a_toolchain_in_a_home_folder_is_there_alone(house: House) {
        let toolchain = house.path("home/me/tools");
        fs::create_dir_all(&toolchain).unwrap();
        fs::write(house.path("home/me/private"), "p").unwrap();
        fs::write(toolchain.join("tool"), "t").unwrap();
        let mut policy = house.policy("cd /home/me && echo * */*");
        policy.read_only.push(Mount { host: house.host("home/me/tools"), inside: inside("/home/me/tools") });
        let ran = house.run_policy(&policy).await;
        assert_eq!((ran.exit, ran.console.as_str()), (Exit::Code(0), "tools tools/tool\n"));
    }
}

#[test]
fn the_root_of_this_host_holds_no_private_folder() {
    let toolchain = sandbox::HostToolchain::of_this_host().unwrap();
    for folder in ["/home", "/root", "/var", "/run", "/etc/ssl/private", "/etc/shadow"] {
        let folder = PathBuf::from(folder);
        assert!(toolchain.binds.iter().all(|bind| !folder.starts_with(bind.host.as_path())), "{folder:?}");
    }
}
