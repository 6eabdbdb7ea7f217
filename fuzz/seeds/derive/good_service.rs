#[jsoncomm::service(name = "example.files", crate = "crate::rpc")]
pub trait Files<T: Clone = u8>: Send where T: 'static {
    /// Opens.
    fn open(&mut self, call: &mut Call, path: &str, more: Option<&str>, #[serde(default)] n: u8) -> Result<Opened, FilesError>;
    #[cfg(unix)]
    #[deprecated]
    fn changed(&mut self, call: &mut Call, paths: &[String], of: &T) -> Deferred<Stamp, FilesError>;
    #[serde(rename = "tail", alias = "follow")]
    fn r#move(&self, #[fd] files: Vec<OwnedFd>, #[fd] one: Option<File>) -> u8 where Self: Sized, T: Debug;
    #[oneway]
    fn log_to(&mut self, #[fd] sink: OwnedFd);
}
