//! Examples that end by themselves and print a result.

use rustix::process::geteuid;

use super::{example, text};
use jsoncomm_tests::{can_be_others, skip};

#[test]
fn open_broker_opens_for_each_user_the_files_of_its_list() {
    jsoncomm_tests::needs_proc!();
    if geteuid().is_root() && !can_be_others() {
        return;
    }
    let said = text(&example("open_broker").output().unwrap());
    if geteuid().is_root() {
        for user in [12_345, 12_346] {
            let denied = format!("user {user} opens it itself: Permission denied");
            assert!(said.contains(&denied), "{said}");
        }
        for line in [
            "user 12346 adds a line, and can read: false\n",
            "user 12346 would read: not on the list\n",
            "user 12345 would add a line: not on the list\n",
            "user 12345 reads 2 lines, and can write: false\n",
            // Root can open the file itself, and is refused all the same.
            "user 0 would read: not on the list\n",
        ] {
            assert!(said.contains(line), "{line}{said}");
        }
    } else {
        assert!(said.contains("reads 2 lines, and can write: false\n"));
        assert!(said.contains("adds a line, and can read: false\n"));
    }
    assert!(
        said.ends_with("asks for /etc/shadow: not on the list\n"),
        "{said}"
    );
}

#[test]
fn sandboxed_worker_can_only_read_the_descriptors_it_gets() {
    jsoncomm_tests::needs_proc!();
    if !matches!(std::env::consts::ARCH, "x86_64" | "aarch64" | "riscv64") {
        return skip("seccompiler makes no filter for this machine");
    }
    if geteuid().is_root() && !can_be_others() {
        return;
    }
    let output = example("sandboxed_worker").output().unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("Seccomp(") {
        return skip("a sandbox forbids seccomp(2)");
    }
    let said = text(&output);
    let lines: Vec<_> = said.lines().collect();
    let [read, tries @ .., ended] = &lines[..] else {
        panic!("{said}");
    };
    assert!(
        read.starts_with("the worker has read this file: "),
        "{said}"
    );
    assert_eq!(tries.len(), 6);
    for tried in tries {
        let error = match tried.contains("start a thread") {
            // musl's pthread_create(3) reports nothing else.
            true if cfg!(target_env = "musl") => "Resource temporarily unavailable (os error 11)",
            _ => "Operation not permitted (os error 1)",
        };
        assert!(tried.ends_with(&format!(": {error}")), "{said}");
    }
    assert_eq!(*ended, "the worker has ended");
}

#[test]
fn job_server_reports_each_exit_and_kills_jobs_of_disconnected_clients() {
    let said = text(&example("job_server").output().unwrap());
    let expected = "\
the second said \"quick\\n\": Ended { code: None, signal: Some(15) }
the first said \"a\\nb\\n\": Ended { code: Some(0), signal: None }
the third was killed when its call was dropped, and said \"\" more
the fourth was not run: No such file or directory (os error 2)
";
    assert_eq!(said, expected);
}

#[test]
fn log_follow_loses_lines_only_for_the_slow_follower() {
    let said = text(&example("log_follow").output().unwrap());
    let lines: Vec<_> = said.lines().collect();
    let [quick, slow, paused, whole, dropped] = lines[..] else {
        panic!("{said}");
    };
    assert_eq!(quick, "the quick follower got 5000 of 5000 lines");
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    let (got, lost) = (number(slow.split_once(',').unwrap().0), number(slow));
    assert_eq!(got + lost, 5_000, "{said}");
    assert!(lost > 1_000, "{said}");
    assert_eq!(
        number(dropped),
        lost,
        "items were lost without a report: {said}"
    );
    let read = number(paused.strip_suffix(" lines").unwrap());
    assert!(read < 4_000, "{said}");
    assert!(whole.ends_with("in order: true"), "{said}");
}

#[test]
fn big_payload_arrives_as_json_and_as_a_descriptor() {
    let said = text(&example("big_payload").output().unwrap());
    for line in [
        "as JSON: 16777236 bytes of JSON, 0 descriptors, the same sum\n",
        "as a descriptor: 19 bytes of JSON, 1 descriptors, the same sum\n",
        // The ratio is for readers.
        " times as long\n",
        "messages that came in a memfd: 3\n",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
}

#[test]
fn callbacks_end_an_auction_among_programs_that_call_each_other() {
    let said = text(&example("callbacks").output().unwrap());
    // It depends on who comes first.
    let prices = [60, 61].map(|price| format!("sold to Grace for {price}\n"));
    assert!(prices.contains(&said), "{said}");
}

#[test]
fn many_clients_get_replies_beside_a_hostile_one() {
    let said = text(&example("many_clients").output().unwrap());
    let lines: Vec<_> = said.lines().collect();
    let [alone, beside, asked, counts] = lines[..] else {
        panic!("{said}");
    };
    let number = |line: &str| line.split(' ').find_map(|word| word.parse::<u32>().ok());
    let clients = number(alone).unwrap();
    assert!(clients > 100, "{said}");
    // The duration is for readers.
    assert!(beside.starts_with("and a hostile one "), "{said}");
    assert!(number(asked).unwrap() > 10, "{said}");
    assert_eq!(number(counts), Some(clients + 2), "{said}");
}

#[test]
fn mocked_tests_callers_and_wrappers_without_a_daemon() {
    let said = text(&example("mocked").output().unwrap());
    assert_eq!(said.lines().count(), 8, "{said}");
    assert!(said.ends_with("and so is who is left\n"), "{said}");
}
