//! End to end: the docker CLI on the host, through our virtual machine, to a container's output.

mod basics;
mod interactive;
mod lifecycle;
mod pulling;
