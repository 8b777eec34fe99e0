//! The request that becomes a WebSocket.

use std::net::{IpAddr, SocketAddr};

use tokio_tungstenite::tungstenite::{
    handshake::server::{ErrorResponse, Request, Response},
    http::{HeaderMap, HeaderValue, StatusCode, Uri},
};

/// The protocol within WebSocket's, as ttyd calls it.
const PROTOCOL: &str = "tty";

/// Where ttyd has its WebSockets.
const PATH: &str = "/ws";

/// Says whether a request to `here` is taken, or with what it is refused.
pub(super) fn answer(here: SocketAddr, request: &Request, mut response: Response) -> Result<Response, StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::FORBIDDEN);
    }
    if !is_for(here, request.headers()) || !is_from_here(request.headers()) {
        return Err(StatusCode::FORBIDDEN);
    }
    if !offers_protocol(request.headers()) {
        return Err(StatusCode::BAD_REQUEST);
    }
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

/// The answer to a request that is refused.
pub(super) fn refusal(status: StatusCode) -> ErrorResponse {
    let mut refusal = ErrorResponse::new(None);
    *refusal.status_mut() = status;
    refusal.headers_mut().insert("Content-Length", HeaderValue::from_static("0"));
    refusal.headers_mut().insert("Connection", HeaderValue::from_static("close"));
    refusal
}

/// Whether the client believes to be talking to loopback, and not to a name of elsewhere that has become this address.
fn is_for(here: SocketAddr, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all("Host").iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Some(uri) = host.to_str().ok().and_then(|host| format!("http://{host}/").parse::<Uri>().ok()) else {
        return false;
    };
    is_loopback(&uri) && uri.port_u16().unwrap_or(80) == here.port()
}

/// Whether the page that asks, if it is one, was itself loaded from this machine.
fn is_from_here(headers: &HeaderMap) -> bool {
    let is_local = |origin: &HeaderValue| {
        let uri = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && is_loopback(&uri))
    };
    headers.get_all("Origin").iter().all(is_local)
}

fn is_loopback(uri: &Uri) -> bool {
    let Some(authority) = uri.authority().filter(|authority| !authority.as_str().contains('@')) else { return false };
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn offers_protocol(headers: &HeaderMap) -> bool {
    let offered = headers.get_all("Sec-WebSocket-Protocol").iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|protocol| protocol.trim() == PROTOCOL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match answer("127.0.0.1:7681".parse().unwrap(), &request, Response::new(())) {
            Ok(_) => 101,
            Err(status) => status.as_u16(),
        }
    }

    #[test]
    fn a_request_is_for_this_place_and_from_this_machine() {
        let tty = ("Sec-WebSocket-Protocol", "tty");
        for host in ["127.0.0.1:7681", "localhost:7681", "LOCALHOST:7681", "[::1]:7681"] {
            assert_eq!(asked("/ws", &[tty, ("Host", host)]), 101, "{host}");
        }
        for host in [
            "evil.example:7681",
            "localhost",
            "localhost:80",
            "127.0.0.1.evil.example:7681",
            "a@localhost:7681",
            "",
            "x y",
        ] {
            assert_eq!(asked("/ws", &[tty, ("Host", host)]), 403, "{host}");
        }
        let here = ("Host", "localhost:7681");
        assert_eq!(asked("/ws", &[tty]), 403, "no host");
        assert_eq!(asked("/ws", &[tty, here, here]), 403, "two hosts");
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"] {
            assert_eq!(asked("/ws", &[tty, here, ("Origin", origin)]), 101, "{origin}");
        }
        for origin in
            ["https://evil.example", "null", "file://", "http://localhost.evil.example", "http://a@localhost", ""]
        {
            assert_eq!(asked("/ws", &[tty, here, ("Origin", origin)]), 403, "{origin}");
        }
        for path in ["/token", "/", "/ws/"] {
            assert_eq!(asked(path, &[tty, here]), 403, "{path}");
        }
        assert_eq!(asked("/ws", &[here]), 400);
        assert_eq!(asked("/ws", &[here, ("Sec-WebSocket-Protocol", "chat, tty")]), 101);
    }
}
