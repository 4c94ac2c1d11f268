//! The guest, played by smoltcp's own stack on a link that can lose frames, be full, and be looked at.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lighter_protocol::link;
use mio::{Events, Poll};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint};

use super::super::plan::Plan;
use super::super::tcp::SHIFT;
use super::super::{Limits, Nat, Offload, Outgoing, Wire};

/// What the link does to frames for the guest.
#[derive(Default)]
pub struct Link {
    /// On their way to the guest.
    pub to_guest: VecDeque<Vec<u8>>,
    /// On their way from it.
    pub from_guest: VecDeque<Vec<u8>>,
    /// How many may be on their way at a time; none is no limit.
    pub room: Option<usize>,
    /// One of so many frames is lost, either way.
    pub lose: Option<usize>,
    /// Frames to the guest are lost.
    pub deaf: bool,
    /// Bytes of frames that were sent to the guest.
    pub sent: usize,
    /// The widest window that they told, in bytes as the router shifts them.
    pub widest: usize,
    random: u64,
}

impl Link {
    fn loses(&mut self) -> bool {
        // Knuth's generator: losses in a rhythm could hit the same frame for ever.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let draw = (self.random >> 33) as usize;
        self.lose.is_some_and(|of| draw.is_multiple_of(of))
    }
}

impl Wire for Link {
    fn send(&mut self, frame: &Outgoing<'_>) -> bool {
        if self.room.is_some_and(|room| self.to_guest.len() >= room) {
            return false;
        }
        let whole = [frame.head, frame.content[0], frame.content[1]].concat();
        assert_eq!(whole.len(), frame.length());
        self.sent += whole.len();
        self.widest = self.widest.max(window(&whole));
        for frame in complete(whole, frame.offload) {
            if !self.loses() && !self.deaf {
                self.to_guest.push_back(frame);
            }
        }
        true
    }
}

/// What a connection of IPv4 that is open tells by this frame.
fn window(frame: &[u8]) -> usize {
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    let is_open = frame.len() >= 54 && frame[23] == TCP && frame[47] & SYN == 0;
    match is_open {
        true => usize::from(u16::from_be_bytes([frame[48], frame[49]])) << SHIFT,
        false => 0,
    }
}

