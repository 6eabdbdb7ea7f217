use jsoncomm::Message;

#[derive(Message)]
struct File {
    #[fd(pipe)]
    end: std::os::unix::net::UnixStream,
    #[fd(socket)]
    input: Option<std::process::ChildStdin>,
    #[fd(read)]
    peer: std::net::UdpSocket,
}

fn main() {}
