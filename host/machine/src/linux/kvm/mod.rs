//! Our own monitor on the Linux kernel's virtualisation: it runs in the machine process itself.
//!
//! The devices are those of `lighter-vmm`, in this process, but for shares and the network card, which processes of
//! their own serve. x86-64 alone; elsewhere the backend says that it is not there.

mod vm;

pub use vm::Kvm;
