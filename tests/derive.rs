//! `derive(Message)`: descriptors as fields, serde's attributes, errors that name their field.

mod attributes;
mod descriptors;
mod nested;
mod types;

use jsoncomm::Message;
use jsoncomm::fds::Fds;
use jsoncomm::message::DecodeError;
use jsoncomm::message::{Json, Pack, Packer, Request, Unpack, Unpacker, UnusedFds, WithFds};
use jsoncomm::message::{decode, encode};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt::Debug;
use std::fs::File;
use std::marker::PhantomData;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

/// Returns `count` descriptors of /dev/null.
fn nulls(count: usize) -> Fds {
    let null = |_| OwnedFd::from(File::open("/dev/null").unwrap());
    Fds::from((0..count).map(null).collect::<Vec<_>>())
}

fn text<T: Pack>(value: &T) -> String {
    written(value).0
}

/// Returns the text, and the descriptors as a receiver would own them.
fn written<T: Pack>(value: &T) -> (String, Fds) {
    let (mut text, fds) = (Vec::new(), Packer::new());
    encode(value, &mut text, &fds).unwrap();
    let fds = fds.into_fds().into_iter();
    let fds: Vec<_> = fds.map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    (String::from_utf8(text).unwrap(), fds.into())
}

fn read<T: Message>(text: &str, count: usize) -> Result<T, DecodeError> {
    decode(text.as_bytes(), nulls(count), UnusedFds::Refuse)
}

/// Returns the text of a decoding error.
fn refusal<T: Message>(text: &str, count: usize) -> String {
    let Err(error) = read::<T>(text, count) else {
        unreachable!("{text} was accepted");
    };
    error.to_string()
}

/// Encodes and decodes a value.
fn round<T: Message>(value: &T) -> T {
    let (text, fds) = written(value);
    decode(text.as_bytes(), fds, UnusedFds::Refuse).unwrap()
}
