//! Names: which are allowed, and one for a container whose user gave none.

use crate::error::{Error, Result};
use crate::ids;

/// Checks a name of a container, volume or network as Docker does.
pub fn check(name: &str, what: &str) -> Result<()> {
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().skip(1);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if first && name.len() > 1 && name.len() <= 255 && rest.clone().all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid {what} ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// A random name, `calm_hopper`; `attempt` above 3 adds a digit.
pub fn random(attempt: u32) -> Result<String> {
    let adjective = ADJECTIVES[ids::below(ADJECTIVES.len())?];
    let surname = SURNAMES[ids::below(SURNAMES.len())?];
    let name = format!("{adjective}_{surname}");
    Ok(if attempt > 3 {
        format!("{name}{}", ids::below(10)?)
    } else {
        name
    })
}

const ADJECTIVES: &[&str] = &[
    "able", "agile", "airy", "alert", "amber", "ample", "apt", "azure", "balmy", "bold", "brave",
    "breezy", "bright", "brisk", "buoyant", "calm", "candid", "cheery", "civil", "clear", "clever",
    "cosy", "crisp", "daring", "deft", "eager", "early", "easy", "exact", "fair", "fleet", "fond",
    "frank", "fresh", "gentle", "glad", "golden", "grand", "hale", "handy", "hardy", "honest",
    "humble", "ideal", "jolly", "keen", "kind", "light", "lively", "lucid", "lucky", "lunar",
    "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "open", "patient", "placid",
    "plucky", "polite", "prompt", "proud", "quick", "quiet", "rapid", "ready", "robust", "sage",
    "serene", "sharp", "silent", "simple", "sleek", "smooth", "snug", "solar", "solid", "sound",
    "spry", "stable", "steady", "stoic", "sunny", "sure", "swift", "tidal", "tidy", "tranquil",
    "trim", "true", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "ampere",
    "archimedes",
    "avogadro",
    "babbage",
    "banach",
    "becquerel",
    "bell",
    "bernoulli",
    "bohr",
    "boole",
    "born",
    "boyle",
    "brahe",
    "cantor",
    "carson",
    "cauchy",
    "cavendish",
    "chandra",
    "church",
    "clarke",
    "copernicus",
    "coulomb",
    "crick",
    "curie",
    "dalton",
    "darwin",
    "davy",
    "dijkstra",
    "dirac",
    "edison",
    "einstein",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "godel",
    "goodall",
    "hamilton",
    "heisenberg",
    "hertz",
    "herschel",
    "hilbert",
    "hodgkin",
    "hooke",
    "hopper",
    "hubble",
    "huygens",
    "hypatia",
    "joule",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "lavoisier",
    "leibniz",
    "linnaeus",
    "lovelace",
    "mach",
    "maxwell",
    "mcclintock",
    "meitner",
    "mendel",
    "mendeleev",
    "minkowski",
    "mirzakhani",
    "morse",
    "napier",
    "nash",
    "newton",
    "nightingale",
    "nobel",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "perlman",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "ritchie",
    "rontgen",
    "rubin",
    "rutherford",
    "sagan",
    "shannon",
    "tesla",
    "thompson",
    "turing",
    "volta",
    "watt",
    "wiles",
    "wu",
    "yalow",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_docker_accepts_and_refuses() {
        for good in ["web", "web_1", "a.b-c", "9lives"] {
            check(good, "container name").unwrap();
        }
        for bad in ["", "a", "-a", "a/b", "a b", "ä", &"x".repeat(256)] {
            check(bad, "container name").unwrap_err();
        }
    }

    #[test]
    fn random_names_are_allowed_names() {
        for attempt in 0..6 {
            check(&random(attempt).unwrap(), "container name").unwrap();
        }
    }
}
