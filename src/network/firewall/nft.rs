//! The packet filter's netlink dialect (linux/netfilter/nf_tables.h): tables, chains, sets, rules and the few
//! expressions that our rules are made of. Encodes only; what the rules are is decided in [`rules`](super::rules).

use crate::base::sys::netlink::{self, ACK, APPEND, CREATE, Message, Reply};

/// Subsystem number of nf_tables (linux/netfilter/nfnetlink.h), the high byte of message types.
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;

const ATTR_TABLE_NAME: u16 = 1;
/// `TABLE` is the first attribute of chains, rules, sets and element lists alike.
const ATTR_TABLE: u16 = 1;
const ATTR_LIST_ELEM: u16 = 1;
const ATTR_DATA_VALUE: u16 = 1;

/// 32-bit registers in which keys and results are put together.
pub(super) const REG: u32 = libc::NFT_REG32_00 as u32;
/// Where a verdict goes.
const REG_VERDICT: u32 = libc::NFT_REG_VERDICT as u32;
/// `enum nft_meta_keys`.
const META_IIFNAME: u32 = libc::NFT_META_IIFNAME as u32;
const META_OIFNAME: u32 = libc::NFT_META_OIFNAME as u32;
const META_L4PROTO: u32 = libc::NFT_META_L4PROTO as u32;

/// The address family of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => libc::NFPROTO_IPV4 as u8,
            Self::V6 => libc::NFPROTO_IPV6 as u8,
        }
    }

    /// Bytes of an address.
    pub fn address_length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Where source and destination are in the header (RFC 791, RFC 8200).
    fn offset(self, field: AddressField) -> u32 {
        match (self, field) {
            (Self::V4, AddressField::Source) => 12,
            (Self::V4, AddressField::Destination) => 16,
            (Self::V6, AddressField::Source) => 8,
            (Self::V6, AddressField::Destination) => 24,
        }
    }
}

/// An address in the IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AddressField {
    Source,
    Destination,
}

/// An interface that a packet came in by or goes out by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    In,
    Out,
}

/// What a rule does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Drop,
    Accept,
}

/// How a value is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Is {
    Equal = 0,
    Different = 1,
}

/// A table of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub family: Family,
    pub name: &'static str,
}

/// A hook that a chain is called from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    pub kind: &'static str,
    pub number: i32,
    pub priority: i32,
    pub policy: Verdict,
}

/// A map from packet fields to a destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    pub name: &'static str,
    /// Numbers by which the `nft` tool knows how to print the fields; the kernel only keeps them.
    pub key_type: u32,
    pub key_length: u32,
    pub data_type: u32,
    pub data_length: u32,
}

