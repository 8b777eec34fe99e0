//! Where WebSockets are awaited.

use std::{net::SocketAddr, str::FromStr};

/// An address that only this machine can connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loopback(pub(crate) SocketAddr);

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: SocketAddr =
            text.parse().map_err(|_| "write it as 127.0.0.1:7681 or [::1]:7681; port 0 is any".to_owned())?;
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err("others than this machine could connect there: take 127.0.0.1 or [::1]".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_can_connect() {
        for good in ["127.0.0.1:7681", "127.9.9.9:0", "[::1]:80"] {
            assert!(good.parse::<Loopback>().is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:7681", "[::]:7681", "192.168.1.1:80", "8.8.8.8:1", "localhost:1", "127.0.0.1", "7681", ""]
        {
            assert!(bad.parse::<Loopback>().is_err(), "{bad}");
        }
    }
}
