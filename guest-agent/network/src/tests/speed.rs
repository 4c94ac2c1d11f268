//! How long it takes: by hand, `cargo test --release -p lighter-network -- --ignored --nocapture speed`.

use std::time::{Duration, Instant};

use super::*;

const ROUNDS: usize = 200;

#[test]
#[ignore = "measures, and fails for nothing"]
fn plugging_and_unplugging() {
    let Some(lab) = lab() else { return };
    for (icc, addresses) in [
        (true, &["172.30.1.2/16"][..]),
        (true, &["172.30.1.2/16", "fd00:1::2/64"]),
        (false, &["172.30.1.2/16"]),
    ] {
        let bridge = Bridge {
            icc,
            ..network("br-a", &["172.30.0.1/16", "fd00:1::1/64"])
        };
        lab.set(&bridge);
        let mut taken = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            let place = Place::new();
            let plug = plug("br-a", &format!("v{round}"), addresses);
            let way = WayOut {
                gateways: vec![(ip("172.30.0.1"), "eth0".into())],
                direct: Vec::new(),
            };
            let times = [
                Instant::now(),
                {
                    lab.plug(&place, &plug);
                    Instant::now()
                },
                {
                    lab.wait(lab.wiring.set_way_out(place.descriptor(), &way))
                        .unwrap();
                    Instant::now()
                },
                {
                    lab.wait(lab.wiring.unplug(None, &plug)).unwrap();
                    Instant::now()
                },
            ];
            for (part, pair) in times.windows(2).enumerate() {
                taken[part].push(pair[1] - pair[0]);
            }
            taken[3].push(times[3] - times[0]);
        }
        println!("icc {icc}, {} addresses:", addresses.len());
        for (what, taken) in ["plug", "way out", "unplug", "all"].iter().zip(&mut taken) {
            println!("  {what}: {}", quantiles(taken));
        }
    }
}

#[test]
#[ignore = "measures, and fails for nothing"]
fn unplugging_from_a_live_container() {
    let Some(lab) = lab() else { return };
    lab.set(&network("br-a", &["172.30.0.1/16"]));
    let place = Place::new();
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        let plug = plug("br-a", "v", &["172.30.1.2/16"]);
        lab.plug(&place, &plug);
        let begun = Instant::now();
        lab.wait(lab.wiring.unplug(Some(place.descriptor()), &plug))
            .unwrap();
        taken.push(begun.elapsed());
    }
    println!("unplug, live: {}", quantiles(&mut taken));
}

fn quantiles(taken: &mut [Duration]) -> String {
    taken.sort();
    let at = |share: usize| taken[(taken.len() - 1) * share / 100].as_micros();
    format!(
        "{} µs (10 %), {} µs (50 %), {} µs (90 %)",
        at(10),
        at(50),
        at(90)
    )
}
