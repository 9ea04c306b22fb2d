//! Reading the command section from the body.

use bytes::{Bytes, BytesMut};

use crate::{
    command::{self, Offered, Parser, Request},
    http::body::{self, BodyReader},
};

/// Why there are no commands.
pub(super) enum Unreadable {
    Body(body::Error),
    /// What was understood before the error.
    Protocol(Box<Request>, command::Error),
}

/// Reads the commands; what follows them in the last chunk is the beginning of the pack.
pub(super) async fn read_commands(
    body: &mut BodyReader,
    limits: command::Limits,
    offered: Offered,
) -> Result<(Request, Bytes), Unreadable> {
    let mut parser = Parser::new(limits, offered);
    let mut buffer = BytesMut::new();
    loop {
        let chunk = body.chunk().await.map_err(Unreadable::Body)?;
        let Some(chunk) = chunk else {
            // An empty body is what some clients send when there is nothing to do.
            if parser.is_empty() && buffer.is_empty() {
                return Ok((Request::default(), Bytes::new()));
            }
            let known = parser.request().clone();
            return parser
                .into_request()
                .map(|request| (request, Bytes::new()))
                .map_err(|error| Unreadable::Protocol(Box::new(known), error));
        };
        buffer.extend_from_slice(&chunk);
        match parser.feed(&buffer) {
            Ok((used, done)) => {
                let _ = buffer.split_to(used);
                if done {
                    let known = parser.request().clone();
                    let rest = buffer.freeze();
                    return parser
                        .into_request()
                        .map(|request| (request, rest))
                        .map_err(|error| Unreadable::Protocol(Box::new(known), error));
                }
            }
            Err(error) => {
                let known = Box::new(parser.request().clone());
                return Err(Unreadable::Protocol(known, error));
            }
        }
    }
}
