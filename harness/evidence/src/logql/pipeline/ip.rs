//! `ip("10.0.0.0/8")`: addresses, networks and ranges.

use std::net::IpAddr;
use std::str::FromStr;

/// First and last address; both of the same family.
#[derive(Clone, Debug)]
pub(crate) struct IpMatch {
    first: IpAddr,
    last: IpAddr,
}

impl FromStr for IpMatch {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        let invalid = || format!("ip: invalid pattern: {pattern:?}");
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| invalid());
        if let Some((network, bits)) = pattern.split_once('/') {
            let bits: u32 = bits.parse().map_err(|_| invalid())?;
            return network_range(address(network)?, bits).ok_or_else(invalid);
        }
        if let Some((first, last)) = pattern.split_once('-') {
            let (first, last) = (address(first)?, address(last)?);
            return if first.is_ipv4() == last.is_ipv4() && first <= last {
                Ok(Self { first, last })
            } else {
                Err(invalid())
            };
        }
        let one = address(pattern)?;
        Ok(Self {
            first: one,
            last: one,
        })
    }
}

fn network_range(address: IpAddr, bits: u32) -> Option<IpMatch> {
    Some(match address {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            if bits > 32 {
                return None;
            }
            let base = u32::from(v4) & !host;
            IpMatch {
                first: IpAddr::V4(base.into()),
                last: IpAddr::V4((base | host).into()),
            }
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            if bits > 128 {
                return None;
            }
            let base = u128::from(v6) & !host;
            IpMatch {
                first: IpAddr::V6(base.into()),
                last: IpAddr::V6((base | host).into()),
            }
        }
    })
}

impl IpMatch {
    /// Whether the text is an address that fits; `None` when it is no address.
    pub(super) fn fits(&self, text: &str) -> Option<bool> {
        let address = text.parse::<IpAddr>().ok()?;
        Some(
            address.is_ipv4() == self.first.is_ipv4()
                && self.first <= address
                && address <= self.last,
        )
    }

    /// Whether any address in the line fits.
    pub(super) fn in_line(&self, line: &str) -> bool {
        line.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'))
            .any(|word| {
                let bare = word.trim_matches(['.', ':']);
                // `10.0.0.1:8080` is an address and a port.
                let host = bare.split_once(':').map_or(bare, |(host, _)| host);
                [word, bare, host]
                    .iter()
                    .any(|candidate| self.fits(candidate) == Some(true))
            })
    }
}
