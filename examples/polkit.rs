//! A privileged daemon that asks polkit before it does what a method stands for. The rule is asked before the arguments are
//! read, and the call waits for the answer of `pkcheck`, a child process, while others are served.
//!
//! ```text
//! cargo run --example polkit -- SOCKET [PKCHECK]     serves at SOCKET; PKCHECK is the program to ask, `pkcheck` by default
//! ```
//!
//! Then, as a user: `jsoncomm call SOCKET example.power.reboot '[5]'`. It needs Linux 6.5, since it refuses processes whose
//! pidfd it does not know. The action has to be known to polkit, which reads `/usr/share/polkit-1/actions`.

#[path = "polkit/authority.rs"]
mod authority;

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use jsoncomm::address::Bind;
use jsoncomm::{Kind, Limits, Server};

use authority::Authority;

#[jsoncomm::service(name = "example.power")]
trait Power {
    /// How long the machine has been on, in seconds. Everybody may ask.
    fn uptime(&mut self) -> u64;
    /// Reboots after so many seconds, if polkit grants `org.example.power.reboot`.
    fn reboot(&mut self, delay: u32) -> String;
}

struct Machine;

impl Power for Machine {
    fn uptime(&mut self) -> u64 {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = uptime.split('.').next().and_then(|text| text.parse().ok());
        seconds.unwrap_or_default()
    }

    fn reboot(&mut self, delay: u32) -> String {
        format!("would reboot in {delay} s")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let socket = arguments.next().ok_or("usage: polkit SOCKET [PKCHECK]")?;
    let program = arguments.next().unwrap_or_else(|| "pkcheck".into());
    let authority = Arc::new(Authority::new(program));
    let mut server = Server::new(Limits::default())?;
    server
        .bind(Bind::at(&socket).mode(0o666), Kind::Seqpacket)?
        .with_pidfds()
        .serve::<dyn Power>()
        // All that has no rule of its own needs the grant.
        .authorize_calls(move |call| authority.check("org.example.power.reboot", call.peer()))
        .authorize_method("example.power.uptime", |_| true);
    writeln!(io::stdout(), "serving at {}", socket.display())?;
    server.run(&mut Machine)?;
    Ok(())
}
