//! Any language with a unix socket and a JSON parser is a peer: one in Python, written from the wire page
//! alone, calls our server and is called by our client, on both kinds of socket, bare and in the envelope.

#[cfg(test)]
#[path = "peers/calling_python.rs"]
mod calling_python;
#[cfg(test)]
#[path = "peers/desk.rs"]
mod desk;
#[cfg(test)]
#[path = "peers/python.rs"]
mod python;
#[cfg(test)]
#[path = "peers/python_calling.rs"]
mod python_calling;
