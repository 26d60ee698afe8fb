//! A web server for one person on one machine: it listens on the loopback address alone, answers GET, and knows no files.
//!
//! Requests are parsed by `httparse`. What a page of somebody else could do through a browser is refused: another name for this machine
//! (DNS rebinding) by the `Host` header, embedding by `Sec-Fetch-Site`.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bytes of the longest request.
const LONGEST: usize = 16 << 10;

/// Headers of a request; browsers send about twenty.
const HEADERS: usize = 64;

/// Connections at once; browsers open six to a host, and some in advance.
const CONNECTIONS: usize = 32;

/// How long a connection may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a page may do: nothing that leaves this server.
const POLICY: &str = "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An answer.
pub struct Response {
    status: &'static str,
    kind: &'static str,
    body: Arc<[u8]>,
}

impl Response {
    /// What was asked for, of this media type.
    pub fn new(kind: &'static str, body: impl Into<Arc<[u8]>>) -> Self {
        Self { status: "200 OK", kind, body: body.into() }
    }

    /// Why there is nothing else, as one of HTTP's answers and in words.
    pub fn refusal(status: &'static str, why: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: why.as_bytes().into() }
    }

    fn write(&self, to: &mut impl Write, with_body: bool) -> io::Result<()> {
        write!(
            to,
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {POLICY}\r\nCross-Origin-Resource-Policy: same-origin\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        )?;
        if with_body {
            to.write_all(&self.body)?;
        }
        to.flush()
    }
}

/// Listens on the loopback address; port 0 takes a free one.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Answers requests for paths, each on a thread of its own, for as long as the program runs.
pub fn serve(listener: &TcpListener, answer: impl Fn(&str) -> Response + Send + Sync + 'static) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    let answer = Arc::new(answer);
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        // A connection that is gone before it was taken is no reason to stop.
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if open.load(Ordering::Relaxed) >= CONNECTIONS {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (answer, closed) = (answer.clone(), open.clone());
        let thread = std::thread::Builder::new().name("connection".into()).spawn(move || {
            // Whoever went away does not want the answer any more.
            let _ = converse(stream, port, &*answer);
            closed.fetch_sub(1, Ordering::Relaxed);
        });
        if thread.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One request and its answer.
fn converse(mut stream: TcpStream, port: u16, answer: &dyn Fn(&str) -> Response) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut received = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&chunk[..count]);
        if let Some((response, with_body)) = response(&received, port, answer) {
            response.write(&mut io::BufWriter::new(&mut stream), with_body)?;
            return stream.shutdown(std::net::Shutdown::Write);
        }
    }
}

/// The answer to what has been received, and whether its body is wanted; `None` while the request is not complete.
fn response(received: &[u8], port: u16, answer: &dyn Fn(&str) -> Response) -> Option<(Response, bool)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(received) {
        Ok(httparse::Status::Partial) if received.len() < LONGEST => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some((Response::refusal("431 Request Header Fields Too Large", "the request is too long"), true));
        }
        Err(_) => return Some((Response::refusal("400 Bad Request", "this is no HTTP request"), true)),
        Ok(httparse::Status::Complete(_)) => {}
    }
    let values = |name: &str| {
        let of = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        of.map(|header| str::from_utf8(header.value).unwrap_or_default()).collect::<Vec<_>>()
    };
    let refusal = |status, why| Some((Response::refusal(status, why), true));
    match values("host")[..] {
        [host] if is_this_machine(host, port) => {}
        _ => return refusal("403 Forbidden", "this server answers to 127.0.0.1 and localhost alone"),
    }
    if values("sec-fetch-site").iter().any(|site| !["same-origin", "none"].contains(site)) {
        return refusal("403 Forbidden", "this server answers no other site");
    }
    match (request.method, request.path) {
        (Some("GET"), Some(path)) => Some((answer(path), true)),
        (Some("HEAD"), Some(path)) => Some((answer(path), false)),
        _ => refusal("405 Method Not Allowed", "this server answers GET alone"),
    }
}

/// Whether a `Host` header means this machine and this port.
fn is_this_machine(host: &str, port: u16) -> bool {
    let named = |name: &str| host == format!("{name}:{port}") || (port == 80 && host == name);
    ["127.0.0.1", "localhost"].into_iter().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &str) -> Option<(&'static str, bool)> {
        let answer = |path: &str| Response::new("text/plain", path.as_bytes());
        response(request.as_bytes(), 8000, &answer).map(|(response, with_body)| (response.status, with_body))
    }

    #[test]
    fn only_what_this_machine_asks_for_is_answered() {
        let get = |more: &str| answered(&format!("GET / HTTP/1.1\r\n{more}\r\n\r\n"));
        for host in ["Host: 127.0.0.1:8000", "host: localhost:8000", "Host: 127.0.0.1:8000\r\nSec-Fetch-Site: none"] {
            assert_eq!(get(host), Some(("200 OK", true)), "{host}");
        }
        for host in [
            "Host: evil.example:8000",
            "Host: 127.0.0.1.evil.example:8000",
            "Host: 127.0.0.1:8001",
            "Host: 127.0.0.1",
            "Host: 127.0.0.1:8000\r\nHost: evil.example",
            "Host: 127.0.0.1:8000\r\nSec-Fetch-Site: cross-site",
            "Accept: */*",
        ] {
            assert_eq!(get(host), Some(("403 Forbidden", true)), "{host}");
        }
    }

    #[test]
    fn requests_have_a_form_and_a_length() {
        assert_eq!(answered("GET / HTTP/1.1\r\nHost: local"), None);
        assert_eq!(answered("HEAD / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"), Some(("200 OK", false)));
        assert_eq!(answered("POST / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"), Some(("405 Method Not Allowed", true)));
        assert_eq!(answered("\x16\x03\x01 hello"), Some(("400 Bad Request", true)));
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST));
        assert_eq!(answered(&long), Some(("431 Request Header Fields Too Large", true)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(answered(&many), Some(("431 Request Header Fields Too Large", true)));
    }
}
