//! Services of test.shelf.

/// The service `test.shelf`.
#[jsoncomm::service(name = "test.shelf")]
pub trait Shelf {
    /// Opens a file.
    /// In whatever way
    /// it can be opened.
    ///
    /// It stays open.
    fn open(&mut self, path: String, flags: Option<u32>) -> Result<Opened, ShelfError>;
    /// Names all.
    fn list(&mut self, least: u64) -> Result<Vec<String>, std::convert::Infallible>;
    /// Each line.
    fn follow(&mut self, call: &mut jsoncomm::Call, path: String) -> jsoncomm::Stream<LineWritten, ShelfError>;
    #[oneway]
    fn log_to(&mut self, #[fd] sink: std::os::fd::OwnedFd, #[fd(regular, write)] others: Vec<std::os::fd::OwnedFd>, #[fd(pipe)] spare: Option<std::os::fd::OwnedFd>);
    /// Puts a file back.
    fn put_back(&mut self, id: u8, names: Vec<String>, of: Line) -> Result<bool, std::convert::Infallible>;
}

/// Why a call is not carried out.
#[derive(Debug, jsoncomm::Message)]
pub enum ShelfError {
    NotFound {
        path: String,
    },
    Denied,
    Broken(String),
    #[message(other)]
    Unknown(jsoncomm::message::UnknownVariant),
}

/// An open file.
#[derive(Debug, jsoncomm::Message)]
pub struct Opened {
    /// In bytes.
    pub len: u64,
    #[fd(memfd(sealed), read)]
    pub file: std::os::fd::OwnedFd,
    #[fd]
    pub log: Option<std::os::fd::OwnedFd>,
}

#[derive(Debug, jsoncomm::Message)]
pub struct LineWritten {
    pub text: String,
    pub number: Option<u64>,
}

#[derive(Debug, jsoncomm::Message)]
pub struct Line {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

impl std::fmt::Display for ShelfError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
