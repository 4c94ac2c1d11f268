//! The cgroup tree: controllers for everyone's use, and a leaf for init and the agent.

use std::fs;

use super::{At, BootError};
use crate::console::say;

const ROOT: &str = "/sys/fs/cgroup";

/// Enables every controller for the children of the root, and moves init (with all that it
/// starts) into a leaf: the agent's memory and time are then its own, beside the containers'.
pub fn set_up() -> Result<(), BootError> {
    let controllers = fs::read_to_string(format!("{ROOT}/cgroup.controllers"))
        .at("reading the cgroup controllers")?;
    for controller in controllers.split_ascii_whitespace() {
        // One by one: a controller that cannot be enabled must not keep the others back.
        let enabled = fs::write(
            format!("{ROOT}/cgroup.subtree_control"),
            format!("+{controller}"),
        );
        if let Err(error) = enabled {
            say(format_args!("cgroup controller {controller}: {error}"));
        }
    }
    let leaf = format!("{ROOT}/lighter");
    fs::create_dir_all(&leaf).at("making init's cgroup")?;
    fs::write(format!("{leaf}/cgroup.procs"), "0").at("entering init's cgroup")?;
    // Containers that use every processor leave the agent its turn: ten times the usual weight.
    if let Err(error) = fs::write(format!("{leaf}/cpu.weight"), "1000") {
        say(format_args!(
            "the agent's share of time stays as it is: {error}"
        ));
    }
    Ok(())
}
