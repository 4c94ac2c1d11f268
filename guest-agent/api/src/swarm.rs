//! Swarm and managed plugins: not here, said as a daemon says it that is in no swarm.

use hyper::Method;
use lighter_engine::Error;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

/// Every route of swarm, nodes, services, tasks, secrets and configs.
pub(crate) fn route() -> Answer {
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
    Err(Error::unsupported("managed plugins are not supported").into())
}
