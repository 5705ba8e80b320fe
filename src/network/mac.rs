//! Hardware addresses: as users write them, and which the kernel takes.

use std::net::Ipv4Addr;

use super::NetworkError;
use super::link::Mac;

/// How many bytes an address may have (EUI-48, EUI-64, InfiniBand), of which an Ethernet interface takes the first.
const LENGTHS: [usize; 3] = [6, 8, 20];

/// `02:42:` and the address, so that a neighbour's memory of an address's last owner is never wrong.
pub(super) fn of(ip: Ipv4Addr) -> Mac {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x42, a, b, c, d]
}

/// As everybody writes it.
pub(super) fn print(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `02:42:ac:11:00:02`, with `-` in place of `:`, or in fours as `0242.ac11.0002`.
pub(super) fn parse(text: &str) -> Result<Mac, NetworkError> {
    let parsed = [(':', 2), ('-', 2), ('.', 4)].into_iter().find_map(|(mark, digits)| {
        let parts = || text.split(mark);
        let is_hex = |part: &str| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fits = LENGTHS.contains(&(parts().count() * digits / 2));
        (fits && parts().all(is_hex)).then(|| bytes(&parts().collect::<String>())).flatten()
    });
    parsed.ok_or_else(|| NetworkError::InvalidMac(text.to_owned()))
}

/// Whether an interface can have the address: one of a group is none's, and neither is that of nobody.
pub(super) fn is_one_s_own(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != Mac::default()
}

fn bytes(hex: &str) -> Option<Mac> {
    let mut mac = Mac::default();
    for (at, byte) in mac.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_and_read_back() {
        let mac = of("172.17.0.2".parse().unwrap());
        assert_eq!(print(mac), "02:42:ac:11:00:02");
        for good in [
            "02:42:ac:11:00:02",
            "02-42-AC-11-00-02",
            "0242.ac11.0002",
            "02:42:ac:11:00:02:03:04",
            "02:42:ac:11:00:02:03:04:05:06:07:08:09:10:11:12:13:14:15:16",
        ] {
            assert_eq!(parse(good).unwrap(), mac, "{good}");
        }
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:02:",
            "zz:42:ac:11:00:02",
            "2:42:ac:11:0:2",
            "02:42-ac:11:00:02",
            "0242ac110002",
            "02:42:ac:11:00:+2",
            "02:42:ac:11:00:02 ",
            "é2:42:ac:11:00:2",
        ] {
            assert_eq!(parse(bad).unwrap_err().to_string(), format!("address {bad}: invalid MAC address"));
        }
    }

    #[test]
    fn a_group_s_address_and_nobody_s_are_no_interface_s() {
        for (text, own) in [
            ("02:42:ac:11:00:02", true),
            ("00:11:22:33:44:55", true),
            ("00:00:00:00:00:00", false),
            ("01:00:5e:00:00:01", false),
            ("ff:ff:ff:ff:ff:ff", false),
        ] {
            assert_eq!(is_one_s_own(parse(text).unwrap()), own, "{text}");
        }
    }
}
