//! More bridges for a network that has more ports than the kernel allows one to have. Each is joined to the first
//! by a pair of interfaces, and has no address: only the first one routes.

use std::collections::{BTreeSet, HashMap};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::links::{self, EXTENSIONS};
use crate::netlink::{How, Netlink};
use crate::wires::{Network, Segment, Wires};
use crate::{NetworkError, bridge, place, rules};

/// How many ports a bridge is given. The kernel's limit is 1,023; what is left of it on the first bridge is for
/// extensions.
pub(crate) const PORTS: usize = 1_000;

/// Before eight digits, in an extension's name.
const NAME: &str = "lx";
/// Before the name of the network's first bridge, in an extension's alias.
const OF: &str = "extends ";

/// The extensions among these, by their networks; those of none under an empty name.
pub(crate) fn found(all: &[LinkMessage]) -> HashMap<String, Vec<Segment>> {
    let mut found = HashMap::<_, Vec<_>>::new();
    for link in all {
        let ours = links::group(link) == Some(EXTENSIONS) && links::is(link, &InfoKind::Bridge);
        if let Some(name) = links::name(link)
            && ours
        {
            let of = links::alias(link).and_then(|alias| alias.strip_prefix(OF));
            found
                .entry(of.unwrap_or_default().to_owned())
                .or_default()
                .push(Segment {
                    name: name.to_owned(),
                    index: link.header.index,
                    ports: 0,
                });
        }
    }
    found
}

/// Whether a port is an end of a pair between two bridges of a network.
pub(crate) fn is_join(port: &LinkMessage) -> bool {
    links::group(port) == Some(EXTENSIONS)
}

impl Wires {
    /// A segment of the network that has room for one more port, by its place.
    pub fn room(&mut self, name: &str) -> Result<usize, NetworkError> {
        let unknown = || NetworkError::NoInterface(name.to_owned());
        let network = self.networks.get(name).ok_or_else(unknown)?;
        let room = network
            .segments
            .iter()
            .position(|segment| segment.ports < PORTS);
        match room {
            Some(place) => Ok(place),
            None => self.extend(name),
        }
    }

    fn extend(&mut self, name: &str) -> Result<usize, NetworkError> {
        let mtu = links::mtu(&links::find(&mut self.netlink, name)?);
        let mut number = [0; 4];
        rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())
            .map_err(NetworkError::of("a name for a bridge"))?;
        let extension = format!("{NAME}{:08x}", u32::from_ne_bytes(number));
        self.rules
            .set(&mut self.netlink, &extension, &rules::of_extension())
            .map_err(NetworkError::saying(|| format!("rules of {extension}")))?;
        let made = bridge::make(&mut self.netlink, &extension, EXTENSIONS)?;
        self.change(
            links::named(&extension).alias(format!("{OF}{name}")),
            &extension,
        )?;
        let Some(mut network) = self.networks.remove(name) else {
            return Err(NetworkError::NoInterface(name.to_owned()));
        };
        network.segments.push(Segment {
            name: extension,
            index: made.index,
            ports: 1,
        });
        let place = network.segments.len() - 1;
        let joined = self.join(&network, place, mtu);
        if joined.is_err() {
            // Its alias says whose it is: set_bridge joins it, remove_bridge removes it.
            let extension = network.segments.pop();
            self.found
                .entry(name.to_owned())
                .or_default()
                .extend(extension);
        }
        self.networks.insert(name.to_owned(), network);
        joined.map(|()| place)
    }

    /// Sees to it that an extension works as a part of its network.
    pub fn join(
        &mut self,
        network: &Network,
        place: usize,
        mtu: Option<u32>,
    ) -> Result<(), NetworkError> {
        let (first, extension) = (&network.segments[0], &network.segments[place]);
        self.rules
            .set(&mut self.netlink, &extension.name, &rules::of_extension())
            .map_err(NetworkError::saying(|| {
                format!("rules of {}", extension.name)
            }))?;
        // It has no addresses, so that nothing is for it.
        let v6 = format!("net/ipv6/conf/{}/disable_ipv6", extension.name);
        place::set(&v6, "1")?;
        let (near, far) = joins(&extension.name);
        let pair = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name(&near)
            .link_group(EXTENSIONS)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(
                links::named(&far).link_group(EXTENSIONS).build(),
            )));
        self.netlink
            .ensure(RouteNetlinkMessage::NewLink(pair.build()))
            .map_err(NetworkError::saying(|| {
                format!("joining {}", extension.name)
            }))?;
        self.change(links::named(&near).controller(first.index), &near)?;
        self.change(links::named(&far).controller(extension.index), &far)?;
        let isolated = bridge::isolate(&near, !network.icc);
        bridge::bring_up(&mut self.netlink, isolated, &near, mtu)?;
        bridge::bring_up(&mut self.netlink, links::named(&far), &far, mtu)?;
        let name = &extension.name;
        bridge::bring_up(&mut self.netlink, links::named(name), name, mtu)
    }

    /// Removes extensions that were begun and not told whose they are.
    pub fn remove_lost(&mut self) {
        let mut lost: BTreeSet<_> = self
            .rules
            .bridges()
            .filter(|name| is_name(name))
            .map(ToOwned::to_owned)
            .collect();
        let nameless = self.found.remove("").unwrap_or_default();
        for extension in self.found.values().flatten() {
            lost.remove(&extension.name);
        }
        lost.extend(nameless.into_iter().map(|extension| extension.name));
        for name in lost {
            if let Err(error) = self.remove_segment(&name) {
                tracing::warn!(%error, bridge = name, "what was begun of a network stays");
            }
        }
    }

    /// Removes the pair by which an extension is joined.
    pub fn remove_joins(&mut self, extension: &str) -> Result<(), NetworkError> {
        let (near, _) = joins(extension);
        Netlink::open()?
            .delete(links::named(&near).build())
            .map(drop)
    }

    fn change(
        &mut self,
        message: LinkMessageBuilder<LinkUnspec>,
        name: &str,
    ) -> Result<(), NetworkError> {
        self.netlink
            .add(RouteNetlinkMessage::NewLink(message.build()), How::Change)
            .map_err(NetworkError::saying(|| format!("changing {name}")))
    }
}

/// Whether this is the name of an extension, which no network may have.
pub fn is_name(name: &str) -> bool {
    let number = name.strip_prefix(NAME);
    number.is_some_and(|number| {
        number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The ends of the pair: on the first bridge, and on the extension.
fn joins(extension: &str) -> (String, String) {
    let number = extension.trim_start_matches(NAME);
    (format!("lj{number}a"), format!("lj{number}b"))
}
