//! The identity of peers of other users and user namespaces.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use jsoncomm::address::Bind;
use jsoncomm::{Fault, Kind, Limits, Server};
use jsoncomm_tests::{KINDS, Running, alone, assert_open_fds, can_be_others, open_fds, skip};
use serde_json::Value;

use super::*;

/// An unused user id.
const STRANGER: u32 = 4711;

/// Calls `who` from a new socket. A client that is not authorized may get the fault before it has sent anything, or an
/// error when it sends.
const PYTHON: &str = r#"import socket, sys
kind = {"Datagram": socket.SOCK_DGRAM, "Seqpacket": socket.SOCK_SEQPACKET}[sys.argv[1]]
s = socket.socket(socket.AF_UNIX, kind)
s.settimeout(20)
s.connect(sys.argv[2])
if kind == socket.SOCK_DGRAM:
    s.bind("")
try:
    s.send(b'{"jsonrpc":"2.0","id":5,"method":"test.gate.who"}')
    reply = s.recv(65536)
except (BrokenPipeError, ConnectionResetError):
    reply = s.recv(65536)
print(reply.decode())"#;

/// Calls as this user, which may be root of a new user namespace; `None` where that is not permitted.
fn ask(path: &Path, kind: Kind, user: u32, options: &[&str]) -> Option<Value> {
    ask_as(path, kind, (user, user), options)
}

/// Calls as this user and group.
fn ask_as(path: &Path, kind: Kind, (user, group): (u32, u32), options: &[&str]) -> Option<Value> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(options).uid(user).gid(group).current_dir("/");
        command
    };
    if !unshare().arg("true").output().unwrap().status.success() {
        return None;
    }
    let mut command = unshare();
    command.args(["python3", "-c", PYTHON, &format!("{kind:?}")]);
    let reply = command.arg(path).stderr(Stdio::inherit()).output().unwrap();
    Some(serde_json::from_slice(&reply.stdout).unwrap())
}

/// Lets every user connect to the socket file.
pub(super) fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn a_peer_is_authorized_by_the_user_id_that_the_kernel_reports() {
    alone!();
    if !can_be_others() {
        return;
    }
    let before = open_fds();
    for kind in KINDS {
        for admitted in [0, STRANGER] {
            let server = Running::start(kind, Guard::default(), move |endpoint| {
                let endpoint = endpoint.serve::<dyn Gate>();
                endpoint
                    .authorize(move |peer| peer.uid() == admitted && peer.gid() == Some(admitted))
            });
            open_to_all(server.path.parent().unwrap());
            open_to_all(&server.path);
            let mut asked = 0;
            // Root of another user namespace has its outer user id here.
            for (user, options) in [(0, &[][..]), (STRANGER, &[]), (STRANGER, &["-U", "-r"])] {
                let Some(reply) = ask(&server.path, kind, user, options) else {
                    skip("a user may not make a user namespace");
                    continue;
                };
                asked += 1;
                if user == admitted {
                    assert_eq!(reply["result"], user, "{kind:?} {options:?}")
                } else {
                    assert_eq!(reply["error"]["code"], Fault::NOT_AUTHORIZED, "{reply}")
                }
            }
            server.assert_busy_with(0);
            let (_, counts) = server.stop();
            assert_eq!(
                counts.handled + counts.refused_with(Fault::NOT_AUTHORIZED),
                asked
            );
        }
    }
    assert_open_fds(before);
}

/// Debian's `_apt` is such a user.
#[test]
fn a_user_with_the_overflow_group_is_known() {
    const OVERFLOW: u32 = 65534;
    if !can_be_others() {
        return;
    }
    for kind in KINDS {
        for who in [(STRANGER, OVERFLOW), (OVERFLOW, STRANGER)] {
            for admitted in [who, (STRANGER, STRANGER)] {
                let server = Running::start(kind, Guard::default(), move |endpoint| {
                    let endpoint = endpoint.serve::<dyn Gate>();
                    endpoint.authorize(move |peer| {
                        (peer.uid(), peer.gid()) == (admitted.0, Some(admitted.1))
                    })
                });
                open_to_all(server.path.parent().unwrap());
                open_to_all(&server.path);
                let reply = ask_as(&server.path, kind, who, &[]).unwrap();
                if who == admitted {
                    assert_eq!(reply["result"], who.0, "{kind:?}");
                } else {
                    assert_eq!(reply["error"]["code"], Fault::NOT_AUTHORIZED, "{reply}");
                }
            }
        }
    }
}

#[test]
fn serves_in_another_user_namespace() {
    let Some(path) = elsewhere() else { return };
    let mut server = Server::new(Limits::default()).unwrap();
    for kind in KINDS {
        for name in ["all", "known"] {
            let at = Bind::at(path.join(format!("{name} {kind:?}"))).mode(0o777);
            let endpoint = server.bind(at, kind).unwrap().serve::<dyn Gate>();
            if name == "known" {
                endpoint.authorize(|_| true);
            }
        }
    }
    report("ready");
    server.run(&mut Guard::default()).unwrap();
}

#[test]
fn a_user_without_a_mapped_id_is_never_authorized() {
    if !can_be_others() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path());
    let test = "users::serves_in_another_user_namespace";
    let Some(mut server) = Other::start(&["-U", "-r"], test, directory.path()) else {
        return;
    };
    assert_eq!(server.receive(), "ready");
    for kind in KINDS {
        let ask = |name: &str, user| {
            let path = directory.path().join(format!("{name} {kind:?}"));
            ask(&path, kind, user, &[]).unwrap()
        };
        for round in 0..3 {
            let reply = ask("known", STRANGER);
            assert_eq!(
                reply["error"]["code"],
                Fault::NOT_AUTHORIZED,
                "{round}: {reply}"
            );
            assert_eq!(ask("all", STRANGER)["result"], Value::Null);
            // The server still serves known users.
            assert_eq!(ask("known", 0)["result"], 0);
            assert_eq!(ask("all", 0)["result"], 0);
        }
    }
}
