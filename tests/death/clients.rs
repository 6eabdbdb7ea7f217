//! Clients that die with calls in flight.

use super::*;

#[test]
fn calls_from_another_process() {
    let Some((kind, path)) = role() else { return };
    let connection = Connection::connect(&path, kind)
        .unwrap()
        .with_timeout(PATIENCE);
    let client = DeskClient::new(connection).start();
    let _calls: Vec<PendingCall<u64>> = (0..5).map(|_| client.never().unwrap()).collect();
    // More items than the socket has room for are being sent, and none is read.
    let _numbers = client.stall(50).unwrap();
    let kept = || DeskClient::new(open(&path)).kept().unwrap().0;
    wait_until(|| kept() >= 5);
    ready();
    // Blocks until this process is killed.
    let _ = channel::<()>().1.recv_timeout(PATIENCE);
}

#[test]
fn a_client_that_is_killed_leaves_nothing_behind() {
    alone!();
    for kind in KINDS {
        let server = Running::start(kind, Shelf::default(), |endpoint| {
            endpoint.serve::<dyn Desk>()
        });
        let desk = DeskClient::new(server.connect());
        desk.echo(0).unwrap();
        let before = open_fds();
        for _ in 0..3 {
            let role = format!("{kind:?} {}", server.path.display());
            let client = Other::start("clients::calls_from_another_process", &role);
            assert_eq!(desk.kept().unwrap().0, 5);
            client.kill();
            if kind == Kind::Seqpacket {
                // The kernel reports the hang-up of a connection. On datagrams only sending a reply detects it.
                wait_until(|| desk.kept().unwrap().1 == 0);
            }
            assert_eq!(desk.give().unwrap(), 6);
            assert_eq!(desk.kept().unwrap(), (0, 0));
            assert_eq!(desk.echo(1).unwrap().number, 1);
            assert_open_fds(before);
        }
    }
}
