//! `proxy LISTEN SERVER…`: the proxy of the whole-stack tests as a process of its own.

#![allow(missing_docs)]

#[path = "mod.rs"]
mod proxy;

use std::net::SocketAddr;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut addresses = Vec::new();
    for argument in std::env::args().skip(1) {
        addresses.push(argument.parse::<SocketAddr>()?);
    }
    if addresses.len() < 2 {
        return Err("usage: proxy LISTEN SERVER…, each ADDRESS:PORT".into());
    }
    let listener = tokio::net::TcpListener::bind(addresses.remove(0)).await?;
    println!("listens on http://{}", listener.local_addr()?);
    proxy::serve(listener, addresses).await?;
    Ok(())
}
