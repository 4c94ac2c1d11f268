//! Registry client, layer store, load and save of images.
