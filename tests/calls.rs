//! Calls over both kinds of socket, end to end.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use jsoncomm::{Call, CallError, Fault, Handler, Message, Reply};
use jsoncomm_tests::{KINDS, Running};

/// Opens files for clients without access to them.
#[jsoncomm::service(name = "example.files")]
trait Files {
    /// Opens `path` for reading.
    fn open(&mut self, path: &str) -> Result<Opened, FilesError>;
    /// Returns all names.
    fn list(&mut self) -> Vec<String>;
    /// Returns the user of the caller.
    fn whoami(
        &mut self,
        call: &mut Call,
        tag: Option<&str>,
        ids: &[u32],
    ) -> Result<String, FilesError>;
    /// Takes a descriptor and returns its length.
    fn put(&mut self, path: String, #[fd] content: OwnedFd) -> Result<u64, FilesError>;
    /// Logs a line, without a reply.
    #[oneway]
    fn log(&mut self, line: &str);
}

/// An open file.
#[derive(Debug, Message)]
struct Opened {
    /// Its length.
    len: u64,
    /// The file.
    #[fd]
    file: File,
}

/// The errors of the service.
#[derive(Debug, Message, PartialEq, thiserror::Error)]
enum FilesError {
    /// No such file.
    #[error("no file {path}")]
    NotFound {
        /// The path that was requested.
        path: String,
    },
    /// Access denied.
    #[error("not allowed")]
    Denied,
}

#[derive(Debug, Default)]
struct Daemon {
    log: Vec<String>,
}

impl Files for Daemon {
    fn open(&mut self, path: &str) -> Result<Opened, FilesError> {
        match path {
            "secret" => Err(FilesError::Denied),
            _ => {
                let file =
                    File::open(path).map_err(|_| FilesError::NotFound { path: path.into() })?;
                let len = file.metadata().map(|meta| meta.len()).unwrap_or(0);
                Ok(Opened { len, file })
            }
        }
    }

    fn list(&mut self) -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    fn whoami(
        &mut self,
        call: &mut Call,
        tag: Option<&str>,
        ids: &[u32],
    ) -> Result<String, FilesError> {
        let peer = call.peer().ok_or(FilesError::Denied)?;
        Ok(format!(
            "{} {} {tag:?} {ids:?} {}",
            call.service(),
            call.method(),
            peer.pid() == Some(std::process::id())
        ))
    }

    fn put(&mut self, path: String, content: OwnedFd) -> Result<u64, FilesError> {
        let mut text = String::new();
        File::from(content)
            .read_to_string(&mut text)
            .map_err(|_| FilesError::NotFound { path })?;
        Ok(text.len() as u64)
    }

    fn log(&mut self, line: &str) {
        self.log.push(line.to_owned());
    }
}

/// A service as an enum of requests.
#[derive(Debug, Message)]
#[message(service = "example.jobs", reply = Tell)]
enum Ask {
    Run {
        program: String,
        #[fd]
        stdout: OwnedFd,
    },
    WaitFor {
        job: u32,
    },
    Forget,
}

#[derive(Debug, PartialEq, Message)]
enum Tell {
    Started { job: u32 },
    Exited { code: i32 },
}

impl Handler<Ask> for Daemon {
    fn handle(&mut self, _call: &mut Call, ask: Ask, reply: Reply<Tell>) {
        match ask {
            Ask::Run { program, stdout } => {
                drop(stdout);
                self.log.push(program);
                reply.send(Tell::Started { job: 1 });
            }
            Ask::WaitFor { job } => reply.send(Tell::Exited {
                code: i32::try_from(job).unwrap_or(-1),
            }),
            Ask::Forget => drop(reply),
        }
    }
}

#[test]
fn a_service_and_a_request_enum_share_one_socket() {
    for kind in KINDS {
        let server = Running::start(kind, Daemon::default(), |endpoint| {
            endpoint.serve::<dyn Files>().handle::<Ask>()
        });
        let connection = server.connect();
        let files = FilesClient::new(connection.clone());
        let opened = files.open("Cargo.toml").unwrap();
        assert_eq!(opened.file.metadata().unwrap().len(), opened.len);
        assert_eq!(files.list().unwrap(), ["a", "b"]);
        assert!(
            matches!(files.open("none"), Err(CallError::Service(FilesError::NotFound { path })) if path == "none")
        );
        assert!(matches!(
            files.open("secret"),
            Err(CallError::Service(FilesError::Denied))
        ));
        assert_eq!(
            files.whoami(Some("x"), &[1, 2]).unwrap(),
            "example.files whoami Some(\"x\") [1, 2] true"
        );
        assert_eq!(files.put("x", opened.file).unwrap(), opened.len);
        files.log("line").unwrap();
        let run = Ask::Run {
            program: "ls".into(),
            stdout: File::open("/dev/null").unwrap().into(),
        };
        assert_eq!(connection.request(&run).unwrap(), Tell::Started { job: 1 });
        assert_eq!(
            connection.request(&Ask::WaitFor { job: 4 }).unwrap(),
            Tell::Exited { code: 4 }
        );
        assert!(matches!(
            connection.request(&Ask::Forget),
            Err(CallError::Fault(Fault {
                code: Fault::NO_REPLY,
                ..
            }))
        ));
        let (state, _) = server.stop();
        assert_eq!(state.log, ["line", "ls"]);
    }
}
