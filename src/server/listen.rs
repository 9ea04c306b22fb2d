//! Accepts connections and serves HTTP/1 and h2c on them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// A client that sends its request head more slowly than this is cut off. Bodies
/// have time-outs of their own where they are read.
const HEAD: Duration = Duration::from_secs(30);

/// Serves until `stopping` is set, then lets running requests end for at most
/// `drain`.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    stopping: &CancellationToken,
    drain: Duration,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(true);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: that passes.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        // Answers are small or streamed in large pieces; waiting to fill a segment
        // only delays the small ones.
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let connection = builder
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(service.clone(), request, peer)),
            )
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Clients go away all the time.
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
}

async fn answer<S>(
    mut service: S,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}
