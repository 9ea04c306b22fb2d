//! The guard against a name server and web servers of the test's own, over real
//! sockets. Addresses of the loopback network stand for the private network; public
//! addresses are answered by the name server and never reached.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State as AxumState;
use axum::http::Request;
use axum::response::{IntoResponse as _, Response};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// What the name server answers for a name, one entry a lookup; the last stays.
type Zone = HashMap<&'static str, Vec<Vec<&'static str>>>;

/// A name server. An entry is an address, or the name that this one is an alias of.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<(String, RecordType), usize>>>,
}

impl NameServer {
    async fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked: Arc<Mutex<HashMap<(String, RecordType), usize>>> = Arc::default();
        let counts = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = answer(&zone, &counts, &question);
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        Self { address, asked }
    }

    fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.get(&(name.to_owned(), RecordType::A)).copied().unwrap_or(0)
    }
}

fn answer(
    zone: &Zone,
    counts: &Mutex<HashMap<(String, RecordType), usize>>,
    question: &Message,
) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    let Some(query) = question.queries.first().cloned() else { return answer };
    let kind = query.query_type();
    let mut name = query.name().clone();
    answer.add_query(query);
    loop {
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let Some(answers) = zone.get(text.as_str()) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return answer;
        };
        let count = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry((text.clone(), kind)).or_default();
            *count += 1;
            *count
        };
        let mut alias = None;
        for entry in &answers[(count - 1).min(answers.len() - 1)] {
            match (IpAddr::from_str(entry), kind) {
                (Ok(IpAddr::V4(a)), RecordType::A) => {
                    answer.add_answer(Record::from_rdata(name.clone(), 0, RData::A(A(a))));
                }
                (Ok(IpAddr::V6(a)), RecordType::AAAA) => {
                    answer.add_answer(Record::from_rdata(name.clone(), 0, RData::AAAA(AAAA(a))));
                }
                (Ok(_), _) => {}
                (Err(_), _) => {
                    let target = Name::from_ascii(format!("{entry}.")).unwrap();
                    let data = RData::CNAME(CNAME(target.clone()));
                    answer.add_answer(Record::from_rdata(name.clone(), 0, data));
                    alias = Some(target);
                }
            }
        }
        match alias {
            Some(target) => name = target,
            None => return answer,
        }
    }
}

#[derive(Clone)]
struct Site {
    hits: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    other: u16,
}

/// A web server that does what its path says.
async fn web(other: u16) -> (u16, Site) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let site = Site { hits: Arc::default(), seen: Arc::default(), other };
    let router = Router::new().fallback(serve).with_state(site.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (port, site)
}

async fn serve(AxumState(site): AxumState<Site>, request: Request<Body>) -> Response {
    site.hits.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    site.seen.lock().unwrap().push((path.clone(), request.headers().clone()));
    let to = |location: String| (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    match path.as_str() {
        "/to-metadata" => to("http://169.254.169.254/latest/meta-data/".into()),
        "/to-number" => to(format!("http://2130706433:{}/secret", site.other)),
        "/to-name" => to(format!("http://inside.test:{}/secret", site.other)),
        "/to-other" => to(format!("http://other.test:{}/secret", site.other)),
        "/to-file" => to("file:///etc/passwd".into()),
        "/to-here" => to("/plain".into()),
        "/to-userinfo" => to(format!("http://a:b@other.test:{}/", site.other)),
        "/loop" => to("/loop".into()),
        "/keep" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/echo")]).into_response(),
        "/echo" => request.into_body().into_response(),
        "/missing" => StatusCode::NOT_FOUND.into_response(),
        "/endless" => {
            let chunk = Bytes::from(vec![b'x'; 4096]);
            let stream =
                futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            Body::from_stream(stream).into_response()
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            "late".into_response()
        }
        "/stalls" => {
            let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("first"))]);
            let stream = futures::StreamExt::chain(first, futures::stream::pending());
            Body::from_stream(stream).into_response()
        }
        _ => "plain".into_response(),
    }
}

const PRIVATE: Allowed = Allowed { http: true, private: true };
const PUBLIC: Allowed = Allowed { http: true, private: false };

fn quick() -> Bounds {
    Bounds {
        total: Duration::from_secs(5),
        idle: Duration::from_secs(2),
        bytes: 1 << 16,
        ..Bounds::default()
    }
}

async fn get(guard: &Guard, url: &str, headers: HeaderMap) -> Result<Bytes, NetError> {
    let url = guard.check_url(url)?;
    guard.get(&url, headers, &quick()).await?.successful()?.bytes().await
}

