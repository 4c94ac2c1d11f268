//! Streams to the guest, by our vsock device: the same for every backend.

use lighter_vmm::vsock::{ConnectError, Vsock};

use crate::{ClientStream, ConnectDone, Error};

/// Joins a stream to a port of the guest; see [`crate::Vm::connect`].
pub fn connect(vsock: &Vsock, port: u32, first: Vec<u8>, stream: ClientStream, done: ConnectDone) {
    let done = move |result: Result<(), (ConnectError, ClientStream)>| {
        done(result.map_err(|(error, stream)| (words(error, port), stream)));
    };
    vsock.connect(port, first, stream, Box::new(done));
}

fn words(error: ConnectError, port: u32) -> Error {
    use ConnectError as E;
    match error {
        E::NotReady => Error::NotReady,
        E::Refused => Error::Refused { port },
        E::TooManyStreams => Error::TooManyStreams,
        E::Timeout => Error::Timeout,
        E::Gone => Error::Gone,
        E::BadSocket => Error::system(
            "watch a socket",
            "it is no stream socket, or there are too many",
        ),
    }
}
