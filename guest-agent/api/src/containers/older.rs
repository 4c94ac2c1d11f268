//! What requests of older clients mean to create: one network, and one hardware address for the container.
//!
//! Called by create. Must never: change what a client of today asked for, but for the hardware address, which moves
//! from the container to its first network for clients of every time.

use lighter_engine::model::CreateRequest;

use crate::error::ApiError;
use crate::version::ApiVersion;

/// Since when a container may be made in several networks, with an address in each.
const PER_NETWORK: u16 = 44;

const DEPRECATED: &str = "The container-wide MacAddress field is now deprecated. It should be specified in \
                          EndpointsConfig instead.";

/// Brings a request to today's form; the warnings that its client is to see.
pub(super) fn adapt(
    request: &mut CreateRequest,
    version: ApiVersion,
) -> Result<Vec<String>, ApiError> {
    let today = version.since(PER_NETWORK);
    let endpoints = &request.networking_config.endpoints_config;
    let names: Vec<&str> = endpoints
        .iter()
        .flatten()
        .map(|(name, _)| &**name)
        .collect();
    if !today && names.len() > 1 {
        return Err(ApiError::bad_request(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    let mac = std::mem::take(&mut request.config.mac_address);
    if mac.is_empty() {
        if !today {
            // Older clients had nothing to say of a network's.
            let endpoints = request.networking_config.endpoints_config.iter_mut();
            for endpoint in endpoints.flat_map(|all| all.values_mut()) {
                endpoint.mac_address.clear();
            }
        }
        return Ok(Vec::new());
    }
    let mode = match request.host_config.network_mode.as_str() {
        "" => "default".to_owned(),
        mode => mode.to_owned(),
    };
    let has_address = !matches!(mode.as_str(), "host" | "none") && !mode.starts_with("container:");
    if !today && !has_address {
        let text = "conflicting options: mac-address and the network mode";
        return Err(ApiError::bad_request(text));
    }
    if has_address {
        give(request, mode, mac, today)?;
    }
    let warning = today.then(|| DEPRECATED.to_owned());
    Ok(warning.into_iter().collect())
}

/// Gives the address to the network that the container is made in.
fn give(
    request: &mut CreateRequest,
    mode: String,
    mac: String,
    today: bool,
) -> Result<(), ApiError> {
    let config = &mut request.networking_config.endpoints_config;
    let endpoints = config.get_or_insert_default();
    if endpoints.is_empty() {
        endpoints.entry(mode).or_default().mac_address = mac;
        return Ok(());
    }
    if !today {
        // There is one, whatever it is called.
        for endpoint in endpoints.values_mut() {
            endpoint.mac_address.clone_from(&mac);
        }
        return Ok(());
    }
    let own = match endpoints.get_mut(&mode) {
        Some(endpoint) => Some(endpoint),
        None if mode == "default" => endpoints.get_mut("bridge"),
        None => None,
    };
    let Some(endpoint) = own else {
        return Err(ApiError::bad_request(
            "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match \
             the identity of a network in NetworkSettings.Networks",
        ));
    };
    if !endpoint.mac_address.is_empty() && endpoint.mac_address != mac {
        return Err(ApiError::bad_request(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be \
             left empty",
        ));
    }
    endpoint.mac_address = mac;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "02:42:ac:11:00:99";

    /// What becomes of the addresses of networks, and the warnings; or why it is refused.
    fn adapted(minor: u16, mode: &str, endpoints: &str) -> Result<(String, usize), String> {
        let text = format!(
            r#"{{"Image":"i","MacAddress":"{MAC}","HostConfig":{{"NetworkMode":"{mode}"}},
               "NetworkingConfig":{{"EndpointsConfig":{{{endpoints}}}}}}}"#
        );
        let mut request: CreateRequest = serde_json::from_str(&text).unwrap();
        let warnings =
            adapt(&mut request, ApiVersion::new(1, minor)).map_err(|error| format!("{error:?}"))?;
        assert_eq!(request.config.mac_address, "");
        let endpoints = request.networking_config.endpoints_config.iter().flatten();
        let shown: Vec<String> = endpoints
            .map(|(name, endpoint)| format!("{name}={}", endpoint.mac_address))
            .collect();
        Ok((shown.join(" "), warnings.len()))
    }

    #[test]
    fn the_address_goes_to_the_network_of_the_container() {
        let only = |name: &str| format!("{name}={MAC}");
        assert_eq!(adapted(41, "", "").unwrap(), (only("default"), 0));
        assert_eq!(adapted(43, "n1", r#""n2":{}"#).unwrap(), (only("n2"), 0));
        let other = r#""n1":{"MacAddress":"02:00:00:00:00:01"}"#;
        assert_eq!(adapted(43, "n1", other).unwrap(), (only("n1"), 0));
        assert_eq!(adapted(51, "n1", "").unwrap(), (only("n1"), 1));
        let (shown, _) = adapted(51, "n1", r#""n1":{},"n2":{}"#).unwrap();
        assert_eq!(shown, format!("n1={MAC} n2="));
        assert_eq!(adapted(51, "host", "").unwrap(), (String::new(), 1));
    }

    #[test]
    fn an_older_client_says_no_address_of_a_network() {
        for (minor, address) in [(43, ""), (44, MAC)] {
            let text = format!(
                r#"{{"Image":"i","NetworkingConfig":{{"EndpointsConfig":{{"n1":{{"MacAddress":"{MAC}"}}}}}}}}"#
            );
            let mut request: CreateRequest = serde_json::from_str(&text).unwrap();
            assert!(adapt(&mut request, ApiVersion::new(1, minor)).is_ok());
            let endpoints = request.networking_config.endpoints_config.unwrap();
            assert_eq!(endpoints["n1"].mac_address, address);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |minor, mode, endpoints, text: &str| {
            let said = adapted(minor, mode, endpoints).unwrap_err();
            assert!(said.contains(text), "{said}");
        };
        refused(43, "n1", r#""n1":{},"n2":{}"#, "endpoints: n1, n2");
        for mode in ["host", "none", "container:other"] {
            refused(43, mode, "", "conflicting options: mac-address");
        }
        refused(44, "n1", r#""n2":{}"#, "unable to migrate");
        let other = r#""n1":{"MacAddress":"02:00:00:00:00:01"}"#;
        refused(44, "n1", other, "must match the endpoint-specific");
    }
}
