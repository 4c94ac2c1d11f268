//! Swarm and managed plugins: not here, said as a daemon says it that is in no swarm.

use hyper::Method;
use lighter_engine::Error;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

/// Every route of swarm, nodes, services, tasks, secrets and configs.
pub(crate) fn route(call: &Call) -> Answer {
    if call.path == ["swarm", "leave"] {
        return Err(Error::unavailable("This node is not part of a swarm").into());
    }
    if call.path.first().is_some_and(|first| first == "volumes") {
        return Err(Error::unavailable(
            "volume update only valid for cluster volumes, but swarm is unavailable",
        )
        .into());
    }
    Err(Error::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
         connect this node to swarm and try again.",
    )
    .into())
}

/// `/plugins`: none is there and none can be added.
pub(crate) fn plugins(call: &Call) -> Answer {
    if call.method == Method::GET && call.path.len() == 1 {
        return ok(&Vec::<()>::new());
    }
    if let ("GET" | "DELETE", [_, name, ..]) = (call.method.as_str(), call.path.as_slice()) {
        return Err(Error::not_found(format!("plugin \"{name}\" not found")).into());
    }
    Err(Error::unsupported("managed plugins are not supported").into())
}