#[track_caller]
fn code(outcome: Result<Bytes, NetError>) -> &'static str {
    outcome.expect_err("it was let through").code()
}

fn zone() -> Zone {
    HashMap::from([
        ("local.test", vec![vec!["127.0.0.1"]]),
        ("other.test", vec![vec!["127.0.0.1"]]),
        ("inside.test", vec![vec!["10.0.0.1"]]),
        ("metadata.test", vec![vec!["169.254.169.254"]]),
        ("mixed.test", vec![vec!["93.184.215.14", "127.0.0.1"]]),
        ("mixed6.test", vec![vec!["93.184.215.14", "::1"]]),
        ("mapped.test", vec![vec!["::ffff:127.0.0.1"]]),
        ("nat64.test", vec![vec!["64:ff9b::7f00:1"]]),
        ("sixtofour.test", vec![vec!["2002:7f00:1::1"]]),
        ("zero.test", vec![vec!["0.0.0.0"]]),
        ("alias.test", vec![vec!["local.test"]]),
        ("long-alias.test", vec![vec!["alias.test"]]),
        ("rebind.test", vec![vec!["127.0.0.1"], vec!["169.254.169.254"]]),
        ("empty.test", vec![vec![]]),
    ])
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_before_a_byte_is_sent() {
    let names = NameServer::start(zone()).await;
    let (port, site) = web(0).await;
    let guard = Guard::new(PUBLIC, vec![names.address]);
    for name in [
        "local",
        "inside",
        "metadata",
        "mixed",
        "mixed6",
        "mapped",
        "nat64",
        "sixtofour",
        "zero",
        "alias",
        "long-alias",
    ] {
        let url = format!("http://{name}.test:{port}/plain");
        assert_eq!(code(get(&guard, &url, HeaderMap::new()).await), "address_not_allowed", "{url}");
    }
    assert_eq!(site.hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn private_networks_are_reached_if_the_operator_allows_it_but_nothing_translated() {
    let names = NameServer::start(zone()).await;
    let (port, site) = web(0).await;
    let guard = Guard::new(PRIVATE, vec![names.address]);
    for host in ["local.test", "alias.test", "long-alias.test", "127.0.0.1"] {
        let body = get(&guard, &format!("http://{host}:{port}/plain"), HeaderMap::new()).await;
        assert_eq!(body.unwrap(), "plain", "{host}");
    }
    assert_eq!(site.hits.load(Ordering::SeqCst), 4);
    for name in ["metadata", "mapped", "nat64", "sixtofour", "zero"] {
        let url = format!("http://{name}.test:{port}/");
        assert_eq!(code(get(&guard, &url, HeaderMap::new()).await), "address_not_allowed", "{url}");
    }
}

#[tokio::test]
async fn names_that_lead_nowhere_are_told_apart() {
    let names = NameServer::start(zone()).await;
    let guard = Guard::new(PUBLIC, vec![names.address]);
    for name in ["nobody.test", "empty.test"] {
        let outcome = get(&guard, &format!("http://{name}/"), HeaderMap::new()).await;
        assert_eq!(code(outcome), "host_not_found", "{name}");
    }
}

/// The second answer of the name server is another than the first: whatever is asked
/// for the connection itself is what is checked.
#[tokio::test]
async fn an_answer_that_changes_is_checked_again() {
    let names = NameServer::start(zone()).await;
    let (port, _) = web(0).await;
    let guard = Guard::new(PRIVATE, vec![names.address]);
    let url = format!("http://rebind.test:{port}/stalls");
    let first = guard.get(&guard.check_url(&url).unwrap(), HeaderMap::new(), &quick()).await;
    // One look-up for one connection: there is no second one that could differ.
    assert_eq!(names.asked("rebind.test"), 1);
    let answer = first.unwrap();
    // While the first is held, another request needs another connection.
    let second = get(&guard, &url, HeaderMap::new()).await;
    assert_eq!(code(second), "address_not_allowed");
    assert_eq!(names.asked("rebind.test"), 2);
    drop(answer);
}

#[tokio::test]
async fn redirects_are_checked_as_the_first_url_was() {
    let names = NameServer::start(zone()).await;
    let (inner, secret) = web(0).await;
    let (port, _) = web(inner).await;
    let guard = Guard::new(PRIVATE, vec![names.address]);
    for (path, expected) in [
        ("to-metadata", "address_not_allowed"),
        ("to-number", "url_not_allowed"),
        ("to-file", "url_not_allowed"),
        ("to-userinfo", "url_not_allowed"),
        ("loop", "too_many_redirects"),
        ("missing", "http_status"),
    ] {
        let url = format!("http://local.test:{port}/{path}");
        let outcome = get(&guard, &url, HeaderMap::new());
        assert_eq!(code(outcome.await), expected, "{path}");
    }
    assert_eq!(secret.hits.load(Ordering::SeqCst), 0);
    let body = get(&guard, &format!("http://local.test:{port}/to-here"), HeaderMap::new()).await;
    assert_eq!(body.unwrap(), "plain");
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let names = NameServer::start(zone()).await;
    let (inner, other) = web(0).await;
    let (port, first) = web(inner).await;
    let guard = Guard::new(PRIVATE, vec![names.address]);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer hunter2".parse().unwrap());
    headers.insert("x-token", "hunter2".parse().unwrap());
    headers.insert(header::ACCEPT, "text/plain".parse().unwrap());
    for path in ["to-other", "to-here"] {
        get(&guard, &format!("http://local.test:{port}/{path}"), headers.clone()).await.unwrap();
    }
    let seen = other.seen.lock().unwrap();
    let (_, headers) = seen.first().unwrap();
    assert_eq!(headers.get(header::ACCEPT).unwrap(), "text/plain");
    assert!(!format!("{headers:?}").contains("hunter2"), "{headers:?}");
    let seen = first.seen.lock().unwrap();
    let (_, headers) = seen.iter().find(|(path, _)| path == "/plain").unwrap();
    assert_eq!(headers.get(header::AUTHORIZATION).unwrap(), "Bearer hunter2");
}

#[tokio::test]
async fn a_body_is_sent_again_only_where_the_method_stays() {
    let (port, _) = web(0).await;
    let guard = Guard::new(PRIVATE, Vec::new());
    let url = |path: &str| guard.check_url(&format!("http://127.0.0.1:{port}/{path}")).unwrap();
    let body = Bytes::from("ping");
    let kept = guard.post(&url("keep"), HeaderMap::new(), body.clone(), &quick()).await.unwrap();
    assert_eq!(kept.url().path(), "/echo");
    assert_eq!(kept.bytes().await.unwrap(), "ping");
    let other = guard.post(&url("to-here"), HeaderMap::new(), body.clone(), &quick()).await;
    assert_eq!(other.unwrap().status(), StatusCode::FOUND);
    let none = Bounds { redirects: 0, ..quick() };
    let other = guard.post(&url("keep"), HeaderMap::new(), body, &none).await.unwrap();
    assert_eq!(other.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn size_and_time_are_bounded() {
    let (port, _) = web(0).await;
    let guard = Guard::new(PRIVATE, Vec::new());
    let url = |path: &str| guard.check_url(&format!("http://127.0.0.1:{port}/{path}")).unwrap();
    let mut kept = Vec::new();
    let outcome = guard.download(&url("endless"), HeaderMap::new(), &quick(), &mut kept).await;
    let Err(DownloadError::Net(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.code(), "too_large");
    assert!(kept.len() <= 1 << 16);

    let short = Bounds { total: Duration::from_millis(300), ..quick() };
    let begun = std::time::Instant::now();
    let slow = guard.get(&url("slow"), HeaderMap::new(), &short).await.map(|_| Bytes::new());
    assert_eq!(code(slow), "timeout");
    let answer = guard.get(&url("stalls"), HeaderMap::new(), &short).await.unwrap();
    assert_eq!(code(answer.bytes().await), "timeout");
    let idle = Bounds { idle: Duration::from_millis(300), ..quick() };
    let mut answer = guard.get(&url("stalls"), HeaderMap::new(), &idle).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    assert_eq!(answer.chunk().await.unwrap_err().code(), "timeout");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

/// A server whose headers never end.
#[tokio::test]
async fn headers_are_bounded() {
    use tokio::io::AsyncWriteExt as _;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let _ = socket.read(&mut buffer).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
        let line = format!("x-more: {}\r\n", "x".repeat(8000));
        while socket.write_all(line.as_bytes()).await.is_ok() {}
    });
    let guard = Guard::new(PRIVATE, Vec::new());
    let outcome = get(&guard, &format!("http://127.0.0.1:{port}/"), HeaderMap::new()).await;
    assert_eq!(code(outcome), "connection_failed");
}

/// Port 443 speaks no TLS here, so the handshake fails; the sentence says so.
#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let (port, _) = web(0).await;
    let guard = Guard::new(PRIVATE, Vec::new());
    let outcome = get(&guard, &format!("https://127.0.0.1:{port}/"), HeaderMap::new()).await;
    assert_eq!(code(outcome), "tls_failed");
}
