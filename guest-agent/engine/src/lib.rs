//! Containers, execs, images, volumes, networks, events and the metadata database.
