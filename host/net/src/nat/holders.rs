//! Who has how many of what there is a limited number of, by the guest's addresses: a container is one or two of them.
//!
//! Called by the tables of connections and of sockets for datagrams and echo. Where a table is full, whoever has most
//! gives one up for whoever has clearly less; nobody can keep the others out by taking everything first.
//! Must never: cost more for many than for few, but by the depth of a tree.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use super::timers::Token;

/// How many are looked at to find one that is not used: the others in question are as good.
const LOOKS: usize = 64;

/// What everybody holds.
#[derive(Debug, Default)]
pub struct Holders {
    /// Whose each is, and its place among that one's.
    places: HashMap<Token, (IpAddr, Instant)>,
    /// By when each was known to be used, which may be earlier than it was.
    of: HashMap<IpAddr, BTreeSet<(Instant, Token)>>,
    by_count: BTreeSet<(usize, IpAddr)>,
}

impl Holders {
    /// How many are held.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// How many this one holds.
    pub fn count(&self, source: IpAddr) -> usize {
        self.of.get(&source).map_or(0, BTreeSet::len)
    }

    /// One more; a token is added once.
    pub fn add(&mut self, source: IpAddr, token: Token, now: Instant) {
        self.places.insert(token, (source, now));
        self.change(source, |all| {
            all.insert((now, token));
        });
    }

    /// One less; nothing where it is not held any more.
    pub fn remove(&mut self, token: Token) {
        if let Some((source, at)) = self.places.remove(&token) {
            self.change(source, |all| {
                all.remove(&(at, token));
            });
        }
    }

    /// Who is to give one up so that `source` gets one more: whoever has most, if that is more than `source` has then.
    pub fn richest_beside(&self, source: IpAddr) -> Option<IpAddr> {
        let (count, richest) = *self.by_count.last()?;
        (self.count(source) + 1 < count).then_some(richest)
    }

    /// The same where one's own may go as well: nobody is refused.
    pub fn yields_to(&self, source: IpAddr) -> Option<IpAddr> {
        self.richest_beside(source)
            .or_else(|| self.of.contains_key(&source).then_some(source))
            .or_else(|| self.by_count.last().map(|(_, richest)| *richest))
    }

    /// That of `source` which was not used for longest, or nearly; `used` says when each was.
    pub fn idlest(
        &mut self,
        source: IpAddr,
        used: impl Fn(Token) -> Option<Instant>,
    ) -> Option<Token> {
        let all = self.of.get_mut(&source)?;
        for _ in 0..LOOKS {
            let (at, token) = *all.first()?;
            match used(token) {
                // It was used since it was given this place.
                Some(later) if later > at => {
                    all.pop_first();
                    all.insert((later, token));
                    self.places.insert(token, (source, later));
                }
                _ => return Some(token),
            }
        }
        all.first().map(|(_, token)| *token)
    }

    fn change(&mut self, source: IpAddr, work: impl FnOnce(&mut BTreeSet<(Instant, Token)>)) {
        let all = self.of.entry(source).or_default();
        let before = all.len();
        work(all);
        let after = all.len();
        self.by_count.remove(&(before, source));
        if after == 0 {
            self.of.remove(&source);
        } else {
            self.by_count.insert((after, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn whoever_has_most_gives_one_up_for_whoever_has_less() {
        let (mut holders, now) = (Holders::default(), Instant::now());
        assert_eq!(holders.yields_to(address(1)), None);
        for token in 0..4 {
            holders.add(address(1), token, now);
        }
        assert_eq!(holders.richest_beside(address(2)), Some(address(1)));
        assert_eq!(holders.richest_beside(address(1)), None);
        assert_eq!(holders.yields_to(address(1)), Some(address(1)));
        for token in 4..7 {
            holders.add(address(2), token, now);
        }
        // One more and it had as many as the other before.
        assert_eq!(holders.richest_beside(address(2)), None);
        assert_eq!(holders.yields_to(address(2)), Some(address(2)));
        for token in 0..7 {
            assert_eq!(holders.len(), 7 - token);
            holders.remove(token);
            holders.remove(token);
        }
        assert!(holders.of.is_empty() && holders.by_count.is_empty());
    }

    #[test]
    fn nobody_with_nothing_is_refused() {
        let (mut holders, now) = (Holders::default(), Instant::now());
        for last in 1..4 {
            holders.add(address(last), last.into(), now);
        }
        assert_eq!(holders.richest_beside(address(9)), None);
        assert_eq!(holders.yields_to(address(9)), Some(address(3)));
    }

    #[test]
    fn what_was_used_goes_last() {
        let (mut holders, now) = (Holders::default(), Instant::now());
        let second = Duration::from_secs(1);
        for token in 0..10 {
            holders.add(address(1), token, now + second * token as u32);
        }
        let used = |token| (token != 7).then(|| now + second * 100);
        assert_eq!(holders.idlest(address(1), used), Some(7));
        holders.remove(7);
        // All were; the first of those goes.
        let used = |token| Some(now + second * (200 - token as u32));
        assert_eq!(holders.idlest(address(1), used), Some(9));
        assert_eq!(holders.count(address(1)), 9);
    }
}