/// Does what the guest's device is asked to do: cuts a frame and completes its checksums.
fn complete(frame: Vec<u8>, offload: Offload) -> Vec<Vec<u8>> {
    match offload {
        Offload::None => vec![frame],
        Offload::Checksum { start, offset } => vec![summed(frame, start.into(), offset.into())],
        Offload::Segments {
            start,
            offset,
            size,
            v6,
        } => {
            let start = usize::from(start);
            let head = start + usize::from(frame[start + 12] >> 4) * 4;
            let sequence = u32::from_be_bytes(frame[start + 4..start + 8].try_into().unwrap());
            let total = frame.len() - start;
            let pieces = frame[head..].chunks(size.into()).enumerate();
            let cut = pieces.map(|(at, content)| {
                let mut one = [&frame[..head], content].concat();
                let length = one.len() - 14;
                if v6 {
                    one[18..20].copy_from_slice(&((length - 40) as u16).to_be_bytes());
                } else {
                    one[16..18].copy_from_slice(&(length as u16).to_be_bytes());
                    one[24..26].copy_from_slice(&[0, 0]);
                    let sum = !ones(&one[14..34]);
                    one[24..26].copy_from_slice(&sum.to_be_bytes());
                }
                let number = sequence.wrapping_add((at * usize::from(size)) as u32);
                one[start + 4..start + 8].copy_from_slice(&number.to_be_bytes());
                // The pseudo header has the length of the whole in it.
                let at = start + usize::from(offset);
                let pseudo = u16::from_be_bytes([one[at], one[at + 1]]);
                let less = (total - (one.len() - start)) as u16;
                let pseudo = ones(&[pseudo.to_be_bytes(), (!less).to_be_bytes()].concat());
                one[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
                summed(one, start, offset.into())
            });
            cut.collect()
        }
    }
}

fn summed(mut frame: Vec<u8>, start: usize, offset: usize) -> Vec<u8> {
    let sum = !ones(&frame[start..]);
    frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn ones(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub struct Slot<'a>(&'a mut Link);

impl TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        if !self.0.loses() {
            self.0.from_guest.push_back(frame);
        }
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Frame, Slot<'_>)> {
        let frame = self.to_guest.pop_front()?;
        Some((Frame(frame), Slot(self)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Slot<'_>> {
        Some(Slot(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1_514;
        // Everything is computed and compared: what the router leaves to the device is completed above.
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

/// The guest, the link and the router, on a clock that the test moves.
pub struct World {
    pub nat: Nat,
    pub link: Link,
    pub sockets: SocketSet<'static>,
    /// What passes of the clock at each step of [`World::until`].
    pub tick: Duration,
    interface: Interface,
    poll: Poll,
    began: Instant,
    now: Instant,
    port: u16,
}

impl World {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    /// One whose router has so much under way and no more.
    pub fn with(limits: Limits) -> Self {
        let poll = Poll::new().unwrap();
        let nat = Nat::new(Plan::default(), limits, &poll).unwrap();
        let mut link = Link::default();
        let hardware = HardwareAddress::Ethernet(EthernetAddress(link::GUEST_MAC));
        let mut config = Config::new(hardware);
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut link, SmolInstant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for (address, prefix) in [
                (IpAddr::from(link::GUEST_V4), link::PREFIX_V4),
                (IpAddr::from(link::GUEST_V6), link::PREFIX_V6),
            ] {
                addresses.push(IpCidr::new(address.into(), prefix)).unwrap();
            }
        });
        let routes = interface.routes_mut();
        routes.add_default_ipv4_route(link::GATEWAY_V4).unwrap();
        routes.add_default_ipv6_route(link::GATEWAY_V6).unwrap();
        let began = Instant::now();
        Self {
            nat,
            link,
            sockets: SocketSet::new(Vec::new()),
            tick: Duration::from_millis(1),
            interface,
            poll,
            began,
            now: began,
            port: 40_000,
        }
    }

    /// Moves the clock, and lets everybody do what there is to do.
    pub fn step(&mut self, time: Duration) {
        self.speak(time);
        self.hear();
        self.router(true);
    }

    /// Tells the router what the host's sockets have.
    pub fn hear(&mut self) {
        let mut events = Events::with_capacity(256);
        // What the kernel does to loopback sockets takes real moments.
        let moment = Some(Duration::from_micros(200));
        self.poll.poll(&mut events, moment).unwrap();
        for event in &events {
            self.nat.stirred(event, &mut self.link, self.now);
        }
    }

    /// Lets the router do what is due; how long there is nothing then.
    pub fn flush(&mut self) -> Option<Duration> {
        self.nat.flush(true, &mut self.link, self.now)
    }

    /// The same after a time in which the guest did nothing.
    pub fn flush_after(&mut self, time: Duration) -> Option<Duration> {
        self.now += time;
        self.flush()
    }

    /// Moves the clock, and lets the guest speak; of the host nothing is heard meanwhile.
    pub fn speak(&mut self, time: Duration) {
        self.now += time;
        let at = SmolInstant::from_micros((self.now - self.began).as_micros() as i64);
        self.interface.poll(at, &mut self.link, &mut self.sockets);
        self.router(true);
    }

    fn router(&mut self, refilled: bool) {
        while let Some(frame) = self.link.from_guest.pop_front() {
            self.nat.receive(&frame, &mut self.link, self.now);
        }
        self.nat.flush(refilled, &mut self.link, self.now);
    }

    /// A frame as if the guest had sent it; what came back for it at once.
    pub fn frame(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let before = self.link.to_guest.len();
        self.nat.receive(frame, &mut self.link, self.now);
        self.nat.flush(false, &mut self.link, self.now);
        self.link.to_guest.drain(before..).collect()
    }

    /// The same, where what comes back is the guest's.
    pub fn nat_takes(&mut self, frame: &[u8]) {
        self.nat.receive(frame, &mut self.link, self.now);
        self.nat.flush(false, &mut self.link, self.now);
    }

    /// The host's connections fail as if the system had said so.
    pub fn breaks_off(&mut self, kind: std::io::ErrorKind) {
        let mut around = self.nat.base.around(&mut self.link, self.now);
        self.nat.tcp.break_off(&kind.into(), &mut around);
    }

    /// Steps until something is so; a test that waits for what never comes fails.
    pub fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..100_000 {
            if so(self) {
                return;
            }
            self.step(self.tick);
        }
        panic!("never: {what}");
    }

    /// Begins a connection of the guest, with buffers of `buffer` bytes.
    pub fn connect(&mut self, to: (IpAddr, u16), buffer: usize) -> SocketHandle {
        let room = || tcp::SocketBuffer::new(vec![0; buffer]);
        let handle = self.sockets.add(tcp::Socket::new(room(), room()));
        self.port += 1;
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        let to = IpEndpoint::new(to.0.into(), to.1);
        socket
            .connect(self.interface.context(), to, self.port)
            .unwrap();
        handle
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}