/// An expression of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expr<'a> {
    /// The packet's interface is (not) this one.
    Interface(Direction, Is, &'a str),
    /// An address is in this prefix: its bytes and its length in bits.
    InPrefix(AddressField, &'a [u8], u8),
    /// The destination (or source) is an address of this host.
    Local(AddressField),
    /// Any of these connection states: bits of [`CT_ESTABLISHED`] and [`CT_RELATED`].
    CtState(u32),
    /// The connection's destination was translated.
    CtDestinationTranslated,
    /// Loads the transport protocol into a register.
    LoadProtocol(u32),
    /// Loads the destination port into a register.
    LoadPort(u32),
    /// Loads the destination address into a register.
    LoadDestination(u32),
    /// Looks the key from [`REG`] up; the result replaces it. No match ends the rule.
    LookUp(&'a str),
    /// Translates the destination to the address and port at these registers.
    Translate {
        address: u32,
        port: u32,
    },
    Masquerade,
    Verdict(Verdict),
    Jump(&'a str),
}

/// Connection states (`nft describe ct state`).
pub(super) const CT_ESTABLISHED: u32 = 1 << 1;
pub(super) const CT_RELATED: u32 = 1 << 2;
/// `IPS_DST_NAT` of linux/netfilter/nf_conntrack_common.h.
const STATUS_DST_NAT: u32 = 1 << 5;

/// Encloses `messages` in one transaction: all of it happens or nothing.
pub(super) fn transaction(messages: Vec<Message>) -> Vec<Message> {
    let mark = |kind: i32| Message::new(kind as u16, 0, &[0, 0, 0, SUBSYSTEM as u8]);
    let mut batch = Vec::with_capacity(messages.len() + 2);
    batch.push(mark(libc::NFNL_MSG_BATCH_BEGIN));
    let last = messages.len().saturating_sub(1);
    // One answer is enough; hundreds would overflow the socket's buffer.
    let quiet = |(n, message): (usize, Message)| if n == last { message } else { message.unacknowledged() };
    batch.extend(messages.into_iter().enumerate().map(quiet));
    batch.push(mark(libc::NFNL_MSG_BATCH_END));
    batch
}

/// The groups to which the kernel tells of changes.
pub(super) const GROUPS: u32 = 1 << (libc::NFNLGRP_NFTABLES - 1);

/// Whether a message tells of the loss of this table or of one of its chains.
pub(super) fn is_loss(reply: &Reply, table: &str) -> bool {
    let kinds = [libc::NFT_MSG_DELTABLE, libc::NFT_MSG_DELCHAIN].map(|kind| SUBSYSTEM << 8 | kind as u16);
    let named = |body| netlink::attribute(body, ATTR_TABLE).is_some_and(|name| netlink::text(name) == table);
    kinds.contains(&reply.kind) && reply.payload.get(4..).is_some_and(named)
}

impl Table {
    fn message(self, kind: i32, flags: u16) -> Message {
        Message::new(SUBSYSTEM << 8 | kind as u16, flags | ACK, &[self.family.number(), 0, 0, 0])
    }

    /// Makes the table if it is missing.
    pub fn ensure(self) -> Message {
        self.message(libc::NFT_MSG_NEWTABLE, CREATE).text(ATTR_TABLE_NAME, self.name)
    }

    /// Asks for a chain.
    pub fn get_chain(self, name: &str) -> Message {
        self.message(libc::NFT_MSG_GETCHAIN, 0).text(ATTR_TABLE, self.name).text(3, name)
    }

    /// Makes a chain if it is missing.
    pub fn ensure_chain(self, name: &str, hook: Option<Hook>) -> Message {
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const POLICY: u16 = 5;
        const TYPE: u16 = 7;
        let message =
            self.message(libc::NFT_MSG_NEWCHAIN, CREATE).text(ATTR_TABLE, self.name).text(NAME, name);
        let Some(hook) = hook else { return message };
        message
            .nest(HOOK, |m| m.number_be(1, hook.number as u32).number_be(2, hook.priority as u32))
            .number_be(POLICY, hook.policy.number())
            .text(TYPE, hook.kind)
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(self, chain: &str) -> Message {
        self.message(libc::NFT_MSG_DELRULE, 0).text(ATTR_TABLE, self.name).text(2, chain)
    }

    /// Adds a rule to the end of a chain.
    pub fn rule(self, chain: &str, expressions: &[Expr<'_>]) -> Message {
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        let message = self
            .message(libc::NFT_MSG_NEWRULE, CREATE | APPEND)
            .text(ATTR_TABLE, self.name)
            .text(CHAIN, chain);
        message.nest(EXPRESSIONS, |m| expressions.iter().fold(m, |m, e| e.encode(m, self.family)))
    }

    /// Makes a map if it is missing.
    pub fn ensure_map(self, map: Map) -> Message {
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LEN: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const DATA_LEN: u16 = 7;
        const ID: u16 = 10;
        self.message(libc::NFT_MSG_NEWSET, CREATE)
            .text(ATTR_TABLE, self.name)
            .text(NAME, map.name)
            .number_be(FLAGS, libc::NFT_SET_MAP as u32)
            .number_be(KEY_TYPE, map.key_type)
            .number_be(KEY_LEN, map.key_length)
            .number_be(DATA_TYPE, map.data_type)
            .number_be(DATA_LEN, map.data_length)
            .number_be(ID, 1)
    }

    /// Removes all elements of a map.
    pub fn flush_map(self, map: &str) -> Message {
        self.message(libc::NFT_MSG_DELSETELEM, 0).text(ATTR_TABLE, self.name).text(2, map)
    }

    /// Adds an element to a map. The same element again is no error, the same key with another value is.
    pub fn add_element(self, map: &str, key: &[u8], data: &[u8]) -> Message {
        self.element(libc::NFT_MSG_NEWSETELEM, CREATE, map, key, Some(data))
    }

    /// Removes the element of this key; it must exist.
    pub fn delete_element(self, map: &str, key: &[u8]) -> Message {
        self.element(libc::NFT_MSG_DELSETELEM, 0, map, key, None)
    }

    fn element(self, kind: i32, flags: u16, map: &str, key: &[u8], data: Option<&[u8]>) -> Message {
        const SET: u16 = 2;
        const ELEMENTS: u16 = 3;
        let value = |m: Message, attr, bytes: &[u8]| m.nest(attr, |m| m.attr(ATTR_DATA_VALUE, bytes));
        self.message(kind, flags).text(ATTR_TABLE, self.name).text(SET, map).nest(ELEMENTS, |m| {
            m.nest(ATTR_LIST_ELEM, |m| {
                let m = value(m, 1, key);
                data.into_iter().fold(m, |m, data| value(m, 2, data))
            })
        })
    }
}

impl Verdict {
    fn number(self) -> u32 {
        match self {
            Self::Drop => libc::NF_DROP as u32,
            Self::Accept => libc::NF_ACCEPT as u32,
        }
    }
}

impl Expr<'_> {
    fn encode(self, to: Message, family: Family) -> Message {
        match self {
            Self::Interface(direction, is, name) => {
                let mut value = [0; libc::IFNAMSIZ];
                value.iter_mut().zip(name.as_bytes()).for_each(|(to, from)| *to = *from);
                let key = if direction == Direction::In { META_IIFNAME } else { META_OIFNAME };
                compare(meta(to, key, REG), is, &value)
            }
            Self::InPrefix(field, prefix, bits) => {
                let length = family.address_length();
                let mask: Vec<u8> = (0..length as u8).map(|n| mask_byte(bits, n)).collect();
                let masked: Vec<u8> = prefix.iter().zip(&mask).map(|(a, b)| a & b).collect();
                let loaded = payload(to, NETWORK, family.offset(field), length, REG);
                compare(bitwise(loaded, &mask), Is::Equal, &masked)
            }
            Self::Local(field) => {
                let flag = if field == AddressField::Source { 1 } else { 2 };
                let loaded =
                    expr(to, "fib", |m| m.number_be(1, REG).number_be(2, FIB_ADDRTYPE).number_be(3, flag));
                compare(loaded, Is::Equal, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
            }
            Self::CtState(bits) => any_bit(to, libc::NFT_CT_STATE as u32, bits),
            Self::CtDestinationTranslated => any_bit(to, libc::NFT_CT_STATUS as u32, STATUS_DST_NAT),
            Self::LoadProtocol(register) => meta(to, META_L4PROTO, register),
            Self::LoadPort(register) => payload(to, TRANSPORT, 2, 2, register),
            Self::LoadDestination(register) => payload(
                to,
                NETWORK,
                family.offset(AddressField::Destination),
                family.address_length(),
                register,
            ),
            Self::LookUp(map) => expr(to, "lookup", |m| m.text(1, map).number_be(2, REG).number_be(3, REG)),
            Self::Translate { address, port } => expr(to, "nat", |m| {
                m.number_be(1, libc::NFT_NAT_DNAT as u32)
                    .number_be(2, u32::from(family.number()))
                    .number_be(3, address)
                    .number_be(4, address)
                    .number_be(5, port)
                    .number_be(6, port)
            }),
            Self::Masquerade => expr(to, "masq", |m| m),
            Self::Verdict(verdict) => immediate(to, |m| m.number_be(1, verdict.number())),
            Self::Jump(chain) => immediate(to, |m| m.number_be(1, libc::NFT_JUMP as u32).text(2, chain)),
        }
    }
}

/// `enum nft_payload_bases`.
const NETWORK: u32 = libc::NFT_PAYLOAD_NETWORK_HEADER as u32;
const TRANSPORT: u32 = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32;
/// `NFT_FIB_RESULT_ADDRTYPE`.
const FIB_ADDRTYPE: u32 = 3;

fn expr(to: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    to.nest(ATTR_LIST_ELEM, |m| m.text(1, name).nest(2, data))
}

fn meta(to: Message, key: u32, register: u32) -> Message {
    expr(to, "meta", |m| m.number_be(1, register).number_be(2, key))
}

fn payload(to: Message, base: u32, offset: u32, length: u32, register: u32) -> Message {
    expr(to, "payload", |m| {
        m.number_be(1, register).number_be(2, base).number_be(3, offset).number_be(4, length)
    })
}

fn compare(to: Message, is: Is, value: &[u8]) -> Message {
    expr(to, "cmp", |m| {
        m.number_be(1, REG).number_be(2, is as u32).nest(3, |m| m.attr(ATTR_DATA_VALUE, value))
    })
}

fn bitwise(to: Message, mask: &[u8]) -> Message {
    let zeros = vec![0; mask.len()];
    expr(to, "bitwise", |m| {
        m.number_be(1, REG)
            .number_be(2, REG)
            .number_be(3, mask.len() as u32)
            .nest(4, |m| m.attr(ATTR_DATA_VALUE, mask))
            .nest(5, |m| m.attr(ATTR_DATA_VALUE, &zeros))
    })
}

fn any_bit(to: Message, key: u32, bits: u32) -> Message {
    let loaded = expr(to, "ct", |m| m.number_be(1, REG).number_be(2, key));
    compare(bitwise(loaded, &bits.to_ne_bytes()), Is::Different, &[0; 4])
}

fn immediate(to: Message, verdict: impl FnOnce(Message) -> Message) -> Message {
    const DATA_VERDICT: u16 = 2;
    expr(to, "immediate", |m| m.number_be(1, REG_VERDICT).nest(2, |m| m.nest(DATA_VERDICT, verdict)))
}

/// Byte `n` of a mask of `bits` leading ones.
fn mask_byte(bits: u8, n: u8) -> u8 {
    let ones = bits.saturating_sub(n * 8).min(8);
    if ones == 0 { 0 } else { 0xff << (8 - ones) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_as_many_leading_ones_as_the_prefix_says() {
        for (bits, mask) in [(0, [0, 0, 0, 0]), (8, [255, 0, 0, 0]), (20, [255, 255, 240, 0]), (32, [255; 4])]
        {
            assert_eq!([0, 1, 2, 3].map(|n| mask_byte(bits, n)), mask, "{bits}");
        }
    }
}
