//! Heart-beat arithmetic (STOMP 1.1 and 1.2 "Heart-beating"). Milliseconds throughout.

use super::Error;

/// Longer intervals are cut to this: one day.
pub const INTERVAL_MAX: u32 = 86_400_000;

/// The agreed intervals in milliseconds. 0: no heart-beats in that direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Agreed {
    /// The server sends something at least this often.
    pub send: u32,
    /// The client sends something at least this often.
    pub receive: u32,
}

/// Parses a `heart-beat` header: the interval its sender can keep, and the one it wants.
pub fn parse(value: &[u8]) -> Result<(u32, u32), Error> {
    let comma = value.iter().position(|&byte| byte == b',').ok_or(Error::BadHeartBeat)?;
    Ok((interval(&value[..comma])?, interval(&value[comma + 1..])?))
}

fn interval(digits: &[u8]) -> Result<u32, Error> {
    if digits.is_empty() {
        return Err(Error::BadHeartBeat);
    }
    let mut interval = 0u32;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err(Error::BadHeartBeat);
        }
        // The bound is applied at every digit, so the product fits u32.
        interval = (interval * 10 + u32::from(byte - b'0')).min(INTERVAL_MAX);
    }
    Ok(interval)
}

const _: () = assert!(INTERVAL_MAX as u64 * 10 + 9 <= u32::MAX as u64);

/// Combines a client's pair with the server's: a direction has heart-beats if its sender can send
/// them and its receiver wants them, at the slower of the two intervals.
pub fn negotiate(client: (u32, u32), server: (u32, u32)) -> Agreed {
    let slower = |can: u32, wants: u32| if can == 0 || wants == 0 { 0 } else { can.max(wants) };
    Agreed { send: slower(server.0, client.1), receive: slower(client.0, server.1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_strictly() {
        assert_eq!(parse(b"10000,10000"), Ok((10_000, 10_000)));
        assert_eq!(parse(b"0,0"), Ok((0, 0)));
        assert_eq!(parse(b"007,99999999999999999999"), Ok((7, INTERVAL_MAX)));
        for bad in ["", ",", "1", "1,", ",1", "-1,1", "1,2,3", "1, 2", "a,b", "+1,1", "1.5,1"] {
            assert_eq!(parse(bad.as_bytes()), Err(Error::BadHeartBeat), "{bad}");
        }
    }

    #[test]
    fn each_direction_takes_the_slower_interval() {
        let agreed = |client, server| {
            let Agreed { send, receive } = negotiate(client, server);
            (send, receive)
        };
        assert_eq!(agreed((0, 0), (10_000, 10_000)), (0, 0));
        assert_eq!(agreed((5_000, 7_000), (10_000, 6_000)), (10_000, 6_000));
        assert_eq!(agreed((5_000, 0), (10_000, 6_000)), (0, 6_000));
        assert_eq!(agreed((0, 20_000), (10_000, 6_000)), (20_000, 0));
        assert_eq!(agreed((5_000, 7_000), (0, 0)), (0, 0));
    }
}
