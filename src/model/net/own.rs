//! The addresses of a cube itself. Owns these two numbers, which a guest's agent shares with the cube it lives in.

/// The cube's own address, outside of the pool (RFC 7600 has it as a dummy): the source of what reaches out, and where its
/// resolver asks. Libraries ask for names only where there is an address besides 127.0.0.1 (`AI_ADDRCONFIG`).
pub const OWN_V4: core::net::Ipv4Addr = core::net::Ipv4Addr::new(192, 0, 0, 8);
/// The same for IPv6.
pub const OWN_V6: core::net::Ipv6Addr = core::net::Ipv6Addr::new(0xfd74, 0x7269, 0x706d, 1, 0, 0, 0, 1);
